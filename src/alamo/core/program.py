"""One program in the scheduler: its elements in columns, its edges, what is ready.

It knows what follows when elements end: who is ready now, who will never run and because of
whom.  It knows nothing of workers and chunks, and tells nobody: the scheduler asks.

Nothing runs before the program has started and it starts only when all its pages are
there, so a page may be taken in without looking at what has finished.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import chain, repeat
from operator import itemgetter, sub

from alamo.core.chunks import SIZE_MAX
from alamo.core.edges import INDEX, ORDER_ONLY, indices_of
from alamo.core.ready import ReadyRanges, ReadyRanks
from alamo.core.states import DEALT, DONE, FAILED, PENDING, SKIPPED
from alamo.errors import GraphError

#: Longest row of successors kept as a tuple.  The collector drops tuples of numbers from its
#: books but no list, and a million lists cost it more time than they took to build.
_TUPLE_MAX = 8

#: Least weight of the newest report in the mean run time.  One of many elements weighs more than
#: those before it of few: the first two, slow in cold caches, must not keep the chunks small.
_NEWEST_MIN = 0.3

_FIRST = itemgetter(0)


class Program:
    """Columns of one program.

    Attributes:
        state: one of ``core.states`` an element.
        waiting: unfinished predecessors an element, and the root once it is SKIPPED; empty
            while the program has no edge.
        successors: ``None``, one index or several, an element; empty likewise.
        joins: elements with nothing to run, which stand for many edges.
        gates: elements that stand for an array -> the program of its elements.
        held: joins, gates, and elements with a predecessor that failed or was skipped.  They
            are looked at one by one when they wait for nothing more, and no chunk is extended
            with them.
        opened: gates that have waited for nothing more since the scheduler looked last.
        gate: the program and element that this one's elements stand behind.
        spoiled: an element has failed, or will never come.
        skipped, roots: elements skipped since the scheduler told of them last, and why.
        unfinished: elements with no final state yet.
        queued: the scheduler has it in its queue.
        paused: nothing of it is dealt.
        chunk_max: elements that a chunk may have, less once one was too large to be sent.
        mean_s: run time of an element, ``None`` before the first report.

    Memory: 1 byte an element without edges; about 90 bytes with two edges an element.
    """

    __slots__ = (
        "_measured",
        "_pages",
        "chunk_max",
        "count",
        "depth",
        "dropped",
        "gate",
        "gates",
        "growing",
        "held",
        "joins",
        "mean_s",
        "number",
        "opened",
        "paused",
        "queued",
        "ready",
        "roots",
        "skipped",
        "sort_key",
        "spoiled",
        "started",
        "state",
        "successors",
        "unfinished",
        "waiting",
    )

    def __init__(self, number: int, depth: int, arrival: int, growing: bool = False) -> None:
        self.number = number
        self.depth = depth
        #: Deeper programs first: their parents hold a slot until they are done.
        self.sort_key = (-depth, arrival)
        self.count = 0
        self.unfinished = 0
        self.state = bytearray()
        self.waiting: list[int] = []
        self.successors: list[int | Sequence[int] | None] = []
        self.joins: set[int] = set()
        self.gates: dict[int, int] = {}
        self.opened: list[int] = []
        self.gate: tuple[Program, int] | None = None
        self.spoiled = False
        self.held: set[int] = set()
        self.skipped: list[int] = []
        self.roots: list[int] = []
        self.ready: ReadyRanges | ReadyRanks = ReadyRanges()
        self.started = False
        self.dropped = False
        #: More pages may come although it has started.
        self.growing = growing
        self.queued = False
        self.paused = False
        self.mean_s: float | None = None
        self.chunk_max = SIZE_MAX
        self._measured = 0
        self._pages: list[tuple[int, memoryview, memoryview]] = []

    @property
    def has_edges(self) -> bool:
        """Whether elements may have predecessors."""
        return bool(self._pages)

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to do, nor will be."""
        return self.unfinished == 0 and not self.growing and (self.started or self.dropped)

    # -- before it starts ---------------------------------------------------------

    def add_page(
        self,
        count: int,
        pred_ends: bytes | memoryview,
        preds: bytes | memoryview,
        joins: Sequence[int] = (),
        gates: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take in the next ``count`` elements.  Cost: O(count + edges), O(1) without edges.

        Raises:
            GraphError: an element has a predecessor that is not before it, or a join is not
                in the page; the program is as it was.
        """
        first = self.count
        if len(pred_ends) or joins or gates:
            if joins and not first <= min(joins) <= max(joins) < first + count:
                raise GraphError("joins of a page that are not in it")
            ends = memoryview(pred_ends if len(pred_ends) else bytes(4 * count)).cast("B").cast("I")
            edges = memoryview(preds).cast("B").cast("I")
            self._link(first, count, ends.tolist(), edges)
            self._pages.append((first, ends, edges))
            self.joins.update(joins)
            self.held.update(joins)
            self.gates.update(gates)
            self.held.update([element for element, _ in gates])
        elif self._pages:
            self.waiting.extend(repeat(0, count))
            self.successors.extend(repeat(None, count))
        self.count += count
        self.unfinished += count
        self.state.extend(bytes(count))

    def _link(self, first: int, count: int, ends: list[int], edges: memoryview) -> None:
        """Enter each element with its predecessors.  Cost: 0.2 us an edge."""
        counts = list(map(sub, ends, chain((0,), ends)))
        if count and min(counts) < 0:
            raise GraphError("predecessors of a page that end before they begin")
        if not self._pages:
            self.waiting = [0] * first
            self.successors = [None] * first
        successors = self.successors
        successors.extend(repeat(None, count))
        elements = chain.from_iterable(map(repeat, range(first, first + count), counts))
        for before, element in zip(indices_of(edges), elements):
            if before >= element:
                self._unlink(first)
                raise GraphError(f"element {element} with {before} as a predecessor")
            after = successors[before]
            if after is None:
                successors[before] = element
            elif after.__class__ is int:
                successors[before] = (after, element)
            elif after.__class__ is list:
                after.append(element)
            elif len(after) < _TUPLE_MAX:  # type: ignore[arg-type]
                successors[before] = (*after, element)  # type: ignore[misc]
            else:
                successors[before] = [*after, element]  # type: ignore[misc]

        self.waiting += counts

    def _unlink(self, first: int) -> None:
        """Take elements from ``first`` on out of the rows again."""
        del self.successors[first:]
        for element in range(first):
            after = [other for other in self.successors_of(element) if other < first]
            self.successors[element] = after if len(after) > _TUPLE_MAX else tuple(after) or None

    def start(self, ranks: bytes | memoryview) -> None:
        """Let the program run: collect what is ready from the beginning."""
        self.started = True
        if not self._pages:
            self.ready.add(range(self.count))
            return
        self.ready = ReadyRanks(memoryview(ranks).cast("B").cast("I") if len(ranks) else None)
        self._release([element for element, n in enumerate(self.waiting) if not n])

    def grow(self, count: int) -> None:
        """Take in elements while the program runs; there must be no edges."""
        assert self.started
        assert not self._pages
        first = self.count
        self.add_page(count, b"", b"")
        self.ready.add(range(first, self.count))

    # -- while it runs ------------------------------------------------------------

    def finish_whole(self, elements: Sequence[int], outside: dict[int, int]) -> None:
        """All elements of a chunk succeeded: count its outside dependents down in one walk."""
        self.unfinished -= len(elements)
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
            self._release(free)

    def finish(self, elements: Sequence[int], failed: Collection[int] = ()) -> None:
        """Elements ended, those of ``failed`` with an error: walk the successors of each."""
        state = self.state
        self.unfinished -= len(elements)
        self.spoiled = self.spoiled or bool(failed)
        if isinstance(elements, range) and not self._pages:
            state[elements.start : elements.stop] = bytes((DONE,)) * len(elements)
            for element in failed:
                state[element] = FAILED
            return
        free: list[int] = []
        for element in elements:
            if element in failed:
                state[element] = FAILED
                self.held.update(self.successors_of(element))
            else:
                state[element] = DONE
            free += self._count_down(element)
        self._release(free)

    def give_back(self, elements: Sequence[int]) -> None:
        """Dealt elements that will not run where they are: ready again, or they wait again."""
        state = self.state
        if isinstance(elements, range):
            state[elements.start : elements.stop] = bytes((PENDING,)) * len(elements)
        else:
            for element in elements:
                state[element] = PENDING
        if self.dropped:
            return
        if self._pages:
            waiting = self.waiting
            self._release([element for element in elements if not waiting[element]])
        else:
            self.ready.give_back(elements)

    def mark_dealt(self, elements: range) -> None:
        """Neighbours go to a worker; what has edges is marked as a chunk is made of it."""
        self.state[elements.start : elements.stop] = bytes((DEALT,)) * len(elements)

    def drop(self) -> None:
        """What has not begun never will."""
        self.dropped = True
        self.growing = False
        self.ready.clear()

    def settle_dropped(self) -> None:
        """A dropped program is done as soon as none of its elements is at a worker."""
        if DEALT not in self.state:
            self.unfinished = 0

    def measured(self, count: int, elapsed_s: float) -> None:
        """Fold ``count`` elements that took ``elapsed_s`` together into the mean."""
        mean_s = elapsed_s / count
        weight = max(_NEWEST_MIN, count / (count + self._measured))
        self._measured += count
        self.mean_s = mean_s + (1.0 - weight) * ((self.mean_s or 0.0) - mean_s)

    def successors_of(self, element: int) -> Sequence[int]:
        """Elements with an edge from this one."""
        if not self.successors:
            return ()
        after = self.successors[element]
        if after is None:
            return ()
        return (after,) if isinstance(after, int) else after

    def _count_down(self, element: int) -> list[int]:
        """One predecessor less for each successor; those that now wait for nothing.

        A successor in a chunk at a worker is not free: it runs there, behind this one.
        """
        free = []
        waiting, state = self.waiting, self.state
        for other in self.successors_of(element):
            left = waiting[other] - 1
            waiting[other] = left
            if not left and state[other] == PENDING:
                free.append(other)
        return free

    def _release(self, free: list[int]) -> None:
        """Elements without unfinished predecessors become ready, or end here.

        Joins and elements that depend on a failure have nothing to run; what they
        free in turn is handled in the same loop, so a chain of a million is no recursion.
        """
        if self.dropped:
            return
        held = self.held
        if not held:
            self.ready.add(free)
            return
        ready = []
        stack = free[::-1]
        while stack:
            element = stack.pop()
            if element not in held:
                ready.append(element)
                continue
            held.discard(element)
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
        self.ready.add(ready)

    def _root(self, element: int) -> int | None:
        """The failure because of which the element cannot run.  Cost: O(its predecessors)."""
        first, ends, edges = self._pages[bisect_right(self._pages, element, key=_FIRST) - 1]
        k = element - first
        state = self.state
        for entry in edges[ends[k - 1] if k else 0 : ends[k]]:
            if entry < ORDER_ONLY:
                before = entry & INDEX
                if state[before] == FAILED:
                    return before
                if state[before] == SKIPPED:
                    return self.waiting[before]
        return None

    def check(self) -> None:
        """Assert the invariants that need no knowledge of chunks."""
        state, waiting = self.state, self.waiting
        open_ = {e for e, s in enumerate(state) if s < DONE}
        assert len(state) == self.count
        assert self.unfinished == len(open_)
        ready = set(self.ready.elements())
        assert len(ready) == len(self.ready)
        if not self.started or self.dropped:
            assert not ready
        elif waiting:
            free = {e for e in open_ if state[e] == PENDING and not waiting[e]}
            assert ready == free, (ready, free)
            assert self.held.isdisjoint(free)
        else:
            assert ready == {e for e in open_ if state[e] == PENDING}
        for first, ends, edges in self._pages:
            for k, end in enumerate(ends):
                if state[first + k] < DONE:
                    # Once in a chunk that finishes as a whole the counts stay as they were.
                    before = edges[ends[k - 1] if k else 0 : end].tolist()
                    left = sum([e & INDEX in open_ for e in before])
                    assert waiting[first + k] == left, (first + k, before)
        assert not any(state[e] in (DEALT, FAILED) for e in self.joins)
