"""Values as a store keeps them: a head, and apart from it the large buffers.

The first byte of the head tells its form; a pickle begins with the PROTO opcode and needs no
other mark, so it is read where it lies.

    80 ...   a pickle; the buffers are its out-of-band ones, in order
    00 ...   bytes
    01 ...   str, in UTF-8
    02       bytes that are the one buffer
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Sequence
from typing import Any

from alamo.data.store import Packed
from alamo.protocol.blocks import BUFFER_MIN_BYTES
from alamo.protocol.pickling import ATOMS, ATOMS_PROTOCOL, dump

__all__ = ["pack", "type_name", "unpack"]

_BYTES = b"\x00"
_STR = b"\x01"
_LARGE_BYTES = b"\x02"
_NO_BUFFERS: tuple[Any, ...] = ()


def pack(value: Any) -> Packed:
    """Bring a value into its stored form.  Buffers of 64 KiB and more stand apart, not copied.

    Raises:
        SerializationError: it cannot be pickled.

    Cost: 0.3 us for small bytes, str and numbers; 1 us and more for the rest.
    """
    kind = value.__class__
    if kind is bytes:
        if len(value) >= BUFFER_MIN_BYTES:
            return Packed(_LARGE_BYTES, (value,))
        return Packed(_BYTES + value)
    if kind is str:
        try:
            return Packed(_STR + value.encode())
        except UnicodeEncodeError:  # a lone surrogate: pickle can do it
            pass
    elif kind in ATOMS:
        return Packed(pickle.dumps(value, ATOMS_PROTOCOL))
    head, buffers = dump(value)
    return Packed(head, buffers or _NO_BUFFERS)


def unpack(head: bytes | memoryview, buffers: Sequence[Any] = _NO_BUFFERS) -> Any:
    """Bring a value back.

    Args:
        buffers: in order; arrays that are made of them are writable if these are.

    Raises:
        whatever unpickling raises; :func:`type_name` tells what it was.

    Cost: 0.3 us for small values.
    """
    form = head[0]
    if form == 0x80:
        return pickle.loads(head, buffers=buffers) if buffers else pickle.loads(head)
    if form == 0x00:
        return bytes(head[1:])
    if form == 0x01:
        return str(head[1:], "utf-8")
    return bytes(buffers[0])


def type_name(head: bytes) -> str:
    """The type that a stored value says it is, for messages about one that cannot be read."""
    if head[0] != 0x80:
        return "str" if head[0] == 0x01 else "bytes"
    names: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(head):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(names[-2:])
            if isinstance(argument, str):
                names.append(argument)
    except Exception:  # damaged bytes have no name
        pass
    return "an unknown type"
