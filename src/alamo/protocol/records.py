"""The outcome of one task when it is more than a small pickle: a failure, output, large data."""

from __future__ import annotations

import msgspec

#: ``Record.status``
OK, RAISED, LOST = 0, 1, 2
#: Streams of a task, as they are named in a handle inside an argument.
RESULT, STDOUT, STDERR = 0, 1, 2


class Record(msgspec.Struct, array_like=True, gc=False):
    """The outcome of one task when it is more than one small pickle.

    A result without output travels as its bare pickle, which begins with byte 0x80;
    a Record begins with 0x90-0x9f; no bytes at all mean ``None``.

    ``value`` is a pickle (OK), a packed exception (RAISED) or msgpack of ``LostInfo``
    (LOST).  With ``block`` its out-of-band buffers, and the pickle itself when ``value``
    is empty, lie in a shared block at the (offset, size) pairs of ``spans``.
    """

    status: int = OK
    value: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""
    block: int = -1
    spans: tuple[int, ...] = ()


class LostInfo(msgspec.Struct, array_like=True, gc=False):
    """How a worker ended: what the user is told about its running task."""

    host: str
    pid: int
    signal: int
    exit_status: int
    cause: str


def as_record(outcome: bytes) -> Record | None:
    """The outcome as a Record, or ``None`` when it is a bare pickle."""
    if outcome[:1] in (b"", b"\x80"):
        return None
    return msgspec.msgpack.decode(outcome, type=Record)
