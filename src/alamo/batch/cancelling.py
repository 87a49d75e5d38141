"""Cancelling: what has not begun never will, and what runs is stopped."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_task import _Array, let_go
from alamo.batch.expanded import ExpandedArray
from alamo.batch.outcomes import Program
from alamo.errors import UsageError
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task


def cancel(task: Task, reason: str | None) -> bool:
    """Body of ``Task.cancel``."""
    why = checked(reason)
    program = task.program
    if program is None:
        _cancel_unbound(task, why)
        return True
    if isinstance(task, _Array):
        return cancel_array(program, task.view, why)
    if task.index < 0:
        return cancel_program(program, why)
    if task.index in program.arrays:  # a handle's, found by uid
        return cancel_array(program, program.arrays[task.index], why)
    return _ask(program, [task.index], why)


def checked(reason: Any) -> str:
    """The reason as it travels.

    Raises:
        UsageError: it is no text.
    """
    if reason is None or isinstance(reason, str):
        return reason or ""
    raise UsageError(f"reason={reason!r:.200}: it is a text, or None; others will read it")


def cancel_program(program: Program, reason: str) -> bool:
    """Cancel all tasks of a compiled one."""
    if program.started and program.has_ended(False):
        return False
    arrays = [view for view in program.arrays.values() if isinstance(view, ArrayProgram)]
    for view in arrays:
        _end_feeding(view, reason)
    for expanded in program.expanded:
        expanded.cancel_reason = reason
    asked = _ask(program, None, reason)
    for view in arrays:
        view.call_off()
    return asked


def cancel_elements(program: Program, elements: Sequence[int], reason: str) -> bool:
    """Cancel tasks that were started one by one; whether one of them had not ended."""
    return _ask(program, elements, reason)


def asked(program: int, reasons: Mapping[int, str]) -> list[msg.Message]:
    """The messages that have elements of a program cancelled.

    Args:
        reasons: element -> why.
    """
    by_reason: dict[str, array[int]] = {}
    for element, reason in reasons.items():
        by_reason.setdefault(reason, array("I")).append(element)
    return [
        msg.CancelAsked(program, elements.tobytes(), reason=reason)
        for reason, elements in by_reason.items()
    ]


def _ask(program: Program, elements: Sequence[int] | None, reason: str) -> bool:
    """Have elements of a program, or all, cancelled; whether one of them had not ended."""
    with program._lock:  # a start waits until this is noted, or has begun
        if not program.started:
            return program.cancel_at_start(elements, reason)
        if program.broken is not None:
            return False
        open_ = None if elements is None else [e for e in elements if not program.has(e)]
    if open_ is None:
        program.client.send([msg.CancelAsked(program.number, everything=True, reason=reason)])
    elif open_:
        with program.feeding:
            program.client.send(asked(program.number, dict.fromkeys(open_, reason)))
    return open_ is None or bool(open_)


def cancel_array(program: Program, view: Any, reason: str) -> bool:
    """Cancel all elements of an array in a program."""
    if isinstance(view, ExpandedArray):
        open_ = [e for e in view.elements if not program.has(e)]
        if not open_ or not _ask(program, open_, reason):
            return False
        view.cancel_reason = reason
        return True
    assert isinstance(view, ArrayProgram)
    if not view.growing and view.has_ended(False):
        return False
    _end_feeding(view, reason)
    if view.gate is None:
        _ask(view, None, reason)
    else:
        gate, element = view.gate
        _ask(gate, [element], reason)
    view.call_off()
    return True


def _end_feeding(view: ArrayProgram, reason: str) -> None:
    """Have no more elements made: whatever has been is at the manager when this returns."""
    with view.feeding:
        if view.growing or not view.has_ended(False):
            view.cancel_reason = reason


def _cancel_unbound(task: Task, reason: str) -> None:
    """A task that nobody has been told of ends here."""
    client: Client = task.batch._client
    if isinstance(task, _Array):
        view = ArrayProgram(client.next_program_number(), client, task._uid, task.name)
        view.cancel_reason = reason
        task.program = task.view = view
        task.alone = True
        view.is_cancelled_unstarted = True
        view.begin()
        view.call_off()
        let_go(task)
        return
    program = Program(client.next_program_number(), client)
    element = program.add_elements(1, 1)
    program.first_uid = task.uid
    if task.name is not None:
        program.names[element] = task.name
    program.is_stream = program.is_cancelled_unstarted = True
    program.begin()
    program.begun_s.append(program._began_s)
    program.add_cancelled([element], reason)
    task.program, task.index = program, element
    task.func, task.args, task.callback_func = None, (), None  # type: ignore[attr-defined]
    task.reads = task.writes = ()
