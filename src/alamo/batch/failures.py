"""Errors of tasks that did not end by themselves: what happened, where, and why."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec

from alamo.errors import SerializationError, UpstreamFailed, WorkerLost
from alamo.protocol import exceptions
from alamo.protocol.records import LOST, LostInfo, Record, as_record

if TYPE_CHECKING:
    from alamo.batch.values import Values

#: Lines of a dead worker's stderr that its error shows.
_TAIL_LINES = 10


def upstream_failed(program: Values, element: int, root: int) -> UpstreamFailed:
    """The error of a task that did not run, caused by that of the root."""
    cause: BaseException | None = None
    try:
        program.value(root)
    except BaseException as problem:
        cause = problem
    first_line = (str(cause).splitlines() or [""])[0]
    error = UpstreamFailed(
        f"{program.title(element)} did not run: it needs the output of {program.title(root)} "
        f"(directly or through others), which failed with {type(cause).__name__}: {first_line}",
        program.uid_of(element),
        program.uid_of(root),
    )
    error.__cause__ = cause
    return error


def unloadable(title: str, error: Exception) -> SerializationError:
    """The error of a task whose result cannot be unpickled in this process."""
    return SerializationError(
        f"the result of {title} cannot be loaded here: {type(error).__name__}: {error}; "
        "return plain data, or a class that this process can import"
    )


def worker_lost(program: Values, element: int, record: Record) -> WorkerLost:
    """The error of a task whose worker died."""
    info = msgspec.msgpack.decode(record.value, type=LostInfo)
    if info.signal:
        how = f"was ended by signal {info.signal} ({_signal_name(info.signal)})"
    elif info.exit_status >= 0:
        how = f"exited with status {info.exit_status}"
    else:
        how = "ended"
    text = (
        f"the worker that ran {program.title(element)} on {info.host} (pid {info.pid}) {how}; "
        f"likely cause: {info.cause}"
    )
    lines = record.stderr.decode("utf-8", "backslashreplace").splitlines()[-_TAIL_LINES:]
    if lines:
        text += "\nlast lines of its stderr:\n  " + "\n  ".join(lines)
    uid = program.uid_of(element)
    return WorkerLost(text, uid, info.host, info.pid, info.signal, info.exit_status)


def first_line(program: Values, element: int) -> str:
    """Class and first line of what a failed task raised, without unpickling it."""
    record = as_record(bytes(program._data(element)))
    if record is None:
        return ""
    if record.status == LOST:
        info = msgspec.msgpack.decode(record.value, type=LostInfo)
        return f"{WorkerLost.__name__}: {info.cause}"
    return (exceptions.text_of(record.value).splitlines() or [""])[0]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"
