"""Workers that died: how, what they had finished, and when to stop starting new ones."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import msgspec

from alamo import linux
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol import messages as msg
from alamo.protocol import shortening
from alamo.protocol.layout import GROUPED, SINCE, STATUS_CLOSED
from alamo.protocol.marks import NO_CPU, Timing, pack
from alamo.protocol.records import LOST, OK, LostInfo, Record, as_record
from alamo.worker.outcomes import salvage
from alamo.worker.stats import unfinished_marks

#: Workers that die before they are ready, in a row, until the service gives up.
STILLBORN_MAX = 5
_FIRST_DELAY_S = 0.02
_DELAY_MAX_S = 1.0
#: So much of what a worker said last goes to each task that waited for it, in characters.
_LINE_MAX = 500

_CAUSES = {
    signal.SIGSEGV: "a crash in C code (segmentation fault)",
    signal.SIGBUS: "a crash in C code (bus error: often a mapped file that shrank)",
    signal.SIGABRT: "C code called abort()",
    signal.SIGFPE: "an arithmetic error in C code",
    signal.SIGILL: "an illegal instruction: a library built for another processor",
    signal.SIGTERM: "somebody sent SIGTERM",
    signal.SIGXCPU: "over its CPU time limit",
}


class _OomKills:
    """The kernel's count of processes that it killed for lack of memory, where it shows one."""

    def __init__(self) -> None:
        self._seen = self._count()

    @staticmethod
    def _count() -> int:
        try:
            with open("/proc/vmstat") as file:
                return next((int(line[9:]) for line in file if line.startswith("oom_kill ")), -1)
        except OSError:
            return -1

    def cause(self) -> str:
        """The likely cause of a SIGKILL that has just been noticed."""
        count, seen = self._count(), self._seen
        self._seen = count
        if count > seen:
            return (
                "the out-of-memory killer: the system has just killed a process for lack of memory"
            )
        if count < 0:
            return "killed from outside: the out-of-memory killer or `kill -9`"
        return "killed from outside, as by `kill -9`; the system counts no kill for lack of memory"


_oom_kills = _OomKills()


def describe_status(status: int | None) -> tuple[int, int, str]:
    """Signal, exit status and likely cause of a worker's end.

    Example:
        >>> describe_status(9)[:2], describe_status(3 << 8)[:2]
        ((9, -1), (0, 3))
    """
    if status is None:
        return 0, -1, "its exit status is unknown: the machine may have lost it"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            return number, -1, _oom_kills.cause()
        try:
            cause = _CAUSES.get(signal.Signals(number), "")
        except ValueError:
            cause = ""
        return number, -1, cause or "a signal from outside or from C code"
    code = os.WEXITSTATUS(status)
    if code == STATUS_CLOSED:
        return 0, code, "the function or a library closed descriptors that were not its own"
    return 0, code, "the function or a library in it ended the process with os._exit() or exit()"


def lost_record(worker: WorkerProcess, host: str) -> bytes:
    """The outcome of the task that ran in a dead worker, with what it had printed."""
    number, code, cause = describe_status(worker.status)
    info = LostInfo(host, worker.pid, number, code, worker.cause or cause)
    record = Record(
        LOST,
        msgspec.msgpack.encode(info),
        shortening.read(worker.stdout),
        shortening.read(worker.stderr),
    )
    return msgspec.msgpack.encode(record)


def unborn_record(worker: WorkerProcess | None, host: str, why: str, count: int) -> bytes:
    """The outcome of tasks that did not run, as no worker came up that has what they need.

    Args:
        worker: the last that did not; ``None``: it could not even be started.
        why: the reason then.
        count: how many in a row did not.
    """
    info = LostInfo(host, -1, 0, -1, why, count)
    if worker is not None:
        number, code, cause = describe_status(worker.status)
        if not number:  # there was no task in it: it says itself what went wrong, as an exception
            said = shortening.read(worker.stderr).decode("utf-8", "backslashreplace").split("\n")
            cause = next((line for line in reversed(said) if line), "an error while it started")
        info = LostInfo(host, worker.pid, number, code, worker.cause or cause[-_LINE_MAX:], count)
    return msgspec.msgpack.encode(Record(LOST, msgspec.msgpack.encode(info)))


def salvaged(worker: WorkerProcess, reported: Callable[[int], int]) -> msg.Finished | None:
    """What a worker has recorded and not announced, as the message it would send.

    A task may have written anywhere, so nothing in its memory is taken on trust.
    """
    try:
        rest = salvage(worker.memory, reported)
        if rest is None:
            return None
        ends = worker.memory.ends[rest.buffer]
        payload = worker.memory.payloads[rest.buffer]
        failed, blocks = [], []
        start = 0
        for position in range(rest.first, rest.upto):
            end = ends[position - rest.first]
            if not start <= end <= len(payload):
                return None
            record = as_record(bytes(payload[start:end]))
            if record is not None and record.status != OK:
                failed.append(position)
            if record is not None and record.block >= 0:
                blocks.append((position, record.block))
            start = end
    except (IndexError, msgspec.DecodeError):
        return None
    rest.failed, rest.blocks = tuple(failed), tuple(blocks)
    cells = worker.memory.cells
    since_ns = 0 if cells[GROUPED] else cells[SINCE]  # when the next began the last had ended
    marks = worker.memory.marks[rest.buffer]
    ended_ns, cpu_ns = since_ns or time.monotonic_ns(), linux.process_cpu_ns(worker.pid)
    rest.marks = unfinished_marks(marks, rest.upto - rest.first, ended_ns, cpu_ns)
    return rest


def lost_timing(worker: WorkerProcess) -> Timing | None:
    """When the task ran that a worker, dead by now, was running.  Its CPU time nobody knows."""
    since_ns, now_ns = int(worker.memory.cells[SINCE]), time.monotonic_ns()
    if not 0 < since_ns <= now_ns:
        return None
    ended_ns = time.time_ns()
    begun_ns = ended_ns - (now_ns - since_ns)
    return Timing(worker.pid, pack((0, begun_ns, NO_CPU, 0), (1, ended_ns, NO_CPU, 0)))


class Stillbirths:
    """Workers that died before they were ready: new ones are started ever later, then not at all.

    Example:
        >>> s = Stillbirths(); s.delay_s
        0.0
        >>> s.another(); s.another(); s.delay_s
        0.04
    """

    def __init__(self) -> None:
        self.in_a_row = 0

    def another(self) -> None:
        """One more."""
        self.in_a_row += 1

    def none(self) -> None:
        """A worker is ready."""
        self.in_a_row = 0

    @property
    def too_many(self) -> bool:
        """Whether no further one will fare better."""
        return self.in_a_row >= STILLBORN_MAX

    @property
    def delay_s(self) -> float:
        """How long to wait before the next is started."""
        if not self.in_a_row:
            return 0.0
        return float(min(_DELAY_MAX_S, _FIRST_DELAY_S * 2 ** (self.in_a_row - 1)))

    @staticmethod
    def reason(why: str) -> str:
        """Why the service ends."""
        return f"{STILLBORN_MAX} workers in a row died while starting: {why}"


def describe_stillborn(worker: WorkerProcess) -> str:
    """How a worker ended that had not been ready, with what it had to say."""
    number, code, cause = describe_status(worker.status)
    how = f"signal {number}" if number else f"exit status {code}"
    tail = shortening.read(worker.stderr).decode("utf-8", "replace")[-2000:]
    return f"{how}; {worker.cause or cause}\n{tail}"
