"""Hazards of communication objects in a domain of the user's own rules.

Every set of the four flags RAR, RAW, WAR, WAW has its exact meaning here: no edge is left out
because of a hazard that is switched off.  Such an object has two levels of regions, the object
and its channels.  The standard rules have a faster path of their own in
:mod:`alamo.core.hazards`, which calls this for the other fifteen sets.

What replaces what (y an access of region N, x an earlier one of N or below it):

- a write y replaces a write x if WAW orders them;
- a read y stands for a read x if RAR orders them;
- a write y stands for a read x if WAR orders them and y is ordered with all that x is.

Nothing else is ever forgotten; what piles up is kept in joins, so the edges stay linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from alamo.core.access import WHOLE, CommunicationDomain
from alamo.core.edges import ORDER_ONLY, WAW
from alamo.core.summary import JOIN_EDGES_MIN, Inner

__all__ = ["DomainHazards"]

_Join = Callable[[dict[int, int]], int]


class _Pile:
    """Elements that only become more, reached through one growing join.

    Invariant: all edges of its joins are of one kind, DATA or ORDER_ONLY.
    """

    __slots__ = ("_flag", "_join", "_loose", "_pays")

    def __init__(self, flag: int) -> None:
        self._flag = flag
        self._join = -1
        self._loose: list[int] = []
        self._pays = False

    def add(self, index: int) -> None:
        """Add an element, once."""
        if not self._loose or self._loose[-1] != index:
            self._loose.append(index)

    def clear(self) -> None:
        """Forget all elements."""
        self._join = -1
        self._loose = []

    def add_edges(self, flag: int, edges: dict[int, int], join: _Join) -> None:
        """Add edges of kind ``flag`` from all elements to ``edges``; data wins over order."""
        members = self._loose if self._join < 0 else [self._join, *self._loose]
        if len(self._loose) >= JOIN_EDGES_MIN:
            if self._pays:
                self._join = join({m: m | self._flag for m in members})
                self._loose = []
                members = [self._join]
            self._pays = True
        _merge(members, flag, edges)


class _LastWrites:
    """The writes of an object whose writes replace each other (WAW on): one a region."""

    __slots__ = ("_inner", "_region", "_writer")

    def __init__(self) -> None:
        self._forget(-1)

    def _forget(self, whole_writer: int) -> None:
        # The whole object is region 0; as in regions.py channels inherit its last write.
        self._writer = [whole_writer]
        self._inner = Inner(0, WHOLE, None, 0)
        self._region: dict[Any, int] = {}

    def add(self, channel: Any, index: int) -> None:
        """Let the write ``index`` of ``channel`` replace what was there."""
        if channel is WHOLE:
            self._forget(index)
            return
        region = self._region.get(channel)
        if region is None:
            region = self._region[channel] = len(self._writer)
            self._writer.append(index)
            self._inner.kids.append(region)
        self._writer[region] = index
        self._inner.mark_changed(region - 1)

    def add_edges(self, channel: Any, flag: int, edges: dict[int, int], join: _Join) -> None:
        """Add edges of kind ``flag`` from all that an access of ``channel`` meets."""
        found: dict[int, int] = {}
        w = self._writer[self._region.get(channel, 0)]
        if w >= 0:
            found[w] = w
        if channel is WHOLE:
            self._inner.collect({}, self._writer, join, found)
        _merge(found, flag, edges)


class _AllWrites:
    """The writes of an object whose writes do not replace each other (WAW off)."""

    __slots__ = ("_below", "_channels", "_whole")

    def __init__(self) -> None:
        self._whole = _Pile(0)
        self._below = _Pile(0)
        self._channels: dict[Any, _Pile] = {}

    def add(self, channel: Any, index: int) -> None:
        """Add the write ``index`` of ``channel``."""
        if channel is WHOLE:
            self._whole.add(index)
        else:
            _pile(self._channels, channel, 0).add(index)
            self._below.add(index)

    def add_edges(self, channel: Any, flag: int, edges: dict[int, int], join: _Join) -> None:
        """Add edges of kind ``flag`` from all that an access of ``channel`` meets."""
        self._whole.add_edges(flag, edges, join)
        if channel is WHOLE:
            self._below.add_edges(flag, edges, join)
        elif channel in self._channels:
            self._channels[channel].add_edges(flag, edges, join)


class DomainHazards:
    """The hazards of one communication object under one set of flags.

    Cost: 2 to 4 us an access.
    """

    __slots__ = ("_below_reads", "_reads", "_rules", "_whole_reads", "_write_clears", "_writes")

    def __init__(self, rules: CommunicationDomain) -> None:
        self._rules = rules
        # After a write y, a later write waits for y (WAW) and a later read waits for y (RAW).
        self._write_clears = rules.war and rules.waw and (rules.raw or not rules.rar)
        self._whole_reads = _Pile(ORDER_ONLY)
        self._below_reads = _Pile(ORDER_ONLY)
        self._reads: dict[Any, _Pile] = {}
        self._writes = _LastWrites() if rules.waw else _AllWrites()

    def look_for_read(self, channel: Any, edges: dict[int, int], join: _Join) -> None:
        """Add to ``edges`` what a read of ``channel`` must wait for."""
        if self._rules.raw:
            self._writes.add_edges(channel, 0, edges, join)
        if self._rules.rar:
            self._look_for_reads(channel, edges, join)

    def look_for_write(self, channel: Any, edges: dict[int, int], join: _Join) -> None:
        """Add to ``edges`` what a write of ``channel`` must wait for."""
        if self._rules.waw:
            self._writes.add_edges(channel, WAW, edges, join)
        if self._rules.war:
            self._look_for_reads(channel, edges, join)

    def record_read(self, channel: Any, index: int) -> None:
        """Make element ``index`` a reader of ``channel``."""
        if self._rules.rar:
            self._forget_reads(channel)
        if channel is WHOLE:
            self._whole_reads.add(index)
        else:
            _pile(self._reads, channel, ORDER_ONLY).add(index)
            self._below_reads.add(index)

    def record_write(self, channel: Any, index: int) -> None:
        """Make element ``index`` a writer of ``channel``."""
        if self._write_clears:
            self._forget_reads(channel)
        self._writes.add(channel, index)

    def _look_for_reads(self, channel: Any, edges: dict[int, int], join: _Join) -> None:
        self._whole_reads.add_edges(ORDER_ONLY, edges, join)
        if channel is WHOLE:
            self._below_reads.add_edges(ORDER_ONLY, edges, join)
        elif channel in self._reads:
            self._reads[channel].add_edges(ORDER_ONLY, edges, join)

    def _forget_reads(self, channel: Any) -> None:
        """Drop the reads that an access of ``channel`` stands for."""
        if channel is WHOLE:
            self._whole_reads.clear()
            self._below_reads.clear()
            self._reads.clear()
        else:
            # _below_reads keeps them: an order edge too many is still a true one.
            self._reads.pop(channel, None)


def _pile(piles: dict[Any, _Pile], channel: Any, flag: int) -> _Pile:
    """Return the pile of a channel, made at its first access."""
    pile = piles.get(channel)
    if pile is None:
        pile = piles[channel] = _Pile(flag)
    return pile


def _merge(found: Iterable[int], flag: int, edges: dict[int, int]) -> None:
    """Add edges of kind ``flag`` from ``found`` to ``edges``; data wins over order."""
    for p in found:
        if flag:
            edges.setdefault(p, p | flag)
        else:
            edges[p] = p
