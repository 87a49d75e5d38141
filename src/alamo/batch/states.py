"""What a task is doing, in a word; what the client does not know its manager is asked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_task import _Array
from alamo.batch.counts import state_of
from alamo.batch.expanded import ExpandedArray
from alamo.batch.outcomes import Program
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.task import Task

#: Words of ``core.explain`` that are other ones here.
_WORDS = {"held": "ready", "paused": "ready", "backing off": "waiting", "not started": "created"}
#: Of several that have ended the first of these says how they did together.
_ENDS = ("failed", "cancelled", "skipped", "done")


def state_of_task(task: Task) -> str:
    """Body of ``Task.state``."""
    program = task.program
    if program is None:
        return "created"
    if isinstance(task, _Array):
        return _state_of_array(program, task.view)
    if task.index < 0:
        return _state_of_program(program)
    if task.index in program.arrays:
        return _state_of_array(program, program.arrays[task.index])
    return _state_of_element(program, task.index)


def account_of(program: Program, element: int) -> msg.Account | None:
    """What the manager says about an element; ``None``: it has ended, or ends right now.

    Raises:
        BatchBroken: the service is gone, and the element will never end.
    """
    if program.has(element):
        return None
    if program.broken is not None:
        raise program.client.waits.broken_for(program, element)
    question = partial(msg.AccountAsked, program=program.number, element=element)
    account = program.client.inquiries.ask(question, msg.Account)
    return None if program.has(element) or account.state in ("ended", *_ENDS) else account


def _state_of_element(program: Program, element: int) -> str:
    if not program.started:
        return "cancelled" if element in program.to_cancel else "created"
    account = account_of(program, element)
    if account is not None:
        return _WORDS.get(account.state, account.state)
    program.client.waits.element(program, element, None)  # it is on its way
    return state_of(program, element)


def first_open(program: Program) -> int | None:
    """The first element of a program without an outcome, joins aside."""
    joins = set() if program.edges is None else set(program.edges.joins)
    found = (e for e in range(program.count) if not program.has(e) and e not in joins)
    return next(found, None)


def _state_of_program(program: Program) -> str:
    if not program.started:
        return "cancelled" if program.to_cancel and _is_all_cancelled(program) else "created"
    if program.has_ended(False):
        return _together(program, range(program.count))
    return _of_unfinished(program, first_open(program))


def _is_all_cancelled(program: Program) -> bool:
    return len(program.to_cancel) >= program.tasks


def _state_of_array(program: Program, view: object) -> str:
    if isinstance(view, ExpandedArray):
        if not program.started:
            return _state_of_element(program, view.elements[0]) if view.size else "created"
        left = next((e for e in view.elements if not program.has(e)), None)
        if left is None:
            return _together(program, view.elements)
        if any(map(program.has, view.elements)):
            return "running"
        return _state_of_element(program, left)
    assert isinstance(view, ArrayProgram)
    if view.has_ended(False):
        return _end_of_array(view)
    if view.gate is not None:
        gate, element = view.gate
        state = _state_of_element(gate, element)
        if state != "running":
            return state
    elif not view.started:
        return "created"
    return _of_unfinished(view, first_open(view))


def _end_of_array(view: ArrayProgram) -> str:
    if view.is_skipped:
        return "skipped"
    if view.failed:
        return "failed"
    if view.cancelled or view.cancel_reason is not None:
        return "cancelled" if view.cancelled or view.feed_error is not None else "done"
    return "failed" if view.feed_error is not None else "done"


def _of_unfinished(program: Program, element: int | None) -> str:
    """A task of many that go on, of which this is the first that has not ended."""
    if element is None:  # elements are to come
        return "running" if program.count else "waiting"
    if program.remaining < program.tasks:
        return "running"
    return _state_of_element(program, element)


def _together(program: Program, elements: Iterable[int]) -> str:
    """How several that have ended did together."""
    if not program.has_failures:
        return "done"
    found = {state_of(program, element) for element in elements if program.has(element)}
    return next((state for state in _ENDS if state in found), "done")
