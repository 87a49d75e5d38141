"""The dependency graph in columns: order, levels, longest paths.

Elements are numbered in program order and every edge goes upwards, so program order is a
topological order and no function here needs to search for one.  The columns are those of
:class:`alamo.core.edges.Page`: ``pred_ends[i]`` says where the predecessors of element i end
in ``preds``; an entry of ``preds`` is an index and the kind of the edge, with ``ORDER_ONLY`` set
where the failure of the predecessor does not matter.  All functions are pure; the client calls
them at compile.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise, repeat
from operator import sub

from alamo.core.edges import INDEX, ORDER_ONLY, Page, indices_of
from alamo.errors import GraphError

__all__ = ["Dag", "check_columns", "critical_path", "levels", "ranks", "ranks_by_priority"]


def ranks(
    pred_ends: Sequence[int], preds: Sequence[int], n: int, joins: Collection[int] = ()
) -> array[int]:
    """Return for each element how many elements the longest path from it to an end holds.

    The element itself counts, a join does not: an element nobody waits for has rank 1.

    Shape: n elements, e edges.   Cost: O(n + e), 0.1 us an element and an edge.
    """
    rank = [1] * n
    for join in joins:
        rank[join] = 0
    light = frozenset(joins)
    counts = list(map(sub, pred_ends, chain((0,), pred_ends)))
    counts.reverse()
    # Edge by edge from the end: an element's rank is final once those behind it are through.
    elements = chain.from_iterable(map(repeat, range(n - 1, -1, -1), counts))
    for i, p in zip(elements, reversed(indices_of(array("I", preds)))):
        r = rank[i]
        if rank[p] <= r:
            rank[p] = r if p in light else r + 1
    return array("I", rank)


def ranks_by_priority(ranks: bytes, priorities: Mapping[int, int], n: int) -> array[int]:
    """Return ranks that put a higher priority first, and among equal ones the higher rank.

    Args:
        ranks: column of what :func:`ranks` gave; empty where all are alike.
        priorities: of elements with another one than 0.

    Shape: n elements.   Cost: O(n log n), 0.3 us an element.
    """
    paths = memoryview(ranks).cast("I") if ranks else repeat(1, n)
    keys = [(priorities.get(i, 0), path) for i, path in enumerate(paths)]
    places = {key: place for place, key in enumerate(sorted(set(keys)), 1)}
    return array("I", [places[key] for key in keys])


def levels(
    pred_ends: Sequence[int], preds: Sequence[int], n: int, joins: Collection[int] = ()
) -> array[int]:
    """Return for each element the length of the longest path that leads to it.

    Elements of one level can run side by side; level 0 waits for nothing.  A join counts
    nothing: it is one level below those that wait for it.

    Cost: O(n + e), as :func:`ranks`.
    """
    level = [0] * n
    light = frozenset(joins)
    start = 0
    for i, end in enumerate(pred_ends):
        if start != end:
            deepest = 0
            for entry in preds[start:end]:
                p = entry & INDEX
                above = level[p] + (p not in light)
                deepest = max(deepest, above)
            level[i] = deepest
            start = end
    return array("I", level)


def critical_path(
    pred_ends: Sequence[int], preds: Sequence[int], durations_s: Sequence[float]
) -> tuple[float, list[int]]:
    """Return the length of the longest path, weighed by durations, and its elements.

    No schedule can be shorter, however many workers there are.  Give joins a duration of 0.

    Cost: O(n + e).
    """
    finish: list[float] = []
    via: list[int] = []
    start = 0
    for end, duration_s in zip(pred_ends, durations_s, strict=True):
        ready, last = 0.0, -1
        for entry in preds[start:end]:
            p = entry & INDEX
            if finish[p] > ready or last < 0:
                ready, last = finish[p], p
        finish.append(ready + duration_s)
        via.append(last)
        start = end
    if not finish:
        return 0.0, []
    i = max(range(len(finish)), key=finish.__getitem__)
    length_s = finish[i]
    path = []
    while i >= 0:
        path.append(i)
        i = via[i]
    path.reverse()
    return length_s, path


def check_columns(pred_ends: Sequence[int], preds: Sequence[int], n: int) -> None:
    """Check that the columns are a graph of ``n`` elements without a cycle.

    Raises:
        GraphError: a column has a wrong length, or an element waits for itself, for a later
            one, or twice for one.
    """
    if len(pred_ends) != n or (n and pred_ends[n - 1] != len(preds)) or (not n and len(preds)):
        raise GraphError(f"the columns do not describe {n} elements and {len(preds)} edges")
    start = 0
    for i, end in enumerate(pred_ends):
        if end < start:
            raise GraphError(f"the predecessors of element {i} end before they begin")
        entries = [p & INDEX for p in preds[start:end]]
        if any(p >= i for p in entries):
            raise GraphError(f"element {i} waits for itself or a later one: {entries}")
        if len(set(entries)) != len(entries):
            raise GraphError(f"element {i} waits twice for one element: {entries}")
        start = end


class Dag:
    """A whole graph in columns, for tests, drawings and replays.

    Example:
        >>> dag = Dag.of([[], [0], [0 | ORDER_ONLY, 1]])
        >>> dag.edges()
        [(0, 1), (0, 2), (1, 2)]
        >>> dag.kind(0, 2), dag.kind(1, 2)
        ('order', 'data')
    """

    __slots__ = ("joins", "pred_ends", "preds")

    def __init__(self, pred_ends: array[int], preds: array[int], joins: Iterable[int] = ()) -> None:
        self.pred_ends = pred_ends
        self.preds = preds
        self.joins = frozenset(joins)

    @classmethod
    def of(cls, predecessors: Iterable[Iterable[int]], joins: Iterable[int] = ()) -> Dag:
        """Build a graph from each element's predecessor entries."""
        ends, preds = array("I"), array("I")
        for entries in predecessors:
            preds.extend(entries)
            ends.append(len(preds))
        return cls(ends, preds, joins)

    @classmethod
    def of_pages(cls, pages: Iterable[Page]) -> Dag:
        """Put the pages of one :class:`~alamo.core.hazards.HazardTracker` together."""
        ends, preds = array("I"), array("I")
        joins: list[int] = []
        for page in pages:
            base = len(preds)
            if page.preds:
                ends.extend([base + end for end in array("I", page.pred_ends)])
                preds.frombytes(page.preds)
            else:
                ends.extend([base] * page.count)
            joins.extend(page.joins)
        return cls(ends, preds, joins)

    def __len__(self) -> int:
        return len(self.pred_ends)

    def entries(self, i: int) -> array[int]:
        """Return the predecessor entries of element ``i``, flags included."""
        return self.preds[self.pred_ends[i - 1] if i else 0 : self.pred_ends[i]]

    def predecessors(self, i: int, *, data_only: bool = False) -> list[int]:
        """Return what element ``i`` waits for, ascending."""
        return sorted(p & INDEX for p in self.entries(i) if not (data_only and p & ORDER_ONLY))

    def edges(self) -> list[tuple[int, int]]:
        """Return all edges (predecessor, successor), sorted."""
        return sorted((p, i) for i in range(len(self)) for p in self.predecessors(i))

    def kind(self, p: int, i: int) -> str:
        """Return ``"data"`` or ``"order"`` for the edge from ``p`` to ``i``.

        Raises:
            GraphError: there is no such edge.
        """
        for entry in self.entries(i):
            if entry & INDEX == p:
                return "order" if entry & ORDER_ONLY else "data"
        raise GraphError(f"element {i} does not wait for element {p}")

    def sizes(self) -> Iterator[int]:
        """Yield the number of predecessors of each element."""
        return (end - start for start, end in pairwise((0, *self.pred_ends)))

    def ranks(self) -> array[int]:
        """Return :func:`ranks` of this graph."""
        return ranks(self.pred_ends, self.preds, len(self), self.joins)

    def levels(self) -> array[int]:
        """Return :func:`levels` of this graph."""
        return levels(self.pred_ends, self.preds, len(self), self.joins)

    def critical_path(self, durations_s: Sequence[float]) -> tuple[float, list[int]]:
        """Return :func:`critical_path` of this graph."""
        return critical_path(self.pred_ends, self.preds, durations_s)

    def check(self) -> None:
        """Check the columns, see :func:`check_columns`."""
        check_columns(self.pred_ends, self.preds, len(self))
