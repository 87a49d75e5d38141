"""What Batches, tasks and handles look like where they are shown: one line, or HTML in a notebook.

Showing something never waits, unpickles, takes a lock or raises, whatever has become of the Batch.
"""

from __future__ import annotations

import html as markup
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_task import _Array
from alamo.batch.counts import STATES, Counts, Unfinished, failures_of, of_program, state_of
from alamo.batch.expanded import ExpandedArray
from alamo.batch.failures import first_line
from alamo.batch.outcomes import Program
from alamo.batch.results import STREAMS, AsyncDict

if TYPE_CHECKING:
    from alamo.batch.batch import Batch
    from alamo.batch.handles import HandlesByUid
    from alamo.batch.task import Task

#: Failures that are shown in a notebook; in a line it is the first.
_SHOWN = 5
#: Characters of a name or of the first line of an error.
_WIDTH = 100
#: Elements of an array among other tasks of one program that are counted.
_COUNTED_MAX = 10_000

#: Seen on white and on black.
_COLOURS = {"done": "#3a9d5d", "failed": "#d9534f", "skipped": "#c9932b"}
_COLOURS |= {"cancelled": "#7a8794", "waiting": "#8886"}


@dataclass
class Glance:
    """What there is to see of something.

    Attributes:
        title: kind, uid and name.
        state: in a word or two.
        counts: of its tasks, if there are several.
        failures: the first of them: title (of one task: nothing) and first line.
        elapsed_s: since its start, or from there to the end.
    """

    title: str
    state: str
    counts: Counts | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)
    elapsed_s: float | None = None


def text(thing: Any, look: Callable[[Any], Glance]) -> str:
    """A line, for ``repr``."""
    try:
        glance = look(thing)
        parts = [glance.state]
        if glance.counts is not None:
            parts.append(_counted(glance.counts))
        if glance.failures:
            title, line = glance.failures[0]
            parts.append(f"first failure: {title}: {line}" if title else line)
        if glance.elapsed_s is not None:
            parts.append(_duration(glance.elapsed_s))
        return f"<{glance.title}: {', '.join(parts)}>"
    except Exception:  # a name of the user's that cannot be printed, half a Batch
        return f"<{type(thing).__name__} at {id(thing):#x}>"


def html(thing: Any, look: Callable[[Any], Glance]) -> str:
    """A block of HTML that needs nothing from elsewhere, in the colours of the page around it."""
    try:
        glance = look(thing)
    except Exception:
        return f"<code>{markup.escape(text(thing, look))}</code>"
    head = f"<b>{markup.escape(glance.title)}</b>: {markup.escape(glance.state)}"
    if glance.elapsed_s is not None:
        head += f", {_duration(glance.elapsed_s)}"
    pieces = [f"<div>{head}</div>"]
    if glance.counts is not None:
        pieces += [_strip(glance.counts), f"<div>{markup.escape(_counted(glance.counts))}</div>"]
    for title, line in glance.failures:
        what = f"{title}: {line}" if title else line
        pieces.append(
            f'<div style="border-left:3px solid {_COLOURS["failed"]};padding-left:6px">'
            f"<code>{markup.escape(what)}</code></div>"
        )
    more = (glance.counts.failed if glance.counts is not None else 0) - len(glance.failures)
    if glance.failures and more > 0:
        pieces.append(f"<div>and {more} more</div>")
    return f'<div style="color:inherit;line-height:1.5">{"".join(pieces)}</div>'


# -- what is looked at -------------------------------------------------------------------------


def of_batch(batch: Batch) -> Glance:
    """Workers, state, and the counts of programs that this client has not seen the end of."""
    client = batch._client
    title = f"{type(batch).__name__} of {client.slots} workers, manager pid {client.manager_pid}"
    if not client.is_primary:
        title += f", client {client.number}"
    state = "closed" if client.closed else "broken" if client.broken is not None else "open"
    if not client.registered:
        state += ", inherited by a fork and not used here"
    counts = Unfinished(client)()
    return Glance(title, state, counts if counts.waiting or counts.ended else None)


def of_task(task: Task) -> Glance:
    """A task of any kind."""
    kind = type(task).__name__.lstrip("_")
    return _of_task(task, f"{kind} {_short(task.title())}")


def of_handle(handle: AsyncDict) -> Glance:
    """A handle: what is to be seen of its task."""
    return _of_task(handle.task, f"{STREAMS[handle.stream]} of {_short(handle.task.title())}")


def of_handles(handles: HandlesByUid) -> Glance:
    """What ``start`` of a compiled task returned."""
    title = f"handles of the {len(handles)} subtasks of {_short(handles._task.title())}"
    return _of_task(handles._task, title)


def _of_task(task: Task, title: str) -> Glance:
    program = task.program
    if program is None:
        return Glance(title, "not started")
    if isinstance(task, _Array) and isinstance(task.view, ExpandedArray) and not task.alone:
        return _of_members(program, task.view, title)
    if not program.started:
        return Glance(title, "not started", of_program(program) if task.index < 0 else None)
    began_s, ended_s = program.times(task.index)
    elapsed_s = None
    if began_s is not None and (ended_s is not None or program.broken is None):
        elapsed_s = (time.monotonic() if ended_s is None else ended_s) - began_s
    if task.index < 0:
        counts = of_program(program)
        failures = [(_short(who), _short(line)) for who, line in failures_of(program, _SHOWN)]
        return Glance(title, _state(program), counts, failures, elapsed_s)
    state = state_of(program, task.index)
    if state == "waiting" and program.broken is not None:
        state = "will get no result: the Batch has ended"
    failures = [("", _short(first_line(program, task.index)))] if state == "failed" else []
    return Glance(title, state, None, failures, elapsed_s)


def _state(program: Program) -> str:
    if isinstance(program, ArrayProgram) and program.is_skipped:
        return "skipped"
    if program.has_ended(False):
        return "ended"
    return "broken off" if program.broken is not None else "under way"


def _of_members(program: Program, view: ExpandedArray, title: str) -> Glance:
    """An array whose elements are tasks of a program among others."""
    if not program.started:
        return Glance(title, "not started", Counts(waiting=view.size, total=view.size))
    if view.size > _COUNTED_MAX:
        return Glance(title, f"{view.size} elements of a program that is {_state(program)}")
    states = [state_of(program, element) for element in view.elements]
    retried = sum([len(program.attempts.get(element, ())) for element in view.elements])
    counts = Counts(*map(states.count, STATES))._replace(total=view.size, retried=retried)
    bad = [element for element, state in zip(view.elements, states) if state == "failed"]
    failures = [
        (_short(program.title(element)), _short(first_line(program, element)))
        for element in bad[:_SHOWN]
    ]
    state = "ended" if not counts.waiting else _state(program)
    return Glance(title, state, counts, failures)


# -- pieces ------------------------------------------------------------------------------------


def _counted(counts: Counts) -> str:
    if counts.total is None:
        return f"{counts}, of an unknown number"
    made = counts.ended + counts.waiting
    return str(counts) + (f" of {counts.total}" if made != counts.total else "")


def _strip(counts: Counts) -> str:
    """A strip with a part for each state."""
    total = counts.total or counts.ended + counts.waiting or 1
    parts = [
        f'<span style="width:{100 * count / total:.1f}%;background:{_COLOURS[state]}"></span>'
        for count, state in zip(counts, _COLOURS)
        if count
    ]
    return (
        '<div style="display:flex;height:8px;max-width:30em;border:1px solid #8886">'
        f"{''.join(parts)}</div>"
    )


def _short(what: str) -> str:
    """On one line, and not too long."""
    line = " ".join(what[: 10 * _WIDTH].split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
