"""The runs of a task, of which those before the last one failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from alamo.batch.by_uid import ByUid
from alamo.batch.failures import error_of
from alamo.protocol.output_form import PLAIN
from alamo.protocol.records import OK, STDERR, STDOUT, Record, as_record

if TYPE_CHECKING:
    from alamo.batch.array_view import ArrayView
    from alamo.batch.outcomes import Program
    from alamo.batch.task import Task


@dataclass(frozen=True)
class Attempt:
    """One run of a task from its start to its end.

    Attributes:
        number: 1 for the first.
        delay_s: the pause between it and the next; ``None`` for the last.

    Example:
        >>> from alamo import Batch
        >>> with Batch(num_workers=1) as batch:
        ...     task = batch.function(int, "x", retries=1)
        ...     _ = task.start()
        ...     task.wait()
        ...     [(attempt.number, type(attempt.error).__name__) for attempt in task.attempts]
        [(1, 'ValueError'), (2, 'ValueError')]
    """

    number: int
    delay_s: float | None
    _program: Program = field(repr=False, compare=False)
    _element: int = field(repr=False)
    #: What it left; ``None``: nothing but a ``None`` as its result.
    _record: Record | None = field(repr=False)

    @property
    def error(self) -> BaseException | None:
        """What it raised; ``None`` if it succeeded.  Unpickled anew each time."""
        record = self._record
        if record is None or record.status == OK:
            return None
        return error_of(self._program, self._element, record)

    @property
    def stdout(self) -> str | bytes:
        """What it wrote to descriptor 1, as the task's handle gives it."""
        return self._text(STDOUT)

    @property
    def stderr(self) -> str | bytes:
        """What it wrote to descriptor 2, as the task's handle gives it."""
        return self._text(STDERR)

    def _text(self, stream: int) -> str | bytes:
        form = self._program.forms.get(self._element, PLAIN)
        record = self._record
        if record is None:
            return form.given(stream, b"")
        return form.given(stream, record.stdout if stream == STDOUT else record.stderr)


def attempts_of(task: Task) -> Any:
    """Body of ``Task.attempts``."""
    from alamo.batch.array_task import _Array

    program = task.program
    if isinstance(task, _Array):
        return ArrayAttempts(task.view)
    if program is None:
        return []
    return attempts_at(program, task.index) if task.index >= 0 else AttemptsByUid(program)


def attempts_at(program: Program, element: int) -> list[Attempt]:
    """Those of one element that have ended."""
    earlier = list(program.attempts.get(element, ()))
    found = [
        Attempt(number, attempt.delay_s, program, element, as_record(attempt.outcome))
        for number, attempt in enumerate(earlier, 1)
    ]
    if program.place(element) is not None:
        record = as_record(bytes(program._data(element)))
        found.append(Attempt(len(found) + 1, None, program, element, record))
    return found


class ArrayAttempts(Sequence[list[Attempt]]):
    """The runs of an array's elements, by index, of those made so far.

    Looked up when asked for: it costs nothing however many there are.
    """

    def __init__(self, view: ArrayView | None) -> None:
        self._view = view

    @overload
    def __getitem__(self, index: int) -> list[Attempt]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Attempt]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Of one element, or a list of several."""
        places = range(len(self))
        if isinstance(index, slice):
            return [self[i] for i in places[index]]
        at = places[index]
        assert self._view is not None  # or there were no places
        return attempts_at(*self._view.place_of(at))

    def __len__(self) -> int:
        """How many elements have been made; does not wait."""
        return 0 if self._view is None else self._view.size


class AttemptsByUid(ByUid["list[Attempt] | ArrayAttempts"]):
    """The runs of a compiled task's subtasks: uid -> a list, of an array ``ArrayAttempts``."""

    def _at(self, element: int) -> list[Attempt] | ArrayAttempts:
        program = self._program
        if element in program.arrays:
            return ArrayAttempts(program.arrays[element])
        return attempts_at(program, element)
