"""The columns of one program: what its client has sent, and how it stands with each element."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING

from alamo.core.chunks import SIZE_MAX, Paced
from alamo.core.lanes import Lanes
from alamo.core.links import link
from alamo.core.ready import ReadyRanges, ReadyRanks
from alamo.core.term_table import TermTable
from alamo.core.terms import DEFAULT_TERMS, Terms
from alamo.errors import GraphError

if TYPE_CHECKING:
    from alamo.core.program import Program

_FIRST = itemgetter(0)


class ProgramColumns(Paced):
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
        spoiled: an element has failed or was cancelled, or will never come.
        skipped, roots: elements skipped since the scheduler told of them last, and why.
        cancelled: likewise, those that were cancelled.
        cancelling: elements at workers that shall be cancelled if they come back.
        called_off: all of it was cancelled, with what is still to come.
        attempts: how often elements have failed that were tried again; resting: those of them
            that wait before the next attempt -> until when.
        unfinished: elements with no final state yet.
        ready: elements that could run and need one core and no more; the others are in lanes.
        table: the terms of its elements; ``None``: all have the default.
        queued: the scheduler has the ready ones in its queue.
        paused: nothing of it is dealt.
        chunk_max: elements that a chunk may have, less once one was too large to be sent.

    Memory: 1 byte an element without edges; about 90 bytes with two edges an element.
    """

    __slots__ = (
        "_pages",
        "attempts",
        "called_off",
        "cancelled",
        "cancelling",
        "chunk_max",
        "count",
        "depth",
        "dropped",
        "gate",
        "gates",
        "growing",
        "held",
        "joins",
        "lanes",
        "number",
        "opened",
        "paused",
        "queued",
        "ready",
        "resting",
        "roots",
        "skipped",
        "sort_key",
        "spoiled",
        "started",
        "state",
        "successors",
        "table",
        "unfinished",
        "waiting",
    )

    def __init__(
        self, number: int, depth: int, arrival: int, growing: bool = False, priority: int = 0
    ) -> None:
        super().__init__()
        self.number = number
        self.depth = depth
        #: Deeper programs first: their parents hold a slot until they are done.
        self.sort_key = (-depth, -priority, arrival)
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
        self.cancelled: list[int] = []
        self.cancelling: set[int] = set()
        self.called_off = False
        self.attempts: dict[int, int] = {}
        self.resting: dict[int, float] = {}
        self.ready: ReadyRanges | ReadyRanks = ReadyRanges()
        self.lanes: Lanes | None = None
        self.table: TermTable | None = None
        self.started = False
        self.dropped = False
        #: More pages may come although it has started.
        self.growing = growing
        self.queued = False
        self.paused = False
        self.chunk_max = SIZE_MAX
        self._pages: list[tuple[int, memoryview, memoryview]] = []

    @property
    def has_edges(self) -> bool:
        """Whether elements may have predecessors."""
        return bool(self._pages)

    # -- before it starts ---------------------------------------------------------

    def add_page(
        self,
        count: int,
        pred_ends: bytes | memoryview,
        preds: bytes | memoryview,
        joins: Sequence[int] = (),
        gates: Sequence[tuple[int, int]] = (),
        terms: int | bytes = 0,
    ) -> None:
        """Take in the next ``count`` elements.  Cost: O(count + edges), O(1) without edges.

        Raises:
            GraphError: an element has a predecessor that is not before it, a join is not in
                the page, or its terms are not defined; the program is as it was.
        """
        first = self.count
        if terms.__class__ is not int or terms or self.table is not None:
            self._enter_terms(first, count, terms)
        if len(pred_ends) or joins or gates:
            if joins and not first <= min(joins) <= max(joins) < first + count:
                raise GraphError("joins of a page that are not in it")
            ends = memoryview(pred_ends if len(pred_ends) else bytes(4 * count)).cast("B").cast("I")
            edges = memoryview(preds).cast("B").cast("I")
            link(self, first, count, ends.tolist(), edges)
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

    def _enter_terms(self, first: int, count: int, terms: int | bytes) -> None:
        table = self.table or TermTable()
        table.add_page(first, count, terms)
        self.table = table
        if self.started and self.lanes is None and table.has_needs:
            self.lanes = Lanes(table, self.ready)

    def define_terms(self, number: int, terms: Terms) -> None:
        """Elements may refer to these terms from now on.

        Raises:
            GraphError: the number is not the next one.
        """
        self.table = self.table or TermTable()
        self.table.define(number, terms)

    # -- questions ----------------------------------------------------------------

    def terms_of(self, element: int) -> Terms:
        """What the element asks for."""
        return DEFAULT_TERMS if self.table is None else self.table.of(element)

    def retries_left(self, element: int) -> int:
        """How often the element may run again if it fails now; 0 once it is to be cancelled."""
        if self.table is None or self.called_off or self.dropped or element in self.cancelling:
            return 0
        return max(0, self.table.of(element).retries - self.attempts.get(element, 0))

    def successors_of(self, element: int) -> Sequence[int]:
        """Elements with an edge from this one."""
        if not self.successors:
            return ()
        after = self.successors[element]
        if after is None:
            return ()
        return (after,) if isinstance(after, int) else after

    def rows(self) -> Iterator[tuple[int, list[list[int]]]]:
        """Pages with edges: the first element, and the predecessors of each; for checks."""
        for first, ends, edges in self._pages:
            yield (
                first,
                [edges[ends[k - 1] if k else 0 : end].tolist() for k, end in enumerate(ends)],
            )

    def predecessors_of(self, element: int) -> Sequence[int]:
        """Entries of its predecessors, as in its page; none where it has none."""
        k = bisect_right(self._pages, element, key=_FIRST) - 1
        if k < 0:
            return ()
        first, ends, edges = self._pages[k]
        k = element - first
        return edges[ends[k - 1] if k else 0 : ends[k]] if k < len(ends) else ()
