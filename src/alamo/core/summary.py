"""Inner regions: what lies below a directory or a whole object, in few edges.

A read of such a region waits for every last write below it, a write below it for every read
of it.  Given as they are, k reads after n writes would be k * n edges; here they are joins.
This module knows no accesses; :mod:`alamo.core.regions` keeps the tree of regions, and
:mod:`alamo.core.domains` uses it for objects in a domain of the user's own rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

from alamo.core.edges import ORDER_ONLY

__all__ = ["JOIN_EDGES_MIN", "Inner"]

#: Fewer edges than this are not worth an element of their own: a join costs the manager as much
#: as a few edges, and everyone behind it waits for it.
JOIN_EDGES_MIN: Final = 8

#: Children under one node of the summary tree: 2**4, so that one changed writer among n makes
#: 16 * log16(n) new edges and a full rebuild n * 16/15.
_FANOUT_BITS: Final = 4
_FANOUT: Final = 1 << _FANOUT_BITS

#: States of a summary node without a summary.
_CHANGED: Final = -1
_SEEN_ONCE: Final = -2


class Inner:
    """A region with regions below it, and what is known of them together.

    The writers below are summarised by a tree of data joins, 16 children a node, over the
    slots of the children.  A node gets a join (or keeps its edges, if they are few) when it is
    read twice unchanged, and loses it when a writer below changes, so a join never holds a
    write that was replaced.
    """

    __slots__ = (
        "clean",
        "join",
        "join_covers",
        "join_pays",
        "key",
        "keys",
        "kids",
        "levels",
        "parent",
        "region",
        "slot",
        "subs",
    )

    def __init__(self, region: int, key: Any, parent: Inner | None, slot: int) -> None:
        self.region = region
        self.key = key
        self.parent = parent
        #: Position among the parent's children.
        self.slot = slot
        self.kids: list[int] = []
        #: Channels of the children, needed where one table holds several directories.
        self.keys: list[Any] = []
        #: Slots of the children that are inner themselves.  Numbers, as references would close
        #: a cycle, and a tracker must go without the garbage collector.
        self.subs: set[int] = set()
        #: Summary nodes, finest level first; each _CHANGED, _SEEN_ONCE, or the few edges that
        #: stand for all writers below it.  Empty until the region is read for the first time.
        self.levels: list[list[int | tuple[int, ...]]] = []
        #: No write below since the last summary; where false it is false of all above.
        self.clean = True
        #: Order join of the first ``join_covers`` readers of this region, or -1.
        self.join = -1
        self.join_covers = 0
        #: The readers have been listed once already, so a join will be used again.
        self.join_pays = False

    def mark_changed(self, slot: int) -> None:
        """Drop the joins that hold the writer of the child in ``slot``, here and above.

        Cost: O(depth + log(children)) for the first write after a summary, O(1) for others.
        """
        node: Inner | None = self
        while node is not None:
            was_clean = node.clean
            node.clean = False
            k = slot
            if node.levels:
                node._fit()
                for level in node.levels:
                    k >>= _FANOUT_BITS
                    level[k] = _CHANGED
            if not was_clean:
                # Everything above has been marked since its last summary; only new slots here.
                return
            slot = node.slot
            node = node.parent

    def collect(
        self,
        dirs: Mapping[Any, Inner],
        writer: list[int],
        join: Callable[[dict[int, int]], int],
        out: dict[int, int],
    ) -> None:
        """Add every write visible below this region to ``out``, through joins where they pay.

        Args:
            dirs: inner regions by channel.
            writer: the tracker's column of last writers.
            join: makes a data join of the given edges and returns its index.
            out: data edges, predecessor -> predecessor.

        Cost: O(changed children * log(children)), at most O(children below).
        """
        self.clean = True
        if self.kids:
            self._fit()
            self._collect_node(len(self.levels) - 1, 0, dirs, writer, join, out)

    def reader_edges(
        self,
        found: list[int],
        after: int,
        edges: dict[int, int],
        join: Callable[[dict[int, int]], int],
    ) -> None:
        """Add the readers of this region that are newer than ``after``, in few edges.

        The first long list is given as it is; from the second on a join stands for it, and
        further readers join that join.

        Args:
            found: the readers of this region since its last write, ascending.
            join: makes an order join of the given edges and returns its index.
        """
        if not found or found[-1] <= after:
            return
        first = bisect_right(found, after)
        if len(found) - first >= JOIN_EDGES_MIN:
            if len(found) - self.join_covers >= JOIN_EDGES_MIN and self.join_pays:
                members = {r: r | ORDER_ONLY for r in found[self.join_covers :]}
                if self.join >= 0:
                    members[self.join] = self.join | ORDER_ONLY
                self.join = join(members)
                self.join_covers = len(found)
            self.join_pays = True
            if first < self.join_covers:
                edges.setdefault(self.join, self.join | ORDER_ONLY)
                first = self.join_covers
        for r in found[first:]:
            edges.setdefault(r, r | ORDER_ONLY)

    def _collect_node(
        self,
        depth: int,
        k: int,
        dirs: Mapping[Any, Inner],
        writer: list[int],
        join: Callable[[dict[int, int]], int],
        out: dict[int, int],
    ) -> None:
        level = self.levels[depth]
        state = level[k]
        if isinstance(state, tuple):
            for p in state:
                out[p] = p
            return
        edges = out if state == _CHANGED else {}
        if depth:
            below = len(self.levels[depth - 1])
            for child in range(k << _FANOUT_BITS, min((k + 1) << _FANOUT_BITS, below)):
                self._collect_node(depth - 1, child, dirs, writer, join, edges)
        else:
            self._collect_kids(k, dirs, writer, join, edges)
        if state == _CHANGED:
            level[k] = _SEEN_ONCE
        else:
            level[k] = few = tuple(edges) if len(edges) < JOIN_EDGES_MIN else (join(edges),)
            for p in few:
                out[p] = p

    def _collect_kids(
        self,
        k: int,
        dirs: Mapping[Any, Inner],
        writer: list[int],
        join: Callable[[dict[int, int]], int],
        out: dict[int, int],
    ) -> None:
        own = writer[self.region]
        start = k << _FANOUT_BITS
        for slot, kid in enumerate(self.kids[start : start + _FANOUT], start):
            w = writer[kid]
            if w != own:
                out[w] = w
            if slot in self.subs:
                dirs[self.keys[slot]].collect(dirs, writer, join, out)

    def _fit(self) -> None:
        """Give every child a place in the summary tree, under one root node."""
        levels = self.levels
        count = len(self.kids)
        for depth in range(64):
            count = (count + _FANOUT - 1) >> _FANOUT_BITS
            if depth == len(levels):
                levels.append([])
            level = levels[depth]
            if len(level) < count:
                level.extend([_CHANGED] * (count - len(level)))
            if count <= 1:
                return
