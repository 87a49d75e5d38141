"""Values above 256 KB: strings of their own beside the bucket, of 64 MB at most.

They are written before the record that refers to them, with a time to live that ends once it does;
so what a killed writer leaves goes by itself.  A function that removes the record removes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alamo.data.store import Packed
from alamo.data.valkey.failures import Refusal
from alamo.data.valkey.records import PART_BYTES, Body, Reference, new_reference, read_body
from alamo.data.valkey.servers import Servers

__all__ = ["read", "remove", "write"]

#: How long parts last that nothing refers to yet: writing them all must take less.
_ORPHAN_S = 3600


def write(servers: Servers, base: bytes, body: Body) -> Reference:
    """Write the parts of a value beside a bucket; nothing refers to them yet.

    Raises:
        Refusal: there is no room for them; none is left.
    """
    reference = new_reference(body)
    try:
        for name, pieces in zip(_names(base, reference), _cut(body.pieces)):
            servers.change(base, "SETEX", name, _ORPHAN_S, pieces, again=True)
    except Refusal:
        remove(servers, base, reference)
        raise
    return reference


def read(servers: Servers, base: bytes, reference: Reference) -> Packed | None:
    """The value that lies in parts; ``None`` when it was replaced or removed meanwhile."""
    names = _names(base, reference)
    if len(names) == 1:
        part = servers.call(base, "GET", names[0])
        return None if part is None else read_body(part)
    body = bytearray(reference.size)
    at = 0
    for name in names:
        part = servers.call(base, "GET", name)
        if part is None:
            return None
        body[at : at + len(part)] = part
        at += len(part)
    return read_body(body)


def remove(servers: Servers, base: bytes, reference: Reference) -> None:
    """Remove parts that nothing refers to."""
    servers.change(base, "UNLINK", *_names(base, reference), again=True)


def _names(base: bytes, reference: Reference) -> list[bytes]:
    """As ``part_names`` in lua/common.lua has them."""
    return [b"%b:%b:%d" % (base, reference.id.encode(), n) for n in range(reference.number)]


def _cut(pieces: list[Any]) -> Iterator[list[Any]]:
    """The pieces of each part."""
    part: list[Any] = []
    left = PART_BYTES
    for piece in pieces:
        view = memoryview(piece)
        while len(view) >= left:
            part.append(view[:left])
            view = view[left:]
            yield part
            part, left = [], PART_BYTES
        if view:
            part.append(view)
            left -= len(view)
    if part:
        yield part
