"""Finding the element of a uid where uids are out of sequence."""

from __future__ import annotations

from array import array
from bisect import bisect_left


class UidIndex:
    """Uids sorted, each with its element.

    Memory: 12 bytes an element.
    """

    def __init__(self, uids: array[int]) -> None:
        order = sorted(range(len(uids)), key=uids.__getitem__)
        self._elements = array("I", order)
        self._sorted = array("Q", map(uids.__getitem__, order))

    def __len__(self) -> int:
        return len(self._sorted)

    def find(self, uid: int) -> int:
        """The element of a uid, or -1.  0 stands for elements that are no tasks."""
        at = bisect_left(self._sorted, uid)
        if uid > 0 and at < len(self._sorted) and self._sorted[at] == uid:
            return self._elements[at]
        return -1
