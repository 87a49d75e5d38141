"""Why a task has not run, or what became of it, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from alamo.batch import counts
from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_task import _Array
from alamo.batch.expanded import ExpandedArray
from alamo.batch.failures import did_not_run, first_line, line_of
from alamo.batch.outcomes import Program
from alamo.batch.states import account_of, first_open
from alamo.core.terms import GPU_PARTS
from alamo.errors import BatchBroken
from alamo.sizes import format_size

if TYPE_CHECKING:
    from alamo.batch.task import Task
    from alamo.protocol import messages as msg

__all__ = ["explain"]

#: Other tasks that a sentence names.
_NAMED = 5
#: What a running task stands still for, in words.
_AWAITED = {"tasks": "tasks that it submitted", "data": "shared data"}


def explain(task: Task) -> str:
    """Say why a task has not run, what it is doing, or what became of it.

    Args:
        task: of any kind, in any state.

    Returns:
        One or several sentences, a line each.

    Raises:
        WaitTimeout: the manager did not answer.

    Cost: a message to the manager and its answer, while the task goes on.

    Example:
        >>> import alamo
        >>> with alamo.Batch(num_workers=1) as batch:
        ...     task = batch.function(pow, 2, 5, name="power")
        ...     alamo.explain(task).partition(" (")[2]
        'power) has not been started: call start() or run().'
    """
    lines = _lines(task)
    more = getattr(task, "_explain_lines", None)
    return "\n".join([*lines, *(more() if more is not None else ())])


def _lines(task: Task) -> list[str]:
    program = task.program
    if program is None:
        return [f"{task.title()} has not been started: call start() or run()."]
    if isinstance(task, _Array):
        return _of_array(program, task.view, task.title())
    if task.index < 0:
        return _of_program(program, task.title())
    if task.index in program.arrays:
        return _of_array(program, program.arrays[task.index], program.title(task.index))
    return [_of_element(program, task.index)]


def _of_program(program: Program, title: str) -> list[str]:
    """A compiled task, or an array that runs: its counts, and the first that has not ended."""
    if not program.started:
        cancelled = f", and {len(program.to_cancel)} of its tasks were cancelled"
        return [
            f"{title} has not been started: call its start() or run()"
            f"{cancelled if program.to_cancel else ''}."
        ]
    lines = [f"{title}: {counts.of_program(program)}."]
    element = first_open(program)
    if element is not None:
        view = program.arrays.get(element)
        if isinstance(view, ArrayProgram):
            return lines + _of_array(program, view, view.title(-1))
        return [*lines, _of_element(program, element)]
    if not program.has_ended(False):
        lines.append(f"{title} waits for its iterables to give more elements.")
    return lines


def _of_array(program: Program, view: object, title: str) -> list[str]:
    if isinstance(view, ExpandedArray):
        left = next((e for e in view.elements if not program.has(e)), None)
        ended = sum(map(program.has, view.elements))
        line = f"{title}: {ended} of its {view.size} elements have ended."
        return [line] if left is None else [line, _of_element(program, left)]
    assert isinstance(view, ArrayProgram)
    if view.gate is not None and not view.has_ended(False):
        gate, element = view.gate
        account = account_of(gate, element) if gate.started else None
        if account is None or account.state != "running":
            return [_of_element(gate, element)]
    return _of_program(view, title)


def _of_element(program: Program, element: int) -> str:
    title = program.title(element)
    if not program.started:
        if element in program.to_cancel:
            return f"{title} was cancelled before it was started; it ends when that happens."
        return f"{title} is part of a compiled task that has not been started."
    try:
        account = account_of(program, element)
    except BatchBroken as error:
        return f"{error}."
    if account is not None:
        return f"{title} {_doing(program, element, account)}."
    if not program.has(element):
        return f"{title} is ending."
    state = counts.state_of(program, element)
    if state == "failed":
        return f"{title} has failed: {first_line(program, element)}."
    if state == "cancelled" and program.place(element) is not None:
        return f"{title} has ended: {first_line(program, element)}."
    if state != "done":
        return f"{did_not_run(program, element)}."
    attempts = len(program.attempts.get(element, ())) + 1
    return f"{title} has succeeded{f' in attempt {attempts}' if attempts > 1 else ''}."


def _doing(program: Program, element: int, account: msg.Account) -> str:
    """What an element that has not ended does, as the predicate of a sentence."""
    again = f", in attempt {account.attempt}" if account.attempt > 1 else ""
    match account.state:
        case "running":
            where = f"runs on {account.host}, in the worker with pid {account.pid}{again}"
            awaits = " and ".join([_AWAITED[what] for what in account.awaits])
            return f"{where}, and waits for {awaits}; others use its slot" if awaits else where
        case "waiting":
            count = account.waits_for_count or len(account.waits_for)
            names = map(program.title, account.waits_for[:_NAMED])
            return f"waits for the end of {_listed(names, count)}"
        case "held":
            lacks = [_lack(*lack) for lack in account.lacks]
            held = list(dict.fromkeys(_holder(program, *h) for h in account.holders))
            by = f"; held by {_listed(held[:_NAMED], len(held))}" if held else ""
            return f"is ready, and needs {' and '.join(lacks) or 'more than is free'}{by}"
        case "backing off":
            earlier = program.attempts.get(element)
            why = f" ({line_of(earlier[-1].outcome)})" if earlier else ""
            return (
                f"failed in attempt {max(account.attempt - 1, 1)}{why} and is tried again in "
                f"{account.retry_in_s:.2g} s"
            )
        case "paused":
            return "is held back until this client has taken in the results that are there"
        case "not started":
            return "has not been started"
    if account.ahead:
        return f"is ready; {account.ahead} other ready tasks go first{again}"
    return f"is ready, and next to run when a worker is free{again}"


def _lack(kind: str, wanted: int, free: int) -> str:
    """What is missing, in words: of GPUs thousandths are counted, of memory bytes."""
    if kind == "memory":
        return f"{format_size(wanted)} of memory where {format_size(free)} are free"
    shown, left = f"{wanted}", f"{free}"
    if kind == "GPUs":
        shown, left = f"{wanted / GPU_PARTS:g}", f"{free / GPU_PARTS:g}"
    what = kind.removesuffix("s") if shown == "1" else kind
    return f"{shown} {what} where {left} {'is' if left == '1' else 'are'} free"


def _holder(program: Program, number: int, element: int) -> str:
    other = program.client._programs.get(number)
    return "a task of another client" if other is None else other.title(element)


def _listed(names: Iterable[str], count: int) -> str:
    """Names of some of so many tasks."""
    shown = list(names)
    if count > len(shown):
        return f"{', '.join(shown)} and {count - len(shown)} more" if shown else f"{count} tasks"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
