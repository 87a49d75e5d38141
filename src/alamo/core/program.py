"""One program in the scheduler: its elements in columns, its edges, what is ready.

It knows what follows when elements end: who is ready now, who will never run and because of
whom.  It knows nothing of workers and chunks, and tells nobody: the scheduler asks.

Nothing runs before the program has started and it starts only when all its pages are
there, so a page may be taken in without looking at what has finished.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from alamo.core.columns import ProgramColumns
from alamo.core.edges import INDEX, ORDER_ONLY
from alamo.core.lanes import Lanes
from alamo.core.ready import ReadyRanks
from alamo.core.states import CANCELLED, DEALT, DONE, FAILED, PENDING, SKIPPED


class Program(ProgramColumns):
    """A program that can run: its columns and what moves them."""

    __slots__ = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to do, nor will be."""
        if self.unfinished or self.growing:
            return False
        return self.started or self.dropped or self.called_off

    def start(self, ranks: bytes | memoryview) -> None:
        """Let the program run: collect what is ready from the beginning."""
        self.started = True
        gone: list[int] = []
        if self.spoiled:
            gone = [element for element, state in enumerate(self.state) if state == CANCELLED]
        if self._pages:
            self.ready = ReadyRanks(memoryview(ranks).cast("B").cast("I") if len(ranks) else None)
        if self.table is not None and self.table.has_needs:
            self.lanes = Lanes(self.table, self.ready)
        if self._pages:
            self._hold_cancelled(gone)
            self.release([element for element, n in enumerate(self.waiting) if not n])
        else:
            self.add_ready(range(self.count))
            self.remove_ready(gone)

    def grow(self, count: int, terms: int | bytes = 0) -> None:
        """Take in elements while the program runs; there must be no edges."""
        assert self.started
        assert not self._pages
        first = self.count
        self.add_page(count, b"", b"", terms=terms)
        self.add_ready(range(first, self.count))

    # -- what is ready --------------------------------------------------------------

    def add_ready(self, elements: Sequence[int]) -> None:
        """These wait for nothing more; a range where there are no edges."""
        (self.ready if self.lanes is None else self.lanes).add(elements)

    def remove_ready(self, elements: Collection[int]) -> None:
        """These shall not run."""
        if elements:
            self.ready.remove(elements)
            if self.lanes is not None:
                self.lanes.remove(elements)

    def clear_ready(self) -> None:
        """Nothing of it shall run."""
        self.ready.clear()
        if self.lanes is not None:
            self.lanes.clear()

    @property
    def is_ready(self) -> bool:
        """Whether an element could run."""
        return bool(len(self.ready) or (self.lanes is not None and len(self.lanes)))

    # -- while it runs ------------------------------------------------------------

    def finish_whole(self, elements: Sequence[int], outside: dict[int, int]) -> None:
        """All elements of a chunk succeeded: count its outside dependents down in one walk."""
        self.unfinished -= len(elements)
        if self.cancelling:
            self.cancelling.difference_update(elements)
        state, waiting = self.state, self.waiting
        if isinstance(elements, range):
            state[elements.start : elements.stop] = bytes((DONE,)) * len(elements)
        else:
            for element in elements:
                state[element] = DONE
        free = []
        for element, count in outside.items():
            left = waiting[element] - count
            waiting[element] = left
            if not left:
                free.append(element)
        if free:
            self.release(free)

    def finish(
        self,
        elements: Sequence[int],
        failed: Collection[int] = (),
        again: Collection[int] = (),
    ) -> None:
        """Elements ended, those of ``failed`` with an error: walk the successors of each.

        Those of ``again`` have not: they wait, and are neither ready nor at a worker.
        """
        state = self.state
        self.unfinished -= len(elements) - len(again)
        self.spoiled = self.spoiled or bool(failed)
        if self.cancelling:
            self.cancelling.difference_update(elements)
        if isinstance(elements, range) and not self._pages:
            state[elements.start : elements.stop] = bytes((DONE,)) * len(elements)
            for element in failed:
                state[element] = FAILED
            for element in again:
                state[element] = PENDING
            return
        free: list[int] = []
        for element in elements:
            if element in again:
                state[element] = PENDING
                continue
            if element in failed:
                state[element] = FAILED
                self.held.update(self.successors_of(element))
            else:
                state[element] = DONE
            free += self._count_down(element)
        self.release(free)

    def give_back(self, elements: Sequence[int]) -> None:
        """Dealt elements that will not run where they are: ready again, or they wait again."""
        state = self.state
        if isinstance(elements, range):
            state[elements.start : elements.stop] = bytes((PENDING,)) * len(elements)
        else:
            for element in elements:
                state[element] = PENDING
        if self.dropped:
            self.cancelling.difference_update(elements)
            return
        if self.cancelling and not self.cancelling.isdisjoint(elements):
            self._give_back_some(elements)
        elif self._pages:
            waiting = self.waiting
            self.release([element for element in elements if not waiting[element]])
        else:
            (self.ready if self.lanes is None else self.lanes).give_back(elements)

    def _give_back_some(self, elements: Sequence[int]) -> None:
        """Of elements that came back some are to be cancelled, and what these free is ready too."""
        asked = [element for element in elements if element in self.cancelling]
        others = [element for element in elements if element not in self.cancelling]
        self.cancelling.difference_update(asked)
        if self._pages:
            others = [element for element in others if not self.waiting[element]]
            self.withdraw(asked)
            self.release(others)
            return
        self.withdraw(asked)
        for element in reversed(others):  # in front, so the last first
            self.give_back(range(element, element + 1))

    def withdraw(self, elements: list[int]) -> None:
        """Cancel elements that are neither at a worker nor ended; joins are left as they are.

        What comes after one in order alone goes on when all before that one has ended.
        """
        gone = [element for element in elements if element not in self.joins]
        if not gone:
            return
        state, waiting = self.state, self.waiting
        for element in gone:
            state[element] = CANCELLED
        self.unfinished -= len(gone)
        self.spoiled = True
        self.cancelled += gone
        if self.resting:
            for element in gone:
                self.resting.pop(element, None)
        if not self.started:
            return
        self.remove_ready(gone)
        if self._pages:
            self._hold_cancelled(gone)
            self.release([element for element in gone if not waiting[element]])

    def _hold_cancelled(self, elements: list[int]) -> None:
        for element in elements:
            self.held.add(element)
            self.held.update(self.successors_of(element))

    def mark_dealt(self, elements: range) -> None:
        """Neighbours go to a worker; what has edges is marked as a chunk is made of it."""
        self.state[elements.start : elements.stop] = bytes((DEALT,)) * len(elements)

    def drop(self) -> None:
        """What has not begun never will."""
        self.dropped = True
        self.growing = False
        self.clear_ready()

    def settle_dropped(self) -> None:
        """A dropped program is done as soon as none of its elements is at a worker."""
        if DEALT not in self.state:
            self.unfinished = 0

    def _count_down(self, element: int) -> list[int]:
        """One predecessor less for each successor; those that now wait for nothing.

        A successor in a chunk at a worker is not free: it runs there, behind this one.
        """
        free = []
        waiting, state = self.waiting, self.state
        for other in self.successors_of(element):
            left = waiting[other] - 1
            waiting[other] = left
            if not left and state[other] != DEALT:
                free.append(other)
        return free

    def release(self, free: list[int]) -> None:
        """Elements without unfinished predecessors become ready, or end here.

        Joins and elements that were cancelled or depend on a failure have nothing to run; what
        they free in turn is handled in the same loop, so a chain of a million is no recursion.
        """
        if self.dropped:
            return
        held = self.held
        if not held:
            self.add_ready(free)
            return
        ready = []
        stack = free[::-1]
        while stack:
            element = stack.pop()
            if element not in held:
                ready.append(element)
                continue
            held.discard(element)
            if self.state[element] == CANCELLED:  # has been told of and counted
                stack += reversed(self._count_down(element))
                continue
            root = self._root(element)
            if root is None and element in self.gates:
                self.state[element] = DEALT
                self.opened.append(element)
                continue
            if root is None and element not in self.joins:
                ready.append(element)
                continue
            stack += reversed(self._count_down(element))
            self.unfinished -= 1
            if root is None:
                self.state[element] = DONE
                continue
            self.state[element] = SKIPPED
            self.waiting[element] = root
            held.update(self.successors_of(element))
            if element not in self.joins:
                self.skipped.append(element)
                self.roots.append(root)
        self.add_ready(ready)

    def _root(self, element: int) -> int | None:
        """What failed or was cancelled so that it cannot run.  Cost: O(its predecessors)."""
        state = self.state
        for entry in self.predecessors_of(element):
            if entry < ORDER_ONLY:
                before = entry & INDEX
                if state[before] == FAILED or state[before] == CANCELLED:
                    return before
                if state[before] == SKIPPED:
                    return self.waiting[before]
        return None
