"""From tasks to a program on its way to the manager: dependencies, pickles, pages.

One walk over the list; the loop of ``_add_page`` is where a client's microseconds go.
A compile that fails leaves its tasks as they were.
"""

from __future__ import annotations

import os
import pickle
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from alamo.batch.outcomes import Callback
from alamo.batch.results import compiling
from alamo.batch.shared import SharedObjects
from alamo.batch.task import Task, _Function
from alamo.core import graph
from alamo.core.hazards import HazardTracker
from alamo.errors import AlamoError, GraphError, SerializationError, UsageError
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.pickling import ATOMS

if TYPE_CHECKING:
    from alamo.batch.client import Client

#: Tasks a page: large against the cost of a message, small against a million.
PAGE = 1024


class Compiler:
    """Compiles one list of tasks.

    Attributes:
        program: what becomes of them.
        ranks: longest path to the end an element, empty without dependencies.
    """

    def __init__(self, batch: Any, client: Client) -> None:
        self.program = client.new_program()
        self.ranks = b""
        self._batch = batch
        self._client = client
        self._count = 0
        self._tracker: HazardTracker | None = None
        self._pred_ends = array("I")
        self._preds = array("I")
        self._joins: list[int] = []
        self._uids = array("Q")
        self._sources: list[int] = []
        self._shared = SharedObjects(client, self.program.number)
        self._inputs: list[tuple[int, tuple[int, ...]]] = []
        self._objects: list[tuple[int, tuple[int, ...]]] = []
        self._function: Callable[..., Any] | None = None
        self._number = -1

    # -- the whole -------------------------------------------------------------------------

    def compile(self, tasks: Sequence[Task]) -> None:
        """Send all tasks; nothing runs yet."""
        client, program = self._client, self.program
        compiling.compiler = self
        try:
            client.send([msg.Opened(program.number, os.getcwd())])
            for start in range(0, len(tasks), PAGE):
                self._add_page(tasks[start : start + PAGE])
        except BaseException:
            for task in tasks:
                if getattr(task, "program", None) is program:
                    task.program, task.index = None, -1
            client.forget_program(program)
            if client.broken is None:
                client.send([msg.Dropped(program.number)])
            raise
        finally:
            compiling.compiler = None
        self._finish(tasks)

    def _finish(self, tasks: Sequence[Task]) -> None:
        program = self.program
        first = self._uids[0]
        if self._uids == array("Q", range(first, first + len(self._uids))):
            program.first_uid = first
        else:
            program.uids = self._uids
        if self._preds:
            self._pred_ends.extend([len(self._preds)] * (self._count - len(self._pred_ends)))
            self.ranks = graph.ranks(
                self._pred_ends, self._preds, self._count, self._joins
            ).tobytes()
        for task in tasks:
            task.func = None  # type: ignore[attr-defined]
            task.args = ()  # type: ignore[attr-defined]
            task.reads = task.writes = ()
            task.callback_func = None

    # -- a page ----------------------------------------------------------------------------

    def _add_page(self, tasks: Sequence[Task]) -> None:
        batch, program, dumps, atoms = self._batch, self.program, pickle.dumps, ATOMS
        tracker, shared = self._tracker, self._shared
        index = first = self._count
        blobs: list[bytes] = []
        changes: list[tuple[int, int]] = [(0, self._number)]
        function = self._function
        plain = 0  # elements that the tracker has not been told of
        for task in tasks:
            if (
                task.__class__ is not _Function
                or task.program is not None
                or task.batch is not batch
            ):
                self._refuse(task, index)
            sources: Sequence[int] = ()
            args = task.args  # type: ignore[attr-defined]
            for value in args:
                if value.__class__ not in atoms:
                    data, sources = self._dump_args(task, args)
                    break
            else:
                data = dumps(args, 5)
            reads, writes = task.reads, task.writes
            if reads or writes or sources:
                if tracker is None:
                    tracker = self._start_tracker(first)
                if plain:
                    tracker.add_plain(plain)
                    plain = 0
                try:
                    at = tracker.add(reads, writes, sources)
                except GraphError as error:
                    raise GraphError(f"{task.title()}: {error}") from error
                if at > index:
                    self._add_joins(index, at, blobs, changes)
                    index = at
            else:
                plain += 1
            if task.func is not function:  # type: ignore[attr-defined]
                function = task.func  # type: ignore[attr-defined]
                self._number = self._function_number(task, function)
                changes.append((len(blobs), self._number))
            blobs.append(data)
            if sources:
                self._inputs.append((index, tuple(sources)))
            if shared.used:
                self._objects.append((index, tuple(shared.used)))
                shared.used = []
            if task.callback_func is not None or task.name is not None:
                self._note_options(task, index)
            task.program = program
            task.index = index
            index += 1
        if tracker is not None:
            tracker.add_plain(plain)
        self._function = function
        self._uids.extend(self._column_of_uids(tasks, first, index))
        self._send_page(first, index - first, changes, blobs, len(tasks))

    def _start_tracker(self, first: int) -> HazardTracker:
        tracker = self._tracker = HazardTracker()
        tracker.add_plain(first)
        tracker.drain()
        return tracker

    def _add_joins(
        self, first: int, end: int, blobs: list[bytes], changes: list[tuple[int, int]]
    ) -> None:
        """The next task's dependencies need joins, which take the elements before it."""
        changes += (
            (len(blobs), msg.NO_FUNCTION),
            (len(blobs) + end - first, self._number),
        )
        blobs += [b""] * (end - first)
        self._joins += range(first, end)

    def _column_of_uids(self, tasks: Sequence[Task], first: int, end: int) -> array[int]:
        uids = array("Q", [task._uid for task in tasks])
        if end - first == len(tasks):
            return uids
        column = array("Q", bytes(8 * (end - first)))
        for task, uid in zip(tasks, uids, strict=True):
            column[task.index - first] = uid
        return column

    def _send_page(
        self, first: int, count: int, changes: list[tuple[int, int]], blobs: list[bytes], tasks: int
    ) -> None:
        page = msg.Page(
            self.program.number,
            count,
            _functions_column(changes, count),
            array("I", map(len, blobs)).tobytes(),
            b"".join(blobs),
        )
        if self._tracker is not None:
            drained = self._tracker.drain()
            page.pred_ends, page.preds, page.joins = (
                drained.pred_ends,
                drained.preds,
                tuple(drained.joins),
            )
            self._keep_edges(first, drained.pred_ends, drained.preds)
        if self._inputs or self._objects:
            page.inputs, page.objects = tuple(self._inputs), tuple(self._objects)
            self._inputs, self._objects = [], []
        self._count = first + count
        self.program.add_elements(count, tasks)
        self._client.send([page])

    def _keep_edges(self, first: int, pred_ends: bytes, preds: bytes) -> None:
        """All pages' edges, for the ranks."""
        if not preds:
            return
        base = len(self._preds)
        self._pred_ends.extend([base] * (first - len(self._pred_ends)))
        ends = array("I")
        ends.frombytes(pred_ends)
        self._pred_ends.extend(ends if not base else array("I", [base + end for end in ends]))
        self._preds.frombytes(preds)

    # -- one task --------------------------------------------------------------------------

    def _refuse(self, task: Any, index: int) -> None:
        """Say why something in the list cannot be compiled."""
        if not isinstance(task, Task):
            raise GraphError(
                f"item {index} of the list is a {type(task).__qualname__}, not a task; "
                "make tasks with batch.function(...)"
            )
        if task.program is self.program:
            raise GraphError(f"{task.title()} is in the list twice; make a task for each call")
        if task.compiled:
            raise GraphError(
                f"{task.title()} is a compiled task; compile its subtasks in one list instead"
            )
        if task.program is not None:
            done = "been compiled" if task.subtask else "been started"
            raise GraphError(f"{task.title()} has {done} already; make a new task for each call")
        raise GraphError(
            f"{task.title()} belongs to another Batch; make it with this one's function()"
        )

    def _note_options(self, task: Task, index: int) -> None:
        if task.name is not None:
            self.program.names[index] = task.name
        if task.callback_func is not None:
            self.program.callbacks[index] = Callback(task.callback_func, tuple(task.callback_args))

    def _function_number(self, task: Task, function: Any) -> int:
        try:
            return self._client.function_number(function)
        except SerializationError as error:
            raise SerializationError(f"the function of {task.title()}: {error}") from error

    def _dump_args(self, task: Task, args: tuple[Any, ...]) -> tuple[bytes, Sequence[int]]:
        """Arguments that are not all plain numbers and strings.

        Returns:
            Their pickle, and the elements whose handles they hold.
        """
        self._sources = []
        try:
            placed = tuple(
                [a if a.__class__ in ATOMS else self._shared.place(a, self._sources) for a in args]
            )
            data, buffers = pickling.dump(placed)
            if buffers:  # a large array inside a container that was placed in line
                placed = tuple([self._shared.force(a, self._sources) for a in placed])
                data, _ = pickling.dump(placed)
        except SerializationError as error:
            raise self._blame_argument(task, args, error) from error
        except AlamoError as error:
            raise type(error)(f"an argument of {task.title()}: {error}") from error
        return data, tuple(dict.fromkeys(self._sources))

    def _blame_argument(
        self, task: Task, args: tuple[Any, ...], error: SerializationError
    ) -> SerializationError:
        for position, value in enumerate(args):
            try:
                pickling.dump(value)
            except SerializationError as problem:
                return SerializationError(f"argument {position} of {task.title()}: {problem}")
        return SerializationError(f"the arguments of {task.title()}: {error}")

    def source_of(self, task: Task, what: str) -> int:
        """A handle is inside an argument: the element that it stands for.

        Raises:
            UsageError: it is not a handle of an earlier task of this list.
        """
        if task.program is not self.program or task.index < 0:
            where = (
                "a compiled task" if task.compiled else "a task that is not before it in the list"
            )
            raise UsageError(
                f"the {what} handle of {task.title()} is given, which is {where}; "
                "a handle can only be an argument of a later task of the same compile"
            )
        self._sources.append(task.index)
        return task.index


def _functions_column(changes: list[tuple[int, int]], count: int) -> int | bytes:
    """From (position, number from there on) to one number, or a column of them."""
    spans = [
        (start, number)
        for (start, number), (end, _) in zip(changes, [*changes[1:], (count, 0)], strict=True)
        if end > start
    ]
    if len({number for _, number in spans}) == 1:
        return spans[0][1]
    column = array("I")
    for (start, number), (end, _) in zip(spans, [*spans[1:], (count, 0)], strict=True):
        column.extend([number] * (end - start))
    return column.tobytes()
