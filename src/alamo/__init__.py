"""alamo: run batches of Python functions, ordered by what each task reads and writes.

    from alamo import Batch

    with Batch() as batch:
        tasks = [batch.function(work, i, reads=batch.read(d, i), writes=batch.write(d, i + 1))
                 for i in range(1000)]
        batch.compile(tasks).run()
"""

from alamo.batch.batch import (
    AsyncDict,
    AsyncValue,
    Batch,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    Task,
    default_timeout,
)
from alamo.errors import (
    AlamoError,
    AuthenticationFailed,
    BatchBroken,
    GraphError,
    RemoteError,
    SerializationError,
    SubmitAfterClose,
    TaskExit,
    UpstreamFailed,
    UsageError,
    WaitTimeout,
    WorkerLost,
)

__version__ = "0.1.0"

__all__ = [
    "AlamoError",
    "AsyncDict",
    "AsyncValue",
    "AuthenticationFailed",
    "Batch",
    "BatchBroken",
    "CommunicationDomain",
    "CommunicationObject",
    "DataAccess",
    "GraphError",
    "RemoteError",
    "SerializationError",
    "SubmitAfterClose",
    "Task",
    "TaskExit",
    "UpstreamFailed",
    "UsageError",
    "WaitTimeout",
    "WorkerLost",
    "__version__",
    "default_timeout",
]
