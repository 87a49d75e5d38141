"""Lanes: within a program the ready elements by what they need.

An element that needs one core and nothing else is in no lane: it lies in ``Program.ready``.  A
lane goes by itself where the first of another has to wait, so a chunk is of one need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from alamo.core.chunks import Paced
from alamo.core.ready import ReadyRanges, ReadyRanks
from alamo.core.term_table import TermTable
from alamo.core.terms import ONE_CORE, Need


class Lane(Paced):
    """The ready elements of one program that have one need.

    Attributes:
        queued: the scheduler has it in its queue; since: chunks dealt when it came to wait.
    """

    __slots__ = ("need", "queued", "ready", "since")

    def __init__(self, need: Need, ready: ReadyRanges | ReadyRanks) -> None:
        super().__init__()
        self.need = need
        self.ready = ready
        self.queued = False
        self.since = 0


class Lanes:
    """The lanes of a program, one a need, and the way into them.

    Args:
        table: the terms of the program's elements.
        plain: the ready elements that need one core.

    Attributes:
        all: the lanes, in the order in which their needs turned up.
    """

    def __init__(self, table: TermTable, plain: ReadyRanges | ReadyRanks) -> None:
        self.all: list[Lane] = []
        self._table = table
        self._plain = plain
        self._by_need: dict[Need, Lane] = {}
        #: By number of terms; ``None``: the elements need one core.
        self._by_terms: list[Lane | None] = []

    def _lane_of_terms(self, number: int) -> Lane | None:
        while len(self._by_terms) <= number:
            need = self._table.terms[len(self._by_terms)].need
            lane = self._by_need.get(need)
            if lane is None and need != ONE_CORE:
                lane = self._by_need[need] = Lane(need, self._plain.another())
                self.all.append(lane)
            self._by_terms.append(lane)
        return self._by_terms[number]

    def lane_of(self, element: int) -> Lane | None:
        """The lane that the element belongs to when it is ready; ``None``: to none."""
        return self._lane_of_terms(self._table.number_of(element))

    def is_alike(self, lane: Lane | None) -> Callable[[int], bool]:
        """A test of whether elements belong to this lane, or to none."""
        return lambda element: self.lane_of(element) is lane

    def add(self, elements: Sequence[int]) -> None:
        """Elements are ready: each behind those before it in its lane."""
        self._put(elements, False)

    def give_back(self, elements: Sequence[int]) -> None:
        """Elements that had been dealt are ready again."""
        self._put(elements, True)

    def _put(self, elements: Sequence[int], back: bool) -> None:
        parts: Collection[tuple[Lane | None, Sequence[int]]]
        if isinstance(elements, range):
            parts = [(self._lane_of_terms(n), run) for run, n in self._table.runs(elements)]
            if back:
                parts = parts[::-1]  # each goes in front
        else:
            by_lane: dict[Lane | None, list[int]] = {}
            for element, number in zip(elements, self._table.numbers(elements)):
                by_lane.setdefault(self._lane_of_terms(number), []).append(element)
            parts = by_lane.items()
        for lane, part in parts:
            ready = self._plain if lane is None else lane.ready
            if back:
                ready.give_back(part)
            else:
                ready.add(part)

    def remove(self, elements: Collection[int]) -> None:
        """Ready elements that shall not run."""
        for lane in self.all:
            lane.ready.remove(elements)

    def clear(self) -> None:
        """Forget all ready elements."""
        for lane in self.all:
            lane.ready.clear()

    def __len__(self) -> int:
        return sum([len(lane.ready) for lane in self.all])
