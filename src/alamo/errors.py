"""Every exception that alamo raises, in one tree.

A message says what happened, to which task, where, and what to do about it.  An
exception that a user's own function raised is re-raised as itself and is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from subprocess import CalledProcessError

__all__ = [
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
    "MemoryLimitExceeded",
    "PolicyError",
    "ProcessFailed",
    "ProtocolError",
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
]


class AlamoError(Exception):
    """Base of everything that alamo itself raises."""


class UsageError(AlamoError, RuntimeError):
    """The API was called in an order or with a value that cannot work."""


class PolicyError(UsageError, ValueError):
    """A ``Policy`` asks for what the Batch can never give; the message says what would fit."""


class SubmitAfterClose(UsageError):
    """Work was submitted to a Batch that this client had closed."""


class GraphError(AlamoError, RuntimeError):
    """A list of tasks cannot be compiled (documented for ``Batch.compile``)."""


class SerializationError(AlamoError, TypeError):
    """An argument, a result or a function cannot travel between processes."""


class WaitTimeout(AlamoError, TimeoutError):
    """The time given to a wait is over; the task goes on."""


class UpstreamFailed(AlamoError, RuntimeError):
    """A task did not run because a task whose output it needed had failed.

    Attributes:
        uid: the task that did not run.
        root_uid: the task whose failure is the origin.
    """

    def __init__(self, message: str, uid: int = -1, root_uid: int = -1) -> None:
        super().__init__(message, uid, root_uid)
        self.uid = uid
        self.root_uid = root_uid

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerLost(AlamoError, RuntimeError):
    """The worker process that ran a task died before the task had finished.

    Attributes:
        uid: the task that was running.
        host, pid: where the worker ran.
        signal: the signal that ended it, 0 when it exited.
        exit_status: its exit status, -1 when a signal ended it.
    """

    def __init__(
        self,
        message: str,
        uid: int = -1,
        host: str = "",
        pid: int = -1,
        signal: int = 0,
        exit_status: int = -1,
    ) -> None:
        super().__init__(message, uid, host, pid, signal, exit_status)
        self.uid = uid
        self.host = host
        self.pid = pid
        self.signal = signal
        self.exit_status = exit_status

    def __str__(self) -> str:
        return str(self.args[0])


class TaskStopped(AlamoError, RuntimeError):
    """A task was ended by alamo before it had finished; base of the reasons why.

    Attributes:
        uid: the task.
    """

    def __init__(self, message: str, uid: int = -1) -> None:
        super().__init__(message, uid)
        self.uid = uid

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimeout(TaskStopped, TimeoutError):
    """A task ran longer than its ``timeout=``."""


class TaskCancelled(TaskStopped):
    """A task was cancelled, before it began or while it ran."""


class MemoryLimitExceeded(TaskStopped, MemoryError):
    """A task took more memory than its ``Policy(memory=)``."""


#: Lines of an executable's output that its error shows, and characters of its command line.
_TAIL_LINES = 10
_COMMAND_MAX = 1000


class ProcessFailed(AlamoError, CalledProcessError):
    """An executable ended with an exit code other than 0, or by a signal.

    Attributes:
        cmd: the command line as it was run.
        returncode: its exit code; of one that a signal ended the signal's number, negative.
        output, stdout, stderr: what it wrote, as the task's handles give it.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _COMMAND_MAX:
            text = f"{text[: _COMMAND_MAX // 2]} [...] {text[-_COMMAND_MAX // 2 :]}"
        for stream, written in (("stdout", self.stdout), ("stderr", self.stderr)):
            if isinstance(written, bytes):
                written = written.decode("utf-8", "backslashreplace")
            lines = (written or "").splitlines()[-_TAIL_LINES:]
            if lines:
                text += f"\nlast lines of its {stream}:\n  " + "\n  ".join(lines)
        return text


class JobFailed(ProcessFailed):
    """A rank of a job ended with an exit code other than 0 or by a signal, or its launcher failed.

    Attributes:
        cmd: what each rank ran.
        returncode: the rank's exit code, or the launcher's; the number of a signal, negative.
        rank: which rank it was; -1 when it was the launcher.
        num_procs: how many ranks the job had.
    """

    def __init__(
        self,
        message: str,
        returncode: int = -1,
        cmd: Sequence[str] = (),
        rank: int = -1,
        num_procs: int = 0,
    ) -> None:
        super().__init__(returncode, cmd)
        self.message = message
        self.rank = rank
        self.num_procs = num_procs

    def __str__(self) -> str:
        return self.message


class TaskExit(AlamoError, RuntimeError):
    """A task raised ``SystemExit`` or ``KeyboardInterrupt``; it is the ``__cause__``.

    Raised in place of them so that reading a result cannot end the reader's program.
    """


class RemoteError(AlamoError, RuntimeError):
    """A task raised an exception that itself cannot travel; this one tells its type and text."""


class BatchBroken(AlamoError, RuntimeError):
    """The service is gone (manager killed, connection lost, batch terminated)."""


class ProtocolError(AlamoError, RuntimeError):
    """A peer sent something that is no message of this protocol."""


class AuthenticationFailed(AlamoError, PermissionError):
    """A peer could not prove that it knows the Batch's secret."""


class DataStoreError(AlamoError, RuntimeError):
    """The store under a DDict or a Queue failed, is gone or cannot be reached."""


class DDictError(DataStoreError):
    """Base of what a DDict raises beyond what a dict does."""


class DDictTimeoutError(DDictError, TimeoutError):
    """The time given to a wait for a key is over."""


class DDictFullError(DDictError, MemoryError):
    """There is no room for what was to be put; nothing is lost, and after deletes there is."""


class DDictFrozenError(DDictError):
    """The dictionary is frozen: it cannot be changed until ``unfreeze()``."""


class DDictConflictError(DDictError):
    """What a transaction had read was changed before it could be committed; nothing is stored."""


class CrossShardError(DDictError):
    """One atomic operation names keys of several shards of a dictionary over many nodes."""


class QueueError(DataStoreError):
    """Base of what a Queue raises beyond what a ``multiprocessing.Queue`` does."""


class QueueFullError(QueueError, MemoryError):
    """The memory under a queue has run out (its ``maxsize`` raises ``queue.Full``)."""
