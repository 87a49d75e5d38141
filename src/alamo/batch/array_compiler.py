"""Compiling arrays among other tasks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from alamo.batch.arguments import accesses_of
from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_task import _Array, let_go, open_array
from alamo.batch.compiler import PAGE, Compiler
from alamo.batch.expanded import Countdown, ExpandedArray
from alamo.batch.functions import name_of
from alamo.batch.outcomes import Program
from alamo.batch.start_right import StartRight
from alamo.batch.task import Task, _Compiled
from alamo.batch.watched import Callback
from alamo.core.access import READ, WRITE
from alamo.errors import AlamoError, GraphError, UsageError
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.client import Client


class ArrayCompiler(Compiler):
    """A compiler of lists that may hold arrays.

    Attributes:
        arrays: those whose elements are made while they run.
    """

    _kinds: frozenset[type] = Compiler._kinds | {_Array}

    def __init__(self, batch: Any, client: Client, priority: int) -> None:
        super().__init__(batch, client, priority)
        self.arrays: list[_Array] = []

    def _undo(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if isinstance(task, _Array) and task.view is not None and _is_of(task, self.program):
                if isinstance(task.view, ArrayProgram):
                    self._client.forget_program(task.view)
                if task.func is not None:
                    task.program, task.index, task.feeder, task.view = None, -1, None, None
                    task.args = ()
        super()._undo(tasks)

    def _let_go(self, tasks: Sequence[Task]) -> None:
        super()._let_go(tasks)
        for task in tasks if self.program.arrays else ():
            if isinstance(task, _Array):
                let_go(task)
                task.index = -1

    def _add(self, tasks: Sequence[Task]) -> None:
        """Add neighbouring tasks: arrays one by one, others together."""
        self._claim(tasks)
        if _Array not in set(map(type, tasks)):
            self._add_page(tasks)
            return
        for is_array, run in groupby(tasks, _is_array):
            if not is_array:
                self._add_page(list(run))
                continue
            for task in run:
                assert isinstance(task, _Array)
                if task.is_elementwise:
                    self._add_elements(task)
                else:
                    self._add_array(task)

    def _add_array(self, task: _Array) -> None:
        """Add an array: its elements are a program of their own, fed when this one has started."""
        tracker = self._tracker or self._start_tracker()
        first = self._count
        try:
            index = task.index = tracker.add(task.reads, task.writes)
        except GraphError as error:
            raise GraphError(f"{task.title()}: {error}") from error
        inner = open_array(task, self._opening.extend, self.priority)
        inner.gate = (self.program, index)
        self.program.arrays[index] = inner
        self.arrays.append(task)
        if task.callback_func is not None:
            self._client.callbacks.start()
            callback = Callback(task.callback_func, tuple(task.callback_args))
            self.program.callbacks[index] = callback
        self._gates = ((index, inner.number),)
        if task.name is not None:
            self.program.names[index] = task.name
        count = index + 1 - first
        self._uids.extend([0] * (count - 1) + [task.uid])
        self._send_page(first, count, msg.NO_FUNCTION, array("I", bytes(4 * count)), b"", 1)

    def _add_elements(self, task: _Array) -> None:
        """Add an array whose elements have accesses of their own: they are tasks of this program,
        and a join that waits for all of them stands for the array."""
        assert task.source is not None
        assert task.func is not None
        tracker = self._tracker or self._start_tracker()
        elements = array("I")
        rows = task.source.rows()
        for at in range(0, len(rows), PAGE):
            elements.extend(self._add_rows(task, rows[at : at + PAGE], at))
        task.args = ()
        first = self._count
        join = tracker.add_join(elements)
        self._uids.append(task.uid)
        self._send_page(first, 1, msg.NO_FUNCTION, array("I", [0]), b"", 0)
        task.view = view = ExpandedArray(self.program, elements, task.uid, task.name)
        view.function_name = name_of(task.func)
        self.program.expanded.append(view)
        self.program.arrays[join] = view
        self._joins_of.update(dict.fromkeys(elements, join))
        if task.callback_func is not None:
            self._client.callbacks.start()
            callback = Callback(task.callback_func, tuple(task.callback_args))
            self.program.callbacks[join] = callback
            countdown = Countdown(view, join)
            for element in elements:
                self.program.watch(element, countdown)
            if not elements:  # nothing will release it
                task.feeder = countdown
                self.arrays.append(task)

    def _add_rows(self, task: _Array, rows: list[tuple[Any, ...]], at: int) -> list[int]:
        """Add neighbouring elements of an array, by their arguments; returns their numbers.

        Args:
            at: index of the first in the array.
        """
        tracker, first = self._tracker, self._count
        assert tracker is not None
        assert task.func is not None
        number = self._functions.number(task, task.func)
        blobs: list[bytes] = []
        placed: list[int] = []
        for index, row in enumerate(rows, at):
            task.args = row
            title = f"element {index} of {task.title()}"
            try:
                data, sources, used = self._dump_args(task, None)
                reads = accesses_of(task.reads, row, READ)
                writes = accesses_of(task.writes, row, WRITE)
                tracker.add_all((reads,), (writes,), (self._edges_from(sources),), placed)
            except AlamoError as error:
                raise type(error)(f"{title}: {error}") from error
            except Exception as error:
                error.add_note(f"for {title}")
                raise
            blobs.append(data)
            self._note_inputs(placed[-1], sources, used)
        count = placed[-1] + 1 - first
        if task.options is not None:
            for element in placed:
                self._note_terms(element, task.options)
        functions = array("I", [msg.NO_FUNCTION]) * count
        lengths = array("I", bytes(4 * count))
        for element, data in zip(placed, blobs):
            functions[element - first] = number
            lengths[element - first] = len(data)
        self._uids.extend([0] * count)
        self._send_page(first, count, functions.tobytes(), lengths, b"".join(blobs), len(rows))
        return placed

    def sources_of(self, task: Task, what: str) -> tuple[int, ...]:
        """The handle of an array whose elements are tasks is inside an argument: its elements."""
        view = task.view if isinstance(task, _Array) else None
        if self._functions.pickling or not isinstance(view, ExpandedArray):
            return (self.source_of(task, what),)  # which says what is wrong
        if view.program is not self.program:
            raise UsageError(
                f"the {what} handle of {task.title()} is given, which is of another compile"
            )
        self._sources.extend(view.elements)
        return tuple(view.elements)

    def _element_of(self, task: Task) -> int:
        """The element of a task that has been placed, or -1."""
        if isinstance(task, _Array):
            gate = task.program.gate if isinstance(task.program, ArrayProgram) else None
            return gate[1] if gate is not None and gate[0] is self.program else -1
        return task.index if task.program is self.program else -1


def _is_of(task: _Array, program: Program) -> bool:
    """Whether an array has been compiled into this program."""
    gate = task.program.gate if isinstance(task.program, ArrayProgram) else None
    return task.program is program or (gate is not None and gate[0] is program)


def compile_tasks(
    batch: Any,
    tasks: Sequence[Task],
    callback_func: Callable[..., Any] | None,
    callback_args: tuple[Any, ...],
    name: str | None,
    priority: int,
) -> Task:
    """Body of ``Batch.compile``."""
    client: Client = batch._client
    uid = next(client.uids)
    compiler = ArrayCompiler(batch, client, priority)
    compiler.compile(tasks)
    program = compiler.program
    if callback_func is not None:
        program.end_callback = Callback(callback_func, tuple(callback_args))
    return _Compiled(
        batch,
        callback_func,
        callback_args,
        compiled=True,
        name=name,
        _uid=uid,
        program=program,
        ranks=compiler.ranks,
        arrays=compiler.arrays,
        start_right=StartRight(program),
    )


def _is_array(task: Task) -> bool:
    return task.__class__ is _Array
