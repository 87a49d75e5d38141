"""Errors of tasks that did not end by themselves: what happened, where, and why."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from alamo.batch import stops
from alamo.errors import (
    ProcessFailed,
    SerializationError,
    TaskCancelled,
    UpstreamFailed,
    WorkerLost,
)
from alamo.protocol import exceptions
from alamo.protocol.output_form import PLAIN
from alamo.protocol.records import LOST, STDERR, STDOUT, STOPPED, LostInfo, Record, as_record

if TYPE_CHECKING:
    from alamo.batch.values import Values

#: Lines of a dead worker's stderr that its error shows.
_TAIL_LINES = 10
#: Earlier attempts that an error names.
_NAMED = 10


class FailedAttempt(NamedTuple):
    """An attempt that another followed.

    Attributes:
        outcome: what it left, a ``Record``.
        delay_s: the pause behind it.
    """

    outcome: bytes
    delay_s: float


def did_not_run(program: Values, element: int) -> BaseException:
    """The error of a task that was skipped, or cancelled before it began."""
    if element in program.skipped:
        return upstream_failed(program, element, program.skipped[element])
    error = stops.cancelled(
        program.title(element), program.uid_of(element), program.cancelled[element]
    )
    return _with_attempts(program, element, error)


def final_error(program: Values, element: int, record: Record) -> BaseException:
    """The error of a task's last attempt, with what became of the earlier ones."""
    return _with_attempts(program, element, error_of(program, element, record))


def error_of(program: Values, element: int, record: Record) -> BaseException:
    """The error of one attempt that failed."""
    if record.status == LOST:
        return worker_lost(program, element, record)
    if record.status == STOPPED:
        return stops.stopped(program.title(element), program.uid_of(element), record.value)
    error = exceptions.load_exception(record.value, program.title(element))
    if isinstance(error, ProcessFailed):  # it holds the output, as that of ``subprocess.run`` does
        form = program.forms.get(element, PLAIN)
        with suppress(OSError, UnicodeError):  # the last lines are in it in any case
            error.output = form.given(STDOUT, record.stdout)
            error.stderr = form.given(STDERR, record.stderr)
    return error


def _with_attempts(program: Values, element: int, error: BaseException) -> BaseException:
    earlier = list(program.attempts.get(element, ()))
    if earlier:
        lines = [f"{program.title(element)} failed in {len(earlier) + 1} attempts; the earlier:"]
        if isinstance(error, TaskCancelled):
            lines = [f"{program.title(element)} had failed before:"]
        for number, attempt in enumerate(earlier[:_NAMED], 1):
            lines.append(f"  attempt {number}: {line_of(attempt.outcome)}")
        if len(earlier) > _NAMED:
            lines.append(f"  and {len(earlier) - _NAMED} more: task.attempts has them")
        error.add_note("\n".join(lines))
    return error


def upstream_failed(program: Values, element: int, root: int) -> UpstreamFailed:
    """The error of a task that did not run, caused by that of the root."""
    cause: BaseException | None = None
    try:
        program.value(root)
    except BaseException as problem:
        cause = problem
    error = UpstreamFailed(
        f"{program.title(element)} did not run: it needs the output of {program.title(root)} "
        f"(directly or through others), {_how_it_ended(cause)}",
        program.uid_of(element),
        program.uid_of(root),
    )
    error.__cause__ = cause
    return error


def _how_it_ended(cause: BaseException | None) -> str:
    first_line = (str(cause).splitlines() or [""])[0]
    if isinstance(cause, TaskCancelled):
        return f"which was cancelled: {first_line}"
    return f"which failed with {type(cause).__name__}: {first_line}"


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
    title = program.title(element)
    if info.stillborn:
        text = (
            f"{title} did not run: {info.stillborn} workers in a row that were to have what its "
            f"policy asks for could not be started on {info.host}; the last"
        )
        text += f" (pid {info.pid}) {how}: {info.cause}" if info.pid >= 0 else f": {info.cause}"
    else:
        text = (
            f"the worker that ran {title} on {info.host} (pid {info.pid}) {how}; "
            f"likely cause: {info.cause}"
        )
    lines = record.stderr.decode("utf-8", "backslashreplace").splitlines()[-_TAIL_LINES:]
    if lines:
        text += "\nlast lines of its stderr:\n  " + "\n  ".join(lines)
    uid = program.uid_of(element)
    return WorkerLost(text, uid, info.host, info.pid, info.signal, info.exit_status)


def first_line(program: Values, element: int) -> str:
    """Class and first line of what a failed task raised, without unpickling it."""
    line = line_of(bytes(program._data(element)))
    earlier = len(program.attempts.get(element, ()))
    return f"{line} (attempt {earlier + 1})" if earlier else line


def line_of(outcome: bytes) -> str:
    """Class and first line of the error that an outcome is."""
    record = as_record(outcome)
    if record is None:
        return ""
    if record.status == LOST:
        info = msgspec.msgpack.decode(record.value, type=LostInfo)
        return f"{WorkerLost.__name__}: {info.cause}"
    if record.status == STOPPED:
        return stops.line_of(record.value)
    return (exceptions.text_of(record.value).splitlines() or [""])[0]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"
