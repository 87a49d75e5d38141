"""A value as one field of a hash or one message of a list.

A small value without buffers is its own record: the head, whose first byte is 00, 01 or 80
(:mod:`alamo.data.packing`).  Everything else begins with F1:

    F1 flags id(16)                          the token; the id is new with each record
    body bytes(8) parts(4)                   only of a value in parts: that is all
    head bytes(4) buffers(2) bytes of each(8) head buffer...   the body, here or in parts
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from alamo.data.store import Packed

__all__ = [
    "INLINE_MAX_BYTES",
    "PART_BYTES",
    "Body",
    "Reference",
    "body_of",
    "has_ttl",
    "inline",
    "is_plain",
    "read_body",
    "record_of",
    "reference_of",
    "token_of",
]

#: A value up to here is one field; a larger one is cut into parts of this size.
INLINE_MAX_BYTES = PART_BYTES = 64 << 20
#: A head up to here is a record without more, and its own token.
_PLAIN_MAX_BYTES = 1 << 10
#: Below this joining the pieces costs less than a system call for each.
_JOIN_MAX_BYTES = 1 << 16

_MARK = 0xF1
_TTL = 1
_PARTS = 2
_START = struct.Struct(">BB16s")
_PARTED = struct.Struct(">QI")
_BODY = struct.Struct(">IH")


class Body(NamedTuple):
    """What a record holds: ``pieces`` one after the other, ``size`` bytes in all."""

    pieces: list[Any]
    size: int


class Reference(NamedTuple):
    """Where the parts of a large value are."""

    id: str
    size: int
    count: int


def is_plain(head: bytes, buffers: Sequence[Any]) -> bool:
    """Whether the head alone is the record."""
    return not buffers and len(head) <= _PLAIN_MAX_BYTES


def body_of(head: bytes, buffers: Sequence[Any]) -> Body:
    """The pieces of a value, none copied."""
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    sizes = [len(view) for view in views]
    start = _BODY.pack(len(head), len(sizes)) + struct.pack(f">{len(sizes)}Q", *sizes)
    return Body([start, head, *views], len(start) + len(head) + sum(sizes))


def inline(body: Body, ttl: bool) -> bytes | list[Any]:
    """A record with its body in it: bytes, or when it is large the pieces of it."""
    start = _START.pack(_MARK, _TTL if ttl else 0, os.urandom(16))
    if body.size <= _JOIN_MAX_BYTES:
        return b"".join([start, *body.pieces])
    return [start, *body.pieces]


def record_of(head: bytes, buffers: Sequence[Any], ttl: bool) -> bytes | list[Any]:
    """A record of a value that fits into one field."""
    if not ttl and is_plain(head, buffers):
        return head
    return inline(body_of(head, buffers), ttl)


def reference_of(reference: Reference, ttl: bool) -> bytes:
    """A record that says where the parts are."""
    flags = _PARTS | (_TTL if ttl else 0)
    start = _START.pack(_MARK, flags, bytes.fromhex(reference.id))
    return start + _PARTED.pack(reference.size, reference.count)


def token_of(record: bytes) -> bytes:
    """What tells this record from every other."""
    return record[: _START.size] if record[0] == _MARK else record


def has_ttl(record: bytes) -> bool:
    """Whether the entry may be over; a token tells it too."""
    return record[0] == _MARK and bool(record[1] & _TTL)


def parts_of(record: bytes) -> Reference | None:
    """Where the value is, when it is not in the record."""
    if record[0] != _MARK or not record[1] & _PARTS:
        return None
    _, _, identity = _START.unpack_from(record)
    return Reference(identity.hex(), *_PARTED.unpack_from(record, _START.size))


def value_of(record: bytes) -> Packed:
    """The value of a record that holds it.  Buffers are copies that may be written to."""
    if record[0] != _MARK:
        return Packed(record)
    return read_body(memoryview(record)[_START.size :])


def read_body(body: memoryview) -> Packed:
    """The value that :func:`body_of` took apart."""
    head_bytes, count = _BODY.unpack_from(body)
    at = _BODY.size + 8 * count
    sizes = struct.unpack_from(f">{count}Q", body, _BODY.size)
    head = bytes(body[at : at + head_bytes])
    at += head_bytes
    buffers = []
    for size in sizes:
        buffers.append(bytearray(body[at : at + size]))
        at += size
    return Packed(head, tuple(buffers))
