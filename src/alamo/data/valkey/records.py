"""A value as one field of a hash or one message of a list.

A small value without buffers is its own record: the head, whose first byte is 00, 01 or 80
(:mod:`alamo.data.packing`).  Everything else begins with F1:

    F1 flags id(16)                            the token; the id is new with each record
    bytes(8) parts(4)                          of a value in parts: that is all
    bytes of head(4) buffers(2) bytes of each(8) head buffer...   the body, here or in parts
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from alamo.data.store import Packed

__all__ = [
    "INLINE_MAX_BYTES",
    "PART_BYTES",
    "Body",
    "Record",
    "Reference",
    "body_of",
    "has_ttl",
    "in_parts",
    "inline",
    "is_plain",
    "joined",
    "new_reference",
    "read_body",
    "reference_of",
    "token_of",
    "value_of",
]

#: A record, or the pieces of a large one.
Record: TypeAlias = bytes | list[Any]

#: A value up to here is one field.  A function of the server copies what it is given some times,
#: so larger ones are put beside the bucket by plain commands: 10 MB in 0.4 of the time.
INLINE_MAX_BYTES = 256 << 10
#: They are cut into parts of this size, as a string of the server ends at 512 MB.
PART_BYTES = 64 << 20
#: A head up to here is a record without more, and its own token.
_PLAIN_MAX_BYTES = 1 << 10
#: Below this joining the pieces costs less than a system call for each.
_JOIN_MAX_BYTES = 1 << 16

_MARK = 0xF1
_LARGE_BYTES = b"\x02"  # as packing has it
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
    number: int

    def __str__(self) -> str:
        return f"{self.id} {self.number} {self.size}"


def is_plain(head: bytes, buffers: Sequence[Any]) -> bool:
    """Whether the head alone is the record."""
    return not buffers and len(head) <= _PLAIN_MAX_BYTES


def body_of(head: bytes, buffers: Sequence[Any]) -> Body:
    """The pieces of a value, none copied."""
    sizes = [len(buffer) for buffer in buffers]
    start = _BODY.pack(len(head), len(sizes)) + struct.pack(f">{len(sizes)}Q", *sizes)
    return Body([start, head, *buffers], len(start) + len(head) + sum(sizes))


def inline(body: Body, ttl: bool = False) -> Record:
    """A record with its body in it."""
    start = _START.pack(_MARK, _TTL if ttl else 0, os.urandom(16))
    if body.size <= _JOIN_MAX_BYTES:
        return b"".join([start, *body.pieces])
    return [start, *body.pieces]


def new_reference(body: Body) -> Reference:
    """Names for the parts of a value."""
    return Reference(os.urandom(16).hex(), body.size, -(-body.size // PART_BYTES))


def in_parts(reference: Reference, ttl: bool = False) -> bytes:
    """A record that says where the parts are."""
    flags = _PARTS | (_TTL if ttl else 0)
    start = _START.pack(_MARK, flags, bytes.fromhex(reference.id))
    return start + _PARTED.pack(reference.size, reference.number)


def token_of(record: bytes) -> bytes:
    """What tells this record from every other."""
    return record[: _START.size] if record[0] == _MARK else record


def has_ttl(record: bytes) -> bool:
    """Whether the time of the entry may be over; a token tells it too."""
    return record[0] == _MARK and record[1] & _TTL != 0


def reference_of(record: bytes) -> Reference | None:
    """Where the value is, when it is not in the record."""
    if record[0] != _MARK or not record[1] & _PARTS:
        return None
    _, _, identity = _START.unpack_from(record)
    return Reference(identity.hex(), *_PARTED.unpack_from(record, _START.size))


def value_of(record: bytes) -> Packed:
    """The value of a record that holds it."""
    if record[0] != _MARK:
        return record, ()
    return read_body(record, _START.size)


def read_body(data: bytes | bytearray, start: int = 0) -> Packed:
    """The value that :func:`body_of` took apart.

    Its buffers are views of ``data`` if that may be written to, or nobody will: ``bytes`` are
    made of the only buffer of such a value; else copies.
    """
    head_bytes, count = _BODY.unpack_from(data, start)
    sizes = struct.unpack_from(f">{count}Q", data, start + _BODY.size)
    at = start + _BODY.size + 8 * count
    head = bytes(data[at : at + head_bytes])
    at += head_bytes
    copy = isinstance(data, bytes) and head != _LARGE_BYTES
    view = memoryview(data)
    buffers: list[Any] = []
    for size in sizes:
        piece = view[at : at + size]
        buffers.append(bytearray(piece) if copy else piece)
        at += size
    return head, tuple(buffers)


def joined(record: Record) -> bytes:
    """A record in one piece."""
    return b"".join(record) if isinstance(record, list) else record
