"""A chunk: elements dealt to a worker at once, and how one is cut from ready work.

Crossing a process border costs tens of microseconds and running a short task one, so
elements travel in chunks.  A chunk is extended with dependents whose remaining
predecessors are all inside it: a chain runs in one worker without a round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from alamo.core.states import DEALT
from alamo.core.terms import Grant

if TYPE_CHECKING:
    from alamo.core.lanes import Lane
    from alamo.core.program import Program

#: Seconds of work in a chunk: long against a round trip (0.1 ms), short against a wait.
TARGET_S = 0.004
#: What a chunk and its report cost: sharing less work than this among workers loses time.
WORTH_S = 0.000_02
#: Elements in the first chunks of a program, whose run times are not known yet.  More would
#: delay what turns out to be urgent: recorded workflows end up to 8 % later with 16.
FIRST_SIZE = 2
#: Bounds what a recall has to walk and what a worker holds.
SIZE_MAX = 8192

#: Least weight of the newest report in the mean run time.  One of many elements weighs more than
#: those before it of few: the first two, slow in cold caches, must not keep the chunks small.
_NEWEST_MIN = 0.3


class Chunk:
    """Elements of one program that one worker runs in the order given.

    Attributes:
        number: unique for ever; a report with a number that is not known is dropped.
        seq: the worker's sequence number of the first element; the element at
            position i has ``seq + i``.
        elements: indices in the program, in the order of running.
        fused: some elements depend on others of the chunk, so the worker must stop
            at the first failure.
        outside: element outside -> how many of its predecessors are inside.  Lets a
            chunk that finishes as a whole be completed in one walk; ``None`` once it was
            cut short (then successors are walked).
        done: positions before this one have finished.
        lane: what its elements need; ``None``: one core each.
        grant: what they have been given; ``None``: one core.
    """

    __slots__ = (
        "dealt_s",
        "done",
        "elements",
        "fused",
        "grant",
        "lane",
        "number",
        "outside",
        "program",
        "seq",
        "worker",
    )

    def __init__(
        self,
        number: int,
        program: Program,
        worker: int,
        seq: int,
        elements: Sequence[int],
        fused: bool,
        outside: dict[int, int] | None,
        dealt_s: float,
        lane: Lane | None = None,
        grant: Grant | None = None,
    ) -> None:
        self.number = number
        self.program = program
        self.worker = worker
        self.seq = seq
        self.elements = elements
        self.fused = fused
        self.outside = outside
        self.done = 0
        self.dealt_s = dealt_s
        self.lane = lane
        self.grant = grant

    def __repr__(self) -> str:
        return (
            f"<Chunk {self.number} of program {self.program.number} for worker {self.worker}: "
            f"{len(self.elements)} elements from seq {self.seq}, {self.done} done>"
        )

    @property
    def end_seq(self) -> int:
        """One past the sequence number of the last element."""
        return self.seq + len(self.elements)


class Paced:
    """Elements whose run times are measured.

    Attributes:
        mean_s: run time of an element, ``None`` before the first report.
    """

    __slots__ = ("_measured", "mean_s")

    def __init__(self) -> None:
        self.mean_s: float | None = None
        self._measured = 0

    def measured(self, count: int, elapsed_s: float) -> None:
        """Fold ``count`` elements that took ``elapsed_s`` together into the mean."""
        mean_s = elapsed_s / count
        weight = max(_NEWEST_MIN, count / (count + self._measured))
        self._measured += count
        self.mean_s = mean_s + (1.0 - weight) * ((self.mean_s or 0.0) - mean_s)


def chunk_size(mean_s: float | None, ready: int, slots: int) -> int:
    """How many elements to deal at once.

    Args:
        mean_s: measured run time of the program's elements, ``None`` before the first report.
        ready: elements of the program that are ready now.
        slots: workers that share them.

    Example:
        >>> chunk_size(None, 1000, 2), chunk_size(0.000_004, 100_000, 2), chunk_size(0.02, 100, 2)
        (2, 1000, 1)
        >>> chunk_size(0.001, 8, 2), chunk_size(0.000_004, 8, 2)  # shared, not worth sharing
        (2, 5)
    """
    share = -(-ready // (2 * slots))
    if mean_s is None:
        return max(1, min(FIRST_SIZE, share))
    mean_s = max(mean_s, 1e-9)
    return max(1, min(int(TARGET_S / mean_s), max(share, int(WORTH_S / mean_s)), SIZE_MAX))


def fuse_size(mean_s: float | None) -> int:
    """Up to how many elements a chunk is extended with what depends on its own."""
    return chunk_size(mean_s, 1 << 30, 1)


def fuse(
    program: Program,
    elements: list[int],
    size: int,
    is_alike: Callable[[int], bool] | None = None,
) -> dict[int, int]:
    """Mark ``elements`` as dealt and extend them with dependents that wait for nothing else.

    Args:
        elements: ready; extended in place up to ``size``.
        is_alike: whether an element needs what these do; ``None``: all of the program do.

    Returns:
        The chunk's ``outside`` table.

    Cost: O(elements + edges that leave them).
    """
    outside: dict[int, int] = {}
    successors, waiting, state, held = (
        program.successors,
        program.waiting,
        program.state,
        program.held,
    )
    room = size - len(elements)
    for element in elements:
        state[element] = DEALT
        after = successors[element]
        if after is None:
            continue
        for other in (after,) if after.__class__ is int else after:  # type: ignore[union-attr]
            inside = outside.get(other, 0) + 1
            if (
                room > 0
                and inside == waiting[other]
                and other not in held
                and (is_alike is None or is_alike(other))
            ):
                if inside > 1:
                    del outside[other]
                elements.append(other)
                room -= 1
            else:
                outside[other] = inside
    return outside
