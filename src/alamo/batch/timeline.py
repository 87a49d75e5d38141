"""When the tasks of a program ran, as it came in: marks in columns, looked up when asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from alamo.protocol.marks import MARK_BYTES, NO_CPU, WORDS, Timing


class Run(NamedTuple):
    """One task's run, see ``TaskStats``."""

    pid: int
    start_s: float
    end_s: float
    cpu_s: float | None
    peak_bytes: int | None
    averaged_over: int


class Timeline:
    """What came in with frames of outcomes of when they came to be.

    Memory: 8 bytes a frame and 32 a mark, of which a frame has two and a task above a millisecond
    one more, or two.
    """

    def __init__(self) -> None:
        self._marks = array("Q")
        self._ends = array("I")  # of each frame among the marks
        self._pids = array("i")
        self._skips: dict[int, int] = {}
        self._positions: dict[int, array[int]] = {}

    def add(self, timing: Timing | None) -> None:
        """Another frame, of which this is known."""
        if timing is not None:
            frame = len(self._ends)
            size = len(timing.marks)
            self._marks.frombytes(timing.marks[: size - size % MARK_BYTES])
            if timing.skip:
                self._skips[frame] = timing.skip
            if timing.positions:
                self._positions[frame] = array("I", timing.positions)
        self._pids.append(-1 if timing is None else timing.pid)
        self._ends.append(len(self._marks))

    def run(self, frame: int, k: int) -> Run | None:
        """The run of the k-th task of a frame, ``None`` if nothing is known of it.

        Cost: 2 us.
        """
        words = self._marks
        if frame in self._positions:
            k = self._positions[frame][k]
        k += self._skips.get(frame, 0)
        marks = range(self._ends[frame - 1] if frame else 0, self._ends[frame], WORDS)
        behind = bisect_right(marks, k, key=words.__getitem__)
        if not 0 < behind < len(marks):
            return None
        first, start_ns, cpu_before_ns, _ = words[marks[behind - 1] : marks[behind]]
        upto, end_ns, cpu_ns, peak_bytes = words[marks[behind] : marks[behind] + WORDS]
        # At least 1 each, also where a task has written over the marks in its worker.
        count = max(1, upto - first)
        each_s = max(0, end_ns - start_ns) * 1e-9 / count
        start_s = start_ns * 1e-9 + (k - first) * each_s
        cpu_s = None
        if NO_CPU not in (cpu_before_ns, cpu_ns):
            cpu_s = max(0, cpu_ns - cpu_before_ns) * 1e-9 / count
        return Run(self._pids[frame], start_s, start_s + each_s, cpu_s, peak_bytes or None, count)
