"""Regions: the tree of data that accesses touch, and joins over its inner nodes.

A communication object is a tree of two levels (the object, its channels), all paths together
are one tree of directories.  A leaf region lives in a table's ``ids`` and in the tracker's
columns only; a region that has regions below it is also an :class:`Inner`.

    FILES: /  (Inner)                  a DDict:  WHOLE (Inner once a channel is named)
           +- /data  (Inner)                     +- channel 1
              +- /data/x                         +- channel 2

What is kept of each region n, in program order:

- ``writer[n]``: the last write of n's own cell, that is of n *or of a region above it*.  A new
  region inherits its parent's writer and a write forgets every region below it, so one look
  answers "whose data does a read of n see at n".
- ``readers[n]``: reads of exactly n since then; None, one index, or a list (inner: a list).

This module knows no accesses and makes no decisions on hazards; :mod:`alamo.core.hazards` does.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

from alamo.core.access import (
    FILES,
    WHOLE,
    Channels,
    CommunicationDomain,
    CommunicationObject,
    datum_key,
)
from alamo.core.domains import DomainHazards
from alamo.core.summary import Inner

__all__ = ["Readers", "Regions", "Table", "listed"]

#: Objects known by id at a time; programs that make a new equal object for each access must
#: not grow the memo with every one.
_KNOWN_OBJECTS_MAX: Final = 65_536

_STANDARD: Final = CommunicationDomain()

#: Most objects have no inner region; each that gets one gets a dict of its own.
_NO_DIRS: Final[dict[Any, Inner]] = {}

Readers = int | list[int] | None


class Table:
    """The regions of one communication object."""

    __slots__ = ("dirs", "domain", "holds_paths", "ids", "last_read", "obj", "whole")

    def __init__(self, obj: Any) -> None:
        self.holds_paths = obj is FILES
        #: Kept alive, so that no other object can take its id.
        self.obj = obj
        #: Leaf regions by channel.
        self.ids: dict[Any, int] = {}
        #: Inner regions by channel; a channel is in ``ids`` or here, never in both.
        self.dirs: dict[Any, Inner] = _NO_DIRS
        #: The newest read of an inner region, or -1.  A write of a leaf whose last write is
        #: newer has nothing to learn from the regions above it.
        self.last_read = -1
        #: The hazards of an object in a domain of its own rules, else None.
        self.domain: DomainHazards | None = None
        #: The inner region WHOLE, once an object has channels.
        self.whole: Inner | None = None


class Regions:
    """All regions of one program: columns by dense region number, tables by object.

    Cost: about 150 bytes a region.
    """

    __slots__ = ("_by_key", "_free", "_known", "by_id", "parent", "readers", "slot", "writer")

    def __init__(self) -> None:
        self.writer: list[int] = []
        self.readers: list[Readers] = []
        self.parent: list[Inner | None] = []
        #: Position among the parent's children.
        self.slot = array("I")
        self._free: list[int] = []
        #: Tables by the id of an object, a memo; and by the object's key, for good.
        self.by_id: dict[int, Table] = {}
        self._known: list[Any] = []
        self._by_key: dict[Any, Table] = {}

    def table(self, obj: Any) -> Table:
        """Return the table of ``obj``, made at its first access."""
        table = self.by_id.get(id(obj))
        if table is not None:
            return table
        key = datum_key(obj)
        table = self._by_key.get(key)
        if table is None:
            table = self._by_key[key] = Table(obj)
            if table.holds_paths:
                table.ids["/"] = self._new_region(None)
            elif isinstance(obj, CommunicationObject) and obj.domain != _STANDARD:
                table.domain = DomainHazards(obj.domain)
        if len(self._known) >= _KNOWN_OBJECTS_MAX:
            self.by_id.clear()
            self._known.clear()
        self.by_id[id(obj)] = table
        self._known.append(obj)
        return table

    def locate(self, table: Table, channel: Any) -> tuple[int, Inner | None]:
        """Return the region of ``channel``, made if need be, and its Inner if it has one."""
        region = table.ids.get(channel)
        if region is not None:
            return region, None
        inner = table.dirs.get(channel)
        if inner is not None:
            return inner.region, inner
        self.enter(table, channel)
        return table.ids[channel], None

    def enter(self, table: Table, channel: Any) -> int:
        """Make a leaf region for a channel that is not in ``ids`` and return it.

        Returns -1 if this is no single leaf, or if a leaf has become inner for it.
        """
        parent = table.whole
        if parent is not None and channel is not WHOLE and channel.__class__ is not Channels:
            # The one case that is hot: one more channel of an object.
            if self._free:
                region = table.ids[channel] = self._new_region(parent)
                return region
            region = table.ids[channel] = len(self.writer)
            self.writer.append(self.writer[parent.region])
            self.readers.append(None)
            self.parent.append(parent)
            self.slot.append(len(parent.kids))
            parent.kids.append(region)
            return region
        if channel in table.dirs or channel.__class__ is Channels or table.domain is not None:
            return -1
        if channel is WHOLE:
            region = table.ids[WHOLE] = self._new_region(None)
            return region
        name = channel.rpartition("/")[0] or "/" if table.holds_paths else WHOLE
        parent = table.dirs.get(name)
        opened = False
        if parent is None:
            parent, opened = self._directory(table, name)
        if table.holds_paths:
            parent.keys.append(channel)
        region = table.ids[channel] = self._new_region(parent)
        return -1 if opened else region

    def quiet_above(self, region: int, w: int) -> bool:
        """Whether no region above this leaf was read since ``w``, the leaf's last write.

        Then a write of it has nothing to wait for above, and no summary there to change: a
        summary is made by a read, and what was written since has been marked in it.

        Cost: O(depth).
        """
        above = self.parent[region]
        while above is not None:
            found = self.readers[above.region]
            if isinstance(found, list) and found and found[-1] > w:
                return False
            above = above.parent
        return True

    def _new_region(self, parent: Inner | None) -> int:
        """Make a region that inherits the last write of its parent."""
        if parent is None:
            w, slot = -1, 0
        else:
            w, slot = self.writer[parent.region], len(parent.kids)
        if self._free:
            region = self._free.pop()
            self.writer[region] = w
            self.readers[region] = None
            self.parent[region] = parent
            self.slot[region] = slot
        else:
            region = len(self.writer)
            self.writer.append(w)
            self.readers.append(None)
            self.parent.append(parent)
            self.slot.append(slot)
        if parent is not None:
            parent.kids.append(region)
        return region

    def _directory(self, table: Table, name: Any) -> tuple[Inner, bool]:
        """Make the inner region ``name``, with all directories above it.

        Returns it, and whether that was a leaf, or one above it was.
        """
        missing = [name]
        while table.holds_paths and name not in table.ids:
            name = name.rpartition("/")[0] or "/"
            if name in table.dirs:
                break
            missing.append(name)
        opened = name in table.ids
        for name in reversed(missing):
            if name not in table.ids:
                parent = None
                if table.holds_paths:
                    parent = table.dirs[name.rpartition("/")[0] or "/"]
                    parent.keys.append(name)
                table.ids[name] = self._new_region(parent)
            inner = self._make_inner(table, name)
        return inner, opened

    def _make_inner(self, table: Table, channel: Any) -> Inner:
        """Let a leaf have regions below it."""
        region = table.ids.pop(channel)
        parent = self.parent[region]
        if table.dirs is _NO_DIRS:
            table.dirs = {}
        inner = table.dirs[channel] = Inner(region, channel, parent, self.slot[region])
        if channel is WHOLE:
            table.whole = inner
        if parent is not None:
            parent.subs.add(inner.slot)
        found = self.readers[region] = listed(self.readers[region])
        if found and found[-1] > table.last_read:
            table.last_read = found[-1]
        return inner

    def forget_below(self, table: Table, top: Inner) -> None:
        """Make ``top`` a leaf again: what was below is replaced by the write of ``top``."""
        stack = [top]
        while stack:
            node = stack.pop()
            self._free.extend(node.kids)
            if not table.holds_paths:
                table.ids.clear()
                continue
            stack.extend(table.dirs[node.keys[slot]] for slot in node.subs)
            for key in node.keys:
                if table.ids.pop(key, None) is None:
                    del table.dirs[key]
        table.whole = None
        del table.dirs[top.key]
        table.ids[top.key] = top.region
        if top.parent is not None:
            top.parent.subs.remove(top.slot)


def listed(readers: Readers) -> list[int]:
    """Return the readers of a region as a list."""
    if readers is None:
        return []
    return readers if isinstance(readers, list) else [readers]
