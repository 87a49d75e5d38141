"""Ready elements of one program, in the order in which they should be dealt.

Two containers of one interface: a program without edges keeps ranges, so a million
elements cost as much as one; a program with edges keeps elements by rank, the longest
path to the end first and first come first served within a rank.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import repeat


class ReadyRanges:
    """Ready elements as ranges, first in first out.

    Example:
        >>> ready = ReadyRanges(); ready.add(range(0, 10)); ready.take(4), len(ready)
        (range(0, 4), 6)
    """

    __slots__ = ("_count", "_ranges")

    def __init__(self) -> None:
        self._ranges: deque[range] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, elements: Sequence[int]) -> None:
        """Add a range at the end.  Neighbours become one, so single tasks make chunks too."""
        assert isinstance(elements, range)
        ranges = self._ranges
        self._count += len(elements)
        if ranges and ranges[-1].stop == elements.start:
            ranges[-1] = range(ranges[-1].start, elements.stop)
        elif elements:
            ranges.append(elements)

    def give_back(self, elements: Sequence[int]) -> None:
        """Add a range that was dealt before in front: its elements are the oldest."""
        assert isinstance(elements, range)
        ranges = self._ranges
        self._count += len(elements)
        if ranges and elements.stop == ranges[0].start:
            ranges[0] = range(elements.start, ranges[0].stop)
        elif elements:
            ranges.appendleft(elements)

    def take(self, count: int) -> range:
        """Up to ``count`` of the oldest elements, which lie in one range."""
        first = self._ranges[0]
        if len(first) <= count:
            taken = self._ranges.popleft()
        else:
            taken = first[:count]
            self._ranges[0] = first[count:]
        self._count -= len(taken)
        return taken

    def remove(self, elements: Collection[int]) -> None:
        """Take out whichever of these are in here.  Cost: O(ranges + elements)."""
        gone = sorted(elements)
        if not gone or not self._ranges:
            return
        ranges: deque[range] = deque()
        for part in self._ranges:
            start = part.start
            for element in gone[bisect_left(gone, start) : bisect_left(gone, part.stop)]:
                if start < element:
                    ranges.append(range(start, element))
                start = element + 1
            if start < part.stop:
                ranges.append(range(start, part.stop))
        self._ranges = ranges
        self._count = sum(map(len, ranges))

    def head(self) -> int:
        """Orders it among others of its program: the first goes before what has a greater one."""
        return self._ranges[0].start

    def another(self) -> ReadyRanges:
        """An empty one for other elements of the program."""
        return ReadyRanges()

    def clear(self) -> None:
        """Forget all."""
        self._ranges.clear()
        self._count = 0

    def elements(self) -> Iterator[int]:
        """All of them in the order in which they are due."""
        for part in self._ranges:
            yield from part

    def before(self, element: int) -> int:
        """How many go before this one, which is among them.  Cost: O(ranges)."""
        count = 0
        for part in self._ranges:
            if element in part:
                return count + element - part.start
            count += len(part)
        return count


class ReadyRanks:
    """Ready elements by rank: a list a rank, and a heap of the ranks that have any.

    A heap of elements would cost 0.4 us a task; here a chunk takes a slice of a list.

    Args:
        ranks: a rank an element; ``None``: all are alike.

    Example:
        >>> ready = ReadyRanks([1, 7, 7]); ready.add([0, 1, 2]); ready.take(2), len(ready)
        ([1, 2], 1)
    """

    __slots__ = ("_buckets", "_count", "_order", "_ranks", "_taken")

    def __init__(self, ranks: Sequence[int] | None) -> None:
        self._ranks = ranks
        self._buckets: dict[int, list[int]] = {}
        #: rank -> how many in front of its list are gone: a list is not moved for each chunk.
        self._taken: dict[int, int] = {}
        self._order: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, elements: Sequence[int]) -> None:
        """Add elements, each behind those of its own rank.

        Cost: O(1) an element, O(log ranks) for the first of a rank.
        """
        self._count += len(elements)
        buckets = self._buckets
        ranks = repeat(0) if self._ranks is None else map(self._ranks.__getitem__, elements)
        for element, rank in zip(elements, ranks):
            bucket = buckets.get(rank)
            if bucket is None:
                buckets[rank] = [element]
                heappush(self._order, -rank)
            else:
                bucket.append(element)

    give_back = add

    def take(self, count: int) -> list[int]:
        """Up to ``count`` elements of the highest ranks."""
        elements: list[int] = []
        while count > 0 and self._order:
            rank = -self._order[0]
            bucket = self._buckets[rank]
            first = self._taken.get(rank, 0)
            part = bucket[first : first + count]
            elements += part
            count -= len(part)
            if first + len(part) < len(bucket):
                self._taken[rank] = first + len(part)
            else:
                heappop(self._order)
                del self._buckets[rank]
                self._taken.pop(rank, None)
        self._count -= len(elements)
        return elements

    def remove(self, elements: Collection[int]) -> None:
        """Take out whichever of these are in here.  Cost: O(ready elements of their ranks)."""
        gone = set(elements)
        ranks = {0} if self._ranks is None else {self._ranks[element] for element in gone}
        for rank in ranks & self._buckets.keys():
            bucket = self._buckets[rank][self._taken.pop(rank, 0) :]
            left = [element for element in bucket if element not in gone]
            self._count -= len(bucket) - len(left)
            if left:
                self._buckets[rank] = left
            else:
                del self._buckets[rank]
                self._order.remove(-rank)
                heapify(self._order)

    def head(self) -> int:
        """Orders it among others of its program: the first goes before what has a greater one."""
        return self._order[0]

    def another(self) -> ReadyRanks:
        """An empty one for other elements of the program."""
        return ReadyRanks(self._ranks)

    def clear(self) -> None:
        """Forget all."""
        self._buckets.clear()
        self._taken.clear()
        self._order.clear()
        self._count = 0

    def elements(self) -> Iterator[int]:
        """All of them in the order in which they are due."""
        for rank in sorted(self._buckets, reverse=True):
            yield from self._buckets[rank][self._taken.get(rank, 0) :]

    def before(self, element: int) -> int:
        """How many go before this one, which is among them.  Cost: O(ready elements)."""
        for count, other in enumerate(self.elements()):
            if other == element:
                return count
        return self._count
