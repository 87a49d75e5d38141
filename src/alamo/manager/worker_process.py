"""One worker process as the manager holds it: its socket, its memory, what is known of it."""

from __future__ import annotations

import os

import msgspec

from alamo import linux
from alamo.core.terms import Binding
from alamo.manager.connection import Connection
from alamo.protocol.layout import CHUNK, LIMIT, NEXT, NO_LIMIT, SINCE, SharedMemory
from alamo.protocol.records import StopInfo


class Stop(msgspec.Struct, frozen=True):
    """The element at ``seq`` of a worker has been ended because of ``info``."""

    seq: int
    info: StopInfo


class WorkerProcess:
    """One worker as the manager holds it.

    Attributes:
        memory: cells and buffers shared with it.
        stdout, stderr: descriptors of what its running task has printed so far.
        status: of ``waitpid``; ``None`` while unknown.
        epoch: chunks sent with an older epoch are dropped by the worker.
        end_seq: one past the last sequence number dealt.
        known_functions, known_objects: what has been sent to it.
        recall: identity of the recall under way.
        pid, start_ticks: name its process for ever.
        cause: why it ended, where the status does not tell.
        retired: it was asked to end.
        buried: its owner has been told of its death.
        watched, peek_s: whether its memory is looked at, and after how long again.
        binding: what it was started for.
        awaits_data: whether its task stands still in a wait for shared data.
        stop: the element in it that was ended last, until its outcome is there.
    """

    def __init__(
        self, number: int, memory: SharedMemory, stdout: int, stderr: int, binding: Binding
    ) -> None:
        self.number = number
        self.binding = binding
        self.stop: Stop | None = None
        self.pid = -1
        self.start_ticks = 0
        self.memory = memory
        self.stdout = stdout
        self.stderr = stderr
        self.connection: Connection
        self.status: int | None = None
        self.epoch = 0
        self.end_seq = 0
        self.known_functions: set[int] = set()
        self.known_objects: set[tuple[int, int]] = set()
        self.recall: object | None = None
        self.cause = ""
        self.retired = False
        self.buried = False
        self.watched = False
        self.awaits_data = False
        self.peek_s = 0.0

    def set_pid(self, pid: int) -> None:
        """It runs as this process."""
        if self.pid != pid:
            self.pid = pid
            self.start_ticks = linux.process_start_ticks(pid)

    def has_run_for_s(self, now_ns: int) -> float:
        """Seconds since the running element began; 0 while the worker idles."""
        since = int(self.memory.cells[SINCE])
        return (now_ns - since) * 1e-9 if since else 0.0

    @property
    def next_seq(self) -> int:
        """Sequence number of the element that runs, or runs next."""
        return int(self.memory.cells[NEXT])

    def running_seq(self, chunks: list[tuple[int, int, int]]) -> int:
        """Sequence number of the element that runs, -1 between two.

        Args:
            chunks: number, first and one past the last sequence number of each that it holds.
        """
        cells, seq = self.memory.cells, self.next_seq
        for number, first, end in chunks:
            # At the end of a chunk NEXT is the first of the next, which has not been begun
            # before its number is in the cell.
            if first <= seq < end and number == cells[CHUNK] and cells[SINCE]:
                return seq
        return -1

    @property
    def is_explained(self) -> bool:
        """Whether anything is known of its end; not so when it went down with its nursery."""
        return self.status is not None or bool(self.cause)

    def lower_limit(self, seq: int) -> int:
        """Have the worker stop before ``seq``, or where it stops already; returns where.

        A limit that rose could let an element begin that has been given to another worker.
        """
        limit = min(seq, int(self.memory.cells[LIMIT]))
        self.memory.cells[LIMIT] = limit
        return limit

    def lift_limit(self) -> None:
        """The worker has stopped and may go on."""
        self.memory.cells[LIMIT] = NO_LIMIT

    def close(self) -> None:
        """Free what the manager holds for it."""
        self.recall = None  # a recall under way must not look at the memory any more
        self.connection.close(quiet=True)
        self.memory.close()
        os.close(self.stdout)
        os.close(self.stderr)
