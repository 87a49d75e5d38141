"""Errors of tasks that alamo ended: over their time, over their memory, or cancelled."""

from __future__ import annotations

import msgspec

from alamo.errors import MemoryLimitExceeded, TaskCancelled, TaskStopped, TaskTimeout
from alamo.protocol.records import CANCELLED, MEMORY, STOPPED, TIMEOUT, Record, StopInfo
from alamo.sizes import format_size

_decode_record = msgspec.msgpack.Decoder(Record).decode
_decode_info = msgspec.msgpack.Decoder(StopInfo).decode

_KINDS: dict[str, type[TaskStopped]] = {
    TIMEOUT: TaskTimeout,
    MEMORY: MemoryLimitExceeded,
    CANCELLED: TaskCancelled,
}


def cancelled(title: str, uid: int, reason: str) -> TaskCancelled:
    """The error of a task that was cancelled before it began."""
    return TaskCancelled(f"{title} was cancelled before it began{_because(reason)}", uid)


def stopped(title: str, uid: int, info: bytes) -> TaskStopped:
    """The error of a task that was ended while it ran.

    Args:
        info: a packed ``StopInfo``.
    """
    stop = _decode_info(info)
    return _KINDS.get(stop.kind, TaskStopped)(f"{title} {_what(stop)}", uid)


def line_of(info: bytes) -> str:
    """Class and message of the error, without the task."""
    stop = _decode_info(info)
    return f"{_KINDS.get(stop.kind, TaskStopped).__name__}: {_what(stop)}"


def cancel_reason(outcome: bytes) -> str | None:
    """Why the task with this outcome was cancelled while it ran; ``None``: it was not.

    Cost: nothing for other failures.
    """
    if len(outcome) < 2 or outcome[1] != STOPPED:  # the first field of a Record
        return None
    record = _decode_record(outcome)
    stop = _decode_info(record.value)
    return stop.reason if stop.kind == CANCELLED else None


def _what(stop: StopInfo) -> str:
    where = f"on {stop.host}, pid {stop.pid}"
    if stop.kind == TIMEOUT:
        return (
            f"ran longer than its timeout of {stop.limit:g} s {where}, and was stopped; "
            "give it a longer timeout=, or less to do"
        )
    if stop.kind == MEMORY:
        return (
            f"took {format_size(round(stop.used))} of memory {where}, more than its limit of "
            f"{format_size(round(stop.limit))}, and was stopped; give it a larger Policy(memory=)"
        )
    if stop.kind == CANCELLED:
        return f"was cancelled while it ran {where}{_because(stop.reason)}"
    return f"was stopped {where}{_because(stop.reason)}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
