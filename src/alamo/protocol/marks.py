"""When tasks ran and what CPU time they took: the marks that a worker leaves among outcomes.

A **mark** says how many outcomes of a buffer were complete at a moment, and how much CPU time the
worker had used by then.  Tasks between two marks were too short for a look at the clocks each: they
share what lies between evenly.  A task above a millisecond stands between two marks of its own.

    position | time | CPU time | peak memory            uint64 each, in machine byte order

Time is in nanoseconds since the epoch, by the clock of the worker's machine; CPU time, in
nanoseconds, is that of the worker's process and of children that it has waited for; peak memory, in
bytes, 0 if unknown, is that of the task which ends at the mark.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import pairwise

import msgspec

WORDS = 4
MARK_BYTES = 8 * WORDS
#: CPU time of a mark that was made when the worker could not be asked.
NO_CPU = (1 << 64) - 1

_mark = struct.Struct("4Q")
#: ``pack_into(buffer, offset, position, time_ns, cpu_ns, peak_bytes)``
pack_into = _mark.pack_into


def pack(*marks: tuple[int, int, int, int]) -> bytes:
    """Marks as bytes.

    Example:
        >>> len(pack((0, 5, 1, 0), (1, 9, 2, 0))) == 2 * MARK_BYTES
        True
    """
    return b"".join([_mark.pack(*mark) for mark in marks])


def elapsed_ns(marks: bytes, first: int, upto: int) -> int:
    """How long outcomes ``first`` to ``upto`` of a buffer took together, by its marks.

    Returns:
        0 where the marks do not say, or a task has written over them.

    Example:
        >>> marks = pack((0, 10, 0, 0), (4, 30, 0, 0), (5, 90, 0, 0))
        >>> elapsed_ns(marks, 2, 4), elapsed_ns(marks, 2, 5), elapsed_ns(marks, 2, 6)
        (10, 70, 0)
    """
    words = memoryview(marks).cast("Q").tolist()
    known = list(zip(words[::WORDS], words[1::WORDS]))
    begun_ns, ended_ns = _time_at(known, first), _time_at(known, upto)
    return max(1, ended_ns - begun_ns) if begun_ns and ended_ns else 0


def _time_at(known: list[tuple[int, int]], position: int) -> int:
    """When so many outcomes were complete, 0 if unknown; between two marks time runs evenly."""
    for (before, before_ns), (behind, behind_ns) in pairwise(known):
        if before <= position <= behind:
            share = (position - before) / max(1, behind - before)
            return before_ns + int((behind_ns - before_ns) * share)
    return 0


class Timing(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What is known of when and where the outcomes of one message came to be.

    Attributes:
        pid: the worker's process.
        marks: see above.
        skip: position of the first outcome among the marks; others follow it one by one.
        positions: those of all outcomes (uint32), where they do not.
    """

    pid: int
    marks: bytes
    skip: int = 0
    positions: bytes = b""

    def only(self, kept: Sequence[int]) -> Timing:
        """That of the outcomes at these positions of the message alone.

        Example:
            >>> array("I", Timing(1, b"", skip=3).only([0, 2]).positions).tolist()
            [3, 5]
        """
        if self.positions:
            known = memoryview(self.positions).cast("I")
            column = array("I", [known[p] for p in kept])
        else:
            column = array("I", [self.skip + p for p in kept])
        return Timing(self.pid, self.marks, 0, column.tobytes())
