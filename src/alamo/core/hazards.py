"""Hazards: accesses in program order become the dependencies that keep its outcome.

Two elements keep their order iff they access one datum and at least one of them writes it.
Only nearest edges are made: a read waits for the last write of its datum; a write waits for
the reads since that write, or for that write if there were none.

    RAW and argument edges are DATA: if the predecessor fails, the successor cannot run.
    WAR, WAW and RAR edges are ORDER_ONLY: the successor waits, and runs whatever became of it.

A *join* is an element without work that stands for many predecessors; it takes an index just
before the element that needs it.  A data join has DATA edges only, an order join ORDER_ONLY
edges only, so failure passes through a join exactly when it should.

The client's compile loop calls this, one tracker a compile.  It never looks at data, and it
does not know tasks: elements are numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from alamo.core.access import READ, Channels, DataAccess, hash_error, one_by_one
from alamo.core.edges import ARGUMENT, ORDER_ONLY, WAW, Page
from alamo.core.regions import Regions, Table, listed
from alamo.core.summary import Inner

__all__ = ["HazardTracker"]

Accesses = tuple[DataAccess, ...]

_NO_OBJECT: Final = object()


class HazardTracker:
    """Infers the dependencies of one program, element by element in program order.

    Invariant: every edge goes from a lower to a higher index, so no cycle can exist.
    Shape: a accesses in total, c channels.   Cost: O(a) time, 0.5 us an access on a channel
    and 2 to 4 us on what has channels or files below it; about 150 bytes a channel.

    Example:
        >>> tracker = HazardTracker()
        >>> d = {}
        >>> write, read = DataAccess(d, "x", 1), DataAccess(d, "x", 0)
        >>> [tracker.add((), (write,)), tracker.add((read,), ()), tracker.add((), (write,))]
        [0, 1, 2]
        >>> array("I", tracker.drain().preds).tolist() == [0, 1 | ORDER_ONLY]
        True
    """

    __slots__ = (
        "_by_id",
        "_count",
        "_ends",
        "_enter",
        "_first",
        "_gap",
        "_joins",
        "_preds",
        "_readers",
        "_regions",
        "_writer",
    )

    def __init__(self) -> None:
        self._count = 0
        # The current page: its first element, and columns that lag behind by _gap elements.
        self._first = 0
        self._gap = 0
        self._ends: list[int] = []
        self._preds: list[int] = []
        self._joins: list[int] = []
        self._regions = Regions()
        # Its columns and memo, here to save a look-up an access.
        self._writer = self._regions.writer
        self._readers = self._regions.readers
        self._by_id = self._regions.by_id
        self._enter = self._regions.enter

    @property
    def count(self) -> int:
        """Elements so far, joins included: the index that comes next."""
        return self._count

    def add_plain(self, count: int = 1) -> int:
        """Add ``count`` elements without accesses and return the index of the first."""
        index = self._count
        self._count = index + count
        self._gap += count
        return index

    def add(self, reads: Accesses, writes: Accesses, inputs: Sequence[int] = ()) -> int:
        """Add one element, as ``add_all`` does, and return its index."""
        placed: list[int] = []
        self.add_all((reads,), (writes,), (inputs,), placed)
        return placed[0]

    def add_all(
        self,
        reads_of: Iterable[Accesses],
        writes_of: Iterable[Accesses],
        inputs_of: Iterable[Sequence[int]],
        placed: list[int],
    ) -> None:
        """Add elements with accesses; joins may come before each.

        An element's reads come before its writes; its inputs are elements whose results it takes.

        Args:
            placed: gets each element's index; after an error it holds those before the culprit.

        Raises:
            GraphError: a channel has no hash.
        """
        writer, readers = self._writer, self._readers
        by_id, enter = self._by_id, self._enter
        obj = _NO_OBJECT
        for reads, writes, inputs in zip(reads_of, writes_of, inputs_of):
            index = self._count
            edges = {p: p | ARGUMENT for p in inputs} if inputs else {}
            targets = []
            try:
                for access in reads + writes:
                    if access.obj is not obj:
                        obj = access.obj
                        table = by_id.get(id(obj)) or self._regions.table(obj)
                        get = table.ids.get
                    region = get(access.channel, -1)
                    if region < 0 and (region := enter(table, access.channel)) < 0:
                        break
                    w, r = writer[region], readers[region]
                    if access.mode is READ:
                        if w >= 0:
                            edges[w] = w
                        if r is None:
                            readers[region] = index
                        elif isinstance(r, list):
                            r.append(index)
                        else:
                            readers[region] = [r, index]
                        continue
                    if table.last_read > w and not self._regions.quiet_above(region, w):
                        break
                    targets.append(region)
                    if r is None:
                        if w >= 0 and w not in edges:
                            edges[w] = w | 0xC000_0000
                        continue
                    for x in r if isinstance(r, list) else (r,):
                        if x != index and x not in edges:
                            edges[x] = x | 0x8000_0000
                else:
                    for region in targets:
                        writer[region] = index
                        readers[region] = None
                    self._append(edges)
                    placed.append(index)
                    continue
                placed.append(self._add_slowly(reads, writes, inputs))
            except TypeError as error:
                raise hash_error((*reads, *writes), error) from error

    def add_join(self, before: Iterable[int]) -> int:
        """Add an element without work that needs all these and return its index."""
        return self._join({element: element | ARGUMENT for element in before})

    def drain(self) -> Page:
        """Return the elements added since the last drain and forget their edges."""
        first, joins = self._first, self._joins
        self._first = self._count
        self._joins = []
        ends = preds = b""
        if self._preds:
            self._ends.extend([len(self._preds)] * self._gap)
            ends = array("I", self._ends).tobytes()
            preds = array("I", self._preds).tobytes()
            self._ends = []
            self._preds = []
        self._gap = 0
        return Page(first, self._count - first, ends, preds, joins)

    def _append(self, edges: dict[int, int]) -> int:
        """Append the next element with the given predecessor entries to the page."""
        index = self._count
        self._count = index + 1
        if edges:
            preds = self._preds
            if self._gap:
                self._ends.extend([len(preds)] * self._gap)
                self._gap = 0
            preds.extend(edges.values())
            self._ends.append(len(preds))
        else:
            self._gap += 1
        return index

    def _join(self, edges: dict[int, int]) -> int:
        """Add a join with the given predecessor entries and return its index."""
        self._joins.append(self._count)
        return self._append(edges)

    # -- the general case: inner regions, several channels, domains --

    def _add_slowly(self, reads: Accesses, writes: Accesses, inputs: Sequence[int]) -> int:
        """Do what ``add`` does for every case, at 2 to 4 us an access: first look, then record.

        A join that is made while looking takes the index that ``add`` had begun to record.
        """
        self._take_back(reads)
        for access in (*reads, *writes):
            if access.channel.__class__ is Channels:
                return self.add(one_by_one(reads), one_by_one(writes), inputs)
        edges = {p: p | ARGUMENT for p in inputs}
        find = self._regions.table
        sources = [(find(access.obj), access.channel) for access in reads]
        targets = [(find(access.obj), access.channel) for access in writes]
        for table, channel in sources:
            self._look_for_read(table, channel, edges)
        for table, channel in targets:
            self._look_for_write(table, channel, edges)
        index = self._count
        for table, channel in sources:
            self._record_read(table, channel, index)
        for table, channel in targets:
            self._record_write(table, channel, index)
        return self._append(edges)

    def _take_back(self, reads: Accesses) -> None:
        """Remove the element being added from the readers of all that it reads."""
        index, readers = self._count, self._readers
        for access in reads:
            table = self._regions.table(access.obj)
            region = table.ids.get(access.channel)
            if region is None:
                inner = table.dirs.get(access.channel)
                if inner is None:
                    continue
                region = inner.region
            found = readers[region]
            if isinstance(found, list):
                while found and found[-1] == index:
                    found.pop()
            elif found == index:
                readers[region] = None

    def _look_for_read(self, table: Table, channel: Any, edges: dict[int, int]) -> None:
        """Add the writes that a read of ``channel`` sees to ``edges``."""
        if table.domain is not None:
            table.domain.look_for_read(channel, edges, self._join)
            return
        region, inner = self._regions.locate(table, channel)
        w = self._writer[region]
        if w >= 0:
            edges[w] = w
        if inner is not None:
            inner.collect(table.dirs, self._writer, self._join, edges)

    def _look_for_write(self, table: Table, channel: Any, edges: dict[int, int]) -> None:
        """Add the accesses that a write of ``channel`` must wait for to ``edges``."""
        if table.domain is not None:
            table.domain.look_for_write(channel, edges, self._join)
            return
        region, inner = self._regions.locate(table, channel)
        w = self._writer[region]
        found = listed(self._readers[region])
        if not found:
            if w >= 0:
                edges.setdefault(w, w | WAW)
        elif inner is None:
            for r in found:
                edges.setdefault(r, r | ORDER_ONLY)
        else:
            inner.reader_edges(found, -1, edges, self._join)
        if inner is not None:
            self._look_below(table, inner, found[-1] if found else -1, edges)
        above = self._regions.parent[region]
        while above is not None:
            # What these read before w is behind w already.
            found = listed(self._readers[above.region])
            above.reader_edges(found, w, edges, self._join)
            above = above.parent

    def _look_below(
        self, table: Table, top: Inner, newest_read: int, edges: dict[int, int]
    ) -> None:
        """Add the last accesses of every region below ``top``, which is about to be written.

        Cost: O(regions below); they are forgotten then, so it is O(1) an access in the long run.
        """
        writer, readers = self._writer, self._readers
        stack = [top]
        while stack:
            node = stack.pop()
            own = writer[node.region]
            stack.extend(table.dirs[node.keys[slot]] for slot in node.subs)
            for kid in node.kids:
                found = readers[kid]
                w = writer[kid]
                if found is None or found == []:
                    # A read of top since then has waited for w and is waited for.
                    if w != own and w > newest_read:
                        edges.setdefault(w, w | WAW)
                else:
                    for r in listed(found):
                        edges.setdefault(r, r | ORDER_ONLY)

    def _record_read(self, table: Table, channel: Any, index: int) -> None:
        """Make element ``index`` a reader of ``channel``."""
        if table.domain is not None:
            table.domain.record_read(channel, index)
            return
        region, inner = self._regions.locate(table, channel)
        found = self._readers[region]
        if inner is not None:
            table.last_read = index
        if found is None:
            self._readers[region] = index
        elif isinstance(found, list):
            found.append(index)
        else:
            self._readers[region] = [found, index]

    def _record_write(self, table: Table, channel: Any, index: int) -> None:
        """Make element ``index`` the last writer of ``channel`` and of all below it."""
        if table.domain is not None:
            table.domain.record_write(channel, index)
            return
        region = table.ids.get(channel, -1)
        if region < 0:
            inner = table.dirs.get(channel)
            if inner is None:
                # Forgotten in this element's write of a region above, which says as much.
                return
            region = inner.region
            self._regions.forget_below(table, inner)
        self._writer[region] = index
        self._readers[region] = None
        above = self._regions.parent[region]
        if above is not None and table.last_read >= 0:
            above.mark_changed(self._regions.slot[region])
