"""The forms in which a queue's messages lie in its line.

    head                                         a message without buffers
    b0, count, their sizes, the buffers, head    one that is not large, whole
    c0 and above                                 what refers to buffers that lie apart (records.py)

To copy a message with the lock held is quicker than to have its buffers apart, up to a size.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from alamo.data.store import Packed

__all__ = ["APART_MIN_BYTES", "WHOLE", "join", "split"]

#: The first byte of a message with its buffers; no head begins so, and no reference.
WHOLE: Final = 0xB0
#: Messages from here on have their buffers apart from the line.
APART_MIN_BYTES: Final = 1 << 18

_COUNT: Final = struct.Struct("<BI")


def join(head: bytes, buffers: Sequence[Any]) -> bytes:
    """Bring a message that is not large into one piece."""
    if not buffers:
        return head
    sizes = struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
    return b"".join((_COUNT.pack(WHOLE, len(buffers)), sizes, *buffers, head))


def split(record: bytes) -> Packed:
    """Take a message in one piece apart; its buffers are copies that may be written to."""
    if record[0] != WHOLE:
        return record, ()
    _, count = _COUNT.unpack_from(record)
    at = _COUNT.size + 8 * count
    whole = memoryview(record)
    buffers = []
    for size in struct.unpack_from(f"<{count}Q", record, _COUNT.size):
        buffers.append(bytearray(whole[at : at + size]))
        at += size
    return record[at:], buffers
