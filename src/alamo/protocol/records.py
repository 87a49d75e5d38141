"""The outcome of one task when it is more than a small pickle: a failure, output, large data."""

from __future__ import annotations

import msgspec

_encode = msgspec.msgpack.Encoder().encode

#: ``Record.status``
OK, RAISED, LOST, STOPPED = 0, 1, 2, 3
#: Streams of a task, as they are named in a handle inside an argument.
RESULT, STDOUT, STDERR = 0, 1, 2
#: Added to a stream: its bytes as they are, for another program's stdin.
RAW = 4


#: What begins the outcomes of a whole array when they are an argument; no outcome begins with it.
ARRAY_MARK = b"\xc1"


class Record(msgspec.Struct, array_like=True, gc=False):
    """The outcome of one task when it is more than one small pickle.

    A result without output travels as its bare pickle, which begins with byte 0x80;
    a Record begins with 0x90-0x9f; no bytes at all mean ``None``.

    ``value`` is a pickle (OK), a packed exception (RAISED) or msgpack of ``LostInfo``
    (LOST) or ``StopInfo`` (STOPPED).  With ``block`` its out-of-band buffers, and the pickle
    itself when ``value`` is empty, lie in a shared block at the (offset, size) pairs of ``spans``.
    """

    status: int = OK
    value: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""
    block: int = -1
    spans: tuple[int, ...] = ()
    splits: tuple[tuple[int, ...], ...] = ()


class LostInfo(msgspec.Struct, array_like=True, gc=False):
    """How a worker ended: what the user is told about its running task.

    ``stillborn``: it never came up with what the task needs, as so many others in a row.
    """

    host: str
    pid: int
    signal: int
    exit_status: int
    cause: str
    stillborn: int = 0


#: ``StopInfo.kind``
TIMEOUT, CANCELLED, MEMORY = "timeout", "cancelled", "memory"


class StopInfo(msgspec.Struct, array_like=True, gc=False):
    """Why alamo ended a running task.

    ``limit`` and ``used``: seconds of a TIMEOUT, bytes of MEMORY; ``reason`` of a CANCELLED one is
    the user's.
    """

    kind: str
    host: str
    pid: int
    limit: float = 0.0
    used: float = 0.0
    reason: str = ""


def as_record(outcome: bytes) -> Record | None:
    """The outcome as a Record, or ``None`` when it is a bare pickle."""
    if outcome[:1] in (b"", b"\x80"):
        return None
    return msgspec.msgpack.decode(outcome, type=Record)


_decode_frames = msgspec.msgpack.Decoder(tuple[int, list[tuple[int, bytes, bytes, bytes]]]).decode


def pack_array(count: int, frames: list[tuple[int, bytes, bytes, bytes]]) -> bytes:
    """Outcomes of a whole array as one.

    Args:
        frames: first element, column of elements (or nothing: they are neighbours), ends, payload.
    """
    return ARRAY_MARK + _encode((count, frames))


def outcomes_of(data: bytes) -> list[bytes]:
    """The outcomes that ``pack_array`` packed, in the order of the elements."""
    count, frames = _decode_frames(memoryview(data)[1:])
    outcomes = [b""] * count
    for first, column, ends, payload in frames:
        if not payload:
            continue
        start = 0
        positions = memoryview(ends).cast("I")
        elements = memoryview(column).cast("I") if column else range(first, first + len(positions))
        for element, end in zip(elements, positions, strict=True):
            outcomes[element] = payload[start:end]
            start = end
    return outcomes


def block_of(outcome: bytes) -> int:
    """The block that the outcome refers to, or -1; also for bytes that are no outcome at all."""
    try:
        record = as_record(outcome)
    except msgspec.DecodeError:  # a task wrote over it; whoever wants it will find out
        return -1
    return -1 if record is None else record.block
