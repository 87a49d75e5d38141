"""alamo: run batches of Python functions, ordered by what each task reads and writes.

    from alamo import Batch

    with Batch() as batch:
        tasks = [batch.function(work, i, reads=batch.read(d, i), writes=batch.write(d, i + 1))
                 for i in range(1000)]
        batch.compile(tasks).run()

Names are imported when they are first used: workers import this package too, and need
nothing of the client in it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alamo.batch.array_view import Outcome as Outcome
    from alamo.batch.attempts import Attempt as Attempt
    from alamo.batch.batch import AsyncDict as AsyncDict
    from alamo.batch.batch import AsyncValue as AsyncValue
    from alamo.batch.batch import Batch as Batch
    from alamo.batch.batch import CommunicationDomain as CommunicationDomain
    from alamo.batch.batch import CommunicationObject as CommunicationObject
    from alamo.batch.batch import DataAccess as DataAccess
    from alamo.batch.batch import Task as Task
    from alamo.batch.batch import default_timeout as default_timeout
    from alamo.batch.explaining import explain as explain
    from alamo.batch.many import ALL_COMPLETED as ALL_COMPLETED
    from alamo.batch.many import FIRST_COMPLETED as FIRST_COMPLETED
    from alamo.batch.many import FIRST_EXCEPTION as FIRST_EXCEPTION
    from alamo.batch.many import as_completed as as_completed
    from alamo.batch.many import wait as wait
    from alamo.batch.retry import Retry as Retry
    from alamo.batch.task_stats import TaskStats as TaskStats
    from alamo.core.keys import register_key_encoder as register_key_encoder
    from alamo.data.ddict import DDict as DDict
    from alamo.data.queue import Queue as Queue
    from alamo.errors import AlamoError as AlamoError
    from alamo.errors import AuthenticationFailed as AuthenticationFailed
    from alamo.errors import BatchBroken as BatchBroken
    from alamo.errors import CrossShardError as CrossShardError
    from alamo.errors import DataStoreError as DataStoreError
    from alamo.errors import DDictConflictError as DDictConflictError
    from alamo.errors import DDictError as DDictError
    from alamo.errors import DDictFrozenError as DDictFrozenError
    from alamo.errors import DDictFullError as DDictFullError
    from alamo.errors import DDictTimeoutError as DDictTimeoutError
    from alamo.errors import GraphError as GraphError
    from alamo.errors import JobFailed as JobFailed
    from alamo.errors import MemoryLimitExceeded as MemoryLimitExceeded
    from alamo.errors import PolicyError as PolicyError
    from alamo.errors import ProcessFailed as ProcessFailed
    from alamo.errors import QueueError as QueueError
    from alamo.errors import QueueFullError as QueueFullError
    from alamo.errors import RemoteError as RemoteError
    from alamo.errors import SerializationError as SerializationError
    from alamo.errors import SubmitAfterClose as SubmitAfterClose
    from alamo.errors import TaskCancelled as TaskCancelled
    from alamo.errors import TaskExit as TaskExit
    from alamo.errors import TaskStopped as TaskStopped
    from alamo.errors import TaskTimeout as TaskTimeout
    from alamo.errors import UpstreamFailed as UpstreamFailed
    from alamo.errors import UsageError as UsageError
    from alamo.errors import WaitTimeout as WaitTimeout
    from alamo.errors import WorkerLost as WorkerLost
    from alamo.executor import AlamoExecutor as AlamoExecutor
    from alamo.executor import ExecutorBroken as ExecutorBroken
    from alamo.policy import Policy as Policy

__version__ = "0.1.0"

_BATCH = (
    "AsyncDict",
    "AsyncValue",
    "Batch",
    "CommunicationDomain",
    "CommunicationObject",
    "DataAccess",
    "Task",
    "default_timeout",
)
_ARRAYS = ("Outcome",)
_STATS = ("TaskStats",)
_MANY = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "as_completed", "wait")
_EXECUTOR = ("AlamoExecutor", "ExecutorBroken")
_OPTIONS = ("Retry",)
_ATTEMPTS = ("Attempt",)
_EXPLAINING = ("explain",)
_POLICY = ("Policy",)
_DDICT = ("DDict",)
_QUEUE = ("Queue",)
_KEYS = ("register_key_encoder",)
_ERRORS = (
    "AlamoError",
    "AuthenticationFailed",
    "BatchBroken",
    "CrossShardError",
    "DDictConflictError",
    "DDictError",
    "DDictFrozenError",
    "DDictFullError",
    "DDictTimeoutError",
    "DataStoreError",
    "GraphError",
    "JobFailed",
    "ProcessFailed",
    "MemoryLimitExceeded",
    "PolicyError",
    "QueueError",
    "QueueFullError",
    "RemoteError",
    "SerializationError",
    "SubmitAfterClose",
    "TaskCancelled",
    "TaskExit",
    "TaskStopped",
    "TaskTimeout",
    "UpstreamFailed",
    "UsageError",
    "WaitTimeout",
    "WorkerLost",
)
_HOME = (
    dict.fromkeys(_BATCH, "alamo.batch.batch")
    | dict.fromkeys(_ARRAYS, "alamo.batch.array_view")
    | dict.fromkeys(_STATS, "alamo.batch.task_stats")
    | dict.fromkeys(_MANY, "alamo.batch.many")
    | dict.fromkeys(_EXECUTOR, "alamo.executor")
    | dict.fromkeys(_OPTIONS, "alamo.batch.retry")
    | dict.fromkeys(_ATTEMPTS, "alamo.batch.attempts")
    | dict.fromkeys(_EXPLAINING, "alamo.batch.explaining")
    | dict.fromkeys(_POLICY, "alamo.policy")
    | dict.fromkeys(_DDICT, "alamo.data.ddict")
    | dict.fromkeys(_QUEUE, "alamo.data.queue")
    | dict.fromkeys(_KEYS, "alamo.core.keys")
    | dict.fromkeys(_ERRORS, "alamo.errors")
)

__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'alamo' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
