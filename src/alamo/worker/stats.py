"""What a worker notes of the time, CPU time and memory that tasks take.

It reads the CPU clock where it begins and announces a buffer of outcomes, and around tasks above a
millisecond: shorter ones would pay for it with a good part of what they cost in all.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

from alamo.protocol.layout import MARKS_HEAD_BYTES, MARKS_MAX
from alamo.protocol.marks import MARK_BYTES, NO_CPU, WORDS, pack, pack_into

#: Tasks that run longer have figures of their own.
OWN_NS = 1_000_000
#: The marks of one task, of those before it and of the end must still fit.
_FULL = MARKS_MAX - 4
_PEAK_MAX_BYTES = 1 << 62
#: A task may have written anything over the marks; what is sent on fits in its place all the same.
_WORD = (1 << 64) - 1


class _Peak:
    """What was noted of the memory of the running task.

    Attributes:
        size_bytes: the most; 0: nothing.
        tell: called when something is noted.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.tell: Callable[[], None] = _nobody


def _nobody() -> None:
    pass


peak = _Peak()


def note_peak(size_bytes: int) -> None:
    """The running task, or what it started, took so much memory at its highest.

    It becomes ``task.stats.peak_bytes``; of several calls within one task the largest counts.
    To be called by code that runs in the task, before the task ends.

    Args:
        size_bytes: above 0.

    Cost: 0.2 us, and 5 us for figures of the task's own.
    """
    peak.size_bytes = min(max(peak.size_bytes, int(size_bytes)), _PEAK_MAX_BYTES)
    peak.tell()


def take_peak() -> int:
    """What was noted since this was called last, in bytes; 0: nothing."""
    size_bytes, peak.size_bytes = peak.size_bytes, 0
    return size_bytes


def children_cpu_ns() -> int:
    """CPU time of child processes that have ended and been waited for, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def _epoch_offset_ns() -> int:
    """What makes of monotonic nanoseconds those since the epoch.

    Twice, as a process that loses the CPU between two readings finds too little.  At least 0: a
    machine whose clock has not been set may be in 1970.
    """
    clock, monotonic = time.time_ns, time.monotonic_ns
    return max(0, clock() - monotonic(), clock() - monotonic())


class Meter:
    """Writes the marks of the buffer of outcomes that is being filled.

    A task is measured by ``take`` when it has ended and its outcome may still go into this buffer,
    the next or none; ``put`` writes that down when it is there.

    Attributes:
        taken: a task has been measured and its marks are not written yet.
    """

    def __init__(self) -> None:
        self._marks: memoryview
        self._count = 0
        self._offset_ns = 0
        self._children_ns = children_cpu_ns()
        self._position = 0  # of the last mark
        # When the CPU clock was read last, and what it said.
        self._time_ns = 0
        self._cpu_ns = 0
        # Of the task that has been measured: from, to, CPU time before and after, memory.
        self.taken = False
        self._own = (0, 0, 0, 0, 0)

    def begin(self, marks: memoryview, now_ns: int) -> None:
        """Go on with another buffer's marks.  ``now_ns`` is monotonic, as all times here."""
        marks[0] = self._count = 0
        self._marks = marks
        marks[1] = self._offset_ns = _epoch_offset_ns()
        marks[2] = self._children_ns
        self._add(0, now_ns, self._cpu_now_ns())

    def glance(self, now_ns: int) -> None:
        """A task that has no figures of its own ended now, which may have waited for the CPU.

        So that this time is not taken for CPU time of the short ones when the next is measured.
        Cost: 0.5 us.
        """
        self._time_ns, self._cpu_ns = now_ns, self._cpu_now_ns()

    def take(self, begun_ns: int, ended_ns: int) -> None:
        """Measure what ran from ``begun_ns`` to ``ended_ns``.  Cost: 3 us."""
        self._marks[2] = self._children_ns = children_cpu_ns()
        cpu_ns = self._cpu_now_ns()
        # What ran since then was too short to wait for anything: it kept the CPU busy.
        before_ns = min(cpu_ns, self._cpu_ns + max(0, begun_ns - self._time_ns))
        self._own = (begun_ns, ended_ns, before_ns, cpu_ns, take_peak())
        self.taken = True

    def put(self, first: int, upto: int) -> bool:
        """What has been measured are outcomes ``first`` to ``upto`` of this buffer.

        Returns:
            Whether there is room for more.
        """
        begun_ns, ended_ns, before_ns, cpu_ns, peak_bytes = self._own
        self.taken = False
        if first > self._position:
            self._add(first, begun_ns, before_ns)
        self._add(upto, ended_ns, cpu_ns, peak_bytes)
        return self._count < _FULL

    def put_alone(self) -> bytes:
        """The marks of what has been measured, which is in no buffer."""
        begun_ns, ended_ns, before_ns, cpu_ns, peak_bytes = self._own
        self.taken = False
        offset_ns = self._offset_ns
        begun = (0, begun_ns + offset_ns, before_ns, 0)
        return pack(begun, (1, ended_ns + offset_ns, cpu_ns, peak_bytes))

    def end(self, count: int, now_ns: int) -> None:
        """The buffer has ``count`` outcomes and is announced."""
        if count > self._position:
            self._add(count, now_ns, self._cpu_now_ns())

    def _cpu_now_ns(self) -> int:
        if self.taken:  # the buffer ends, or the next begins, before the task that was measured
            return self._own[2]
        return time.process_time_ns() + self._children_ns

    def _add(self, position: int, now_ns: int, cpu_ns: int, peak_bytes: int = 0) -> None:
        at = MARKS_HEAD_BYTES + self._count * MARK_BYTES
        pack_into(self._marks, at, position, now_ns + self._offset_ns, cpu_ns, peak_bytes)
        self._count += 1
        self._marks[0] = self._count
        self._position, self._time_ns, self._cpu_ns = position, now_ns, cpu_ns


def unfinished_marks(marks: memoryview, count: int, now_ns: int, cpu_ns: int) -> bytes:
    """The marks of a buffer that has not been announced and has ``count`` outcomes.

    Args:
        now_ns: when the last of them was there at the latest, monotonic.
        cpu_ns: CPU time of the worker's own process by now; -1 if nobody knows.
    """
    known = marks_of(marks)
    if not known:
        return b""
    position, last_ns, last_cpu_ns, _ = memoryview(known).cast("Q")[-WORDS:]
    if position >= count:
        return known
    at_ns = max(last_ns, now_ns + marks[1])
    end_cpu_ns = NO_CPU
    if cpu_ns >= 0:  # some of it may be of a task that goes on
        end_cpu_ns = min(cpu_ns + marks[2], last_cpu_ns + at_ns - last_ns)
    return known + pack((count, at_ns & _WORD, end_cpu_ns & _WORD, 0))


def marks_of(marks: memoryview) -> bytes:
    """The marks of a buffer; none where a task has written over them."""
    count = marks[0]
    if count > MARKS_MAX:
        return b""
    return bytes(marks.cast("B")[MARKS_HEAD_BYTES : MARKS_HEAD_BYTES + count * MARK_BYTES])
