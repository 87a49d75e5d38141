"""Edges of a program in columns: how a page of elements says what each waits for."""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

import msgspec

__all__ = [
    "ARGUMENT",
    "INDEX",
    "KINDS",
    "KIND_SHIFT",
    "ORDER_ONLY",
    "WAW",
    "Columns",
    "Page",
    "indices_of",
]

#: Set in a predecessor entry whose failure does not matter (WAR, WAW); indices stay below it.
ORDER_ONLY: Final = 0x8000_0000
#: A second bit tells apart what is alike to the scheduler: the output of the predecessor is an
#: argument (not RAW), both write (not WAR).
ARGUMENT: Final = 0x4000_0000
WAW: Final = ORDER_ONLY | 0x4000_0000
#: What is left of an entry is the index.
INDEX: Final = ARGUMENT - 1

#: ``entry >> KIND_SHIFT`` is the place of its kind here.  RAR, of a user's own rules, is a WAR.
KIND_SHIFT: Final = 30
KINDS: Final = ("RAW", "argument", "WAR", "WAW")

#: Clears the bits in the bytes that hold them, a hundred times faster than a loop over numbers.
_TOP_BYTE: Final = 0 if array("I", [1]).tobytes()[-1] else 3
_WITHOUT_KIND: Final = bytes(byte & 0x3F for byte in range(256))


class Page(msgspec.Struct, frozen=True, gc=False):
    """Neighbouring elements and their predecessors.

    ``pred_ends`` holds for each element where its predecessors end in ``preds``, counted from
    this page's begin; both are native uint32, and both are empty when no element has any.
    ``joins`` lists the elements without work.
    """

    first: int
    count: int
    pred_ends: bytes
    preds: bytes
    joins: list[int]


class Columns(NamedTuple):
    """The edges of a whole program, as a client keeps them: 4 bytes an element, edge and join.

    Where no element has predecessors all columns are empty.
    """

    pred_ends: array[int]
    preds: array[int]
    joins: array[int]


def indices_of(preds: bytes | bytearray | memoryview | array[int]) -> memoryview:
    """The indices in a column of predecessor entries.

    Example:
        >>> indices_of(array("I", [3, 7 | ORDER_ONLY])).tolist()
        [3, 7]

    Cost: 2 ns an entry.
    """
    column = bytearray(preds)
    column[_TOP_BYTE::4] = column[_TOP_BYTE::4].translate(_WITHOUT_KIND)
    return memoryview(column).cast("I")
