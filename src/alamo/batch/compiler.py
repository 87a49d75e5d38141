"""From tasks to a program on its way to the manager: dependencies, pickles, pages.

One walk over the list, a page at a time; ``_add_page`` is where a client's microseconds go.
A compile that fails leaves its tasks as they were.
"""

from __future__ import annotations

import os
import pickle
from array import array
from collections.abc import Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from alamo.batch.arguments import blame_argument
from alamo.batch.outcomes import Callback
from alamo.batch.results import compiling
from alamo.batch.shared import SharedObjects
from alamo.batch.task import Task, _Function
from alamo.core import graph
from alamo.core.hazards import HazardTracker
from alamo.errors import AlamoError, GraphError, SerializationError, UsageError
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.importable import importable
from alamo.protocol.pickling import ATOMS, ATOMS_PROTOCOL

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
        self._numbers: dict[int, int] = {}  # by id: the tasks keep their functions alive
        self._in_function = False

    # -- the whole -------------------------------------------------------------------------

    def compile(self, tasks: Sequence[Task]) -> None:
        """Send all tasks; nothing runs yet."""
        client, program = self._client, self.program
        importable.scan()
        compiling.compiler = self
        try:
            client.send([msg.Opened(program.number, os.getcwd())])
            with client.blocks.helped():
                for start in range(0, len(tasks), PAGE):
                    self._add_page(tasks[start : start + PAGE])
        except BaseException:
            for task in tasks:
                if getattr(task, "program", None) is program:
                    task.program, task.index = None, -1
            client.forget_program(program)
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
        if self._tracker is not None:
            for task in tasks:
                task.reads = task.writes = ()
        if program.callbacks:
            for task in tasks:
                task.callback_func = None

    # -- a page ----------------------------------------------------------------------------

    def _add_page(self, tasks: Sequence[Task]) -> None:
        """Add neighbouring tasks.  What all of them need is done for all at once, in C."""
        self._claim(tasks)
        first = self._count
        blobs = _pickle_plain(tasks)
        if blobs is not None and not _have_accesses(tasks):
            end = first + len(tasks)
            for index, task in enumerate(tasks, first):
                task.index = index
            if self._tracker is not None:
                self._tracker.add_plain(len(tasks))
        else:
            blobs, end = self._place(tasks, blobs)
        functions = self._functions_column(tasks, first, end)
        self._note_options(tasks)
        self._uids.extend(_column_of_uids(tasks, first, end))
        self._send_page(first, end - first, functions, blobs, len(tasks))

    def _claim(self, tasks: Sequence[Task]) -> None:
        """Check the tasks and mark them as this program's."""
        batch, program = self._batch, self.program
        for task in tasks:
            if (
                task.__class__ is not _Function
                or task.program is not None
                or task.batch is not batch
            ):
                self._refuse(task, program.tasks + [t is task for t in tasks].index(True))
            task.program = program

    def _place(self, tasks: Sequence[Task], plain: list[bytes] | None) -> tuple[list[bytes], int]:
        """Infer dependencies, and pickle arguments unless ``plain`` has them.

        Returns:
            Pickled arguments an element, and the element that comes next.
        """
        tracker = self._tracker or self._start_tracker()
        index = self._count
        blobs: list[bytes] = []
        sources: Sequence[int] = ()
        used: list[int] = []
        for task, data in zip(tasks, plain or repeat(None)):
            if data is None:
                data, sources, used = self._dump_args(task)
            reads, writes = task.reads, task.writes
            if reads or writes or sources:
                try:
                    at = tracker.add(reads, writes, sources)
                except GraphError as error:
                    raise GraphError(f"{task.title()}: {error}") from error
                if at > index:  # joins that its dependencies need take the elements before it
                    blobs += [b""] * (at - index)
                    self._joins += range(index, at)
                    index = at
            else:
                tracker.add_plain()
            blobs.append(data)
            if sources:
                self._inputs.append((index, tuple(sources)))
            if used:
                self._objects.append((index, tuple(used)))
            task.index = index
            index += 1
        return blobs, index

    def _start_tracker(self) -> HazardTracker:
        tracker = self._tracker = HazardTracker()
        tracker.add_plain(self._count)
        tracker.drain()
        return tracker

    def _functions_column(self, tasks: Sequence[Task], first: int, end: int) -> int | bytes:
        """One function number for all elements, or a column of them."""
        functions = [task.func for task in tasks]  # type: ignore[attr-defined]
        if len(set(map(id, functions))) == 1 and end - first == len(tasks):
            return self._function_number(tasks[0], functions[0])
        column = array("I", [msg.NO_FUNCTION]) * (end - first)
        for task, function in zip(tasks, functions):
            column[task.index - first] = self._function_number(task, function)
        return column.tobytes()

    def _note_options(self, tasks: Sequence[Task]) -> None:
        program = self.program
        for task in tasks:
            if task.name is not None:
                program.names[task.index] = task.name
            if task.callback_func is not None:
                callback = Callback(task.callback_func, tuple(task.callback_args))
                program.callbacks[task.index] = callback

    def _send_page(
        self, first: int, count: int, functions: int | bytes, blobs: list[bytes], tasks: int
    ) -> None:
        page = msg.Page(
            self.program.number,
            count,
            functions,
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

    def _function_number(self, task: Task, function: Any) -> int:
        number = self._numbers.get(id(function))
        if number is None:
            self._in_function = True
            try:
                number = self._client.function_number(function)
            except AlamoError as error:
                raise type(error)(f"the function of {task.title()}: {error}") from error
            finally:
                self._in_function = False
            self._numbers[id(function)] = number
        return number

    def _dump_args(self, task: Task) -> tuple[bytes, Sequence[int], list[int]]:
        """Pickle any arguments.

        Returns:
            Their pickle, the elements whose handles they hold, and the numbers of the
            shared objects that they refer to.
        """
        args: tuple[Any, ...] = task.args  # type: ignore[attr-defined]
        self._sources = []
        self._shared.used = []
        try:
            placed = tuple(
                [a if a.__class__ in ATOMS else self._shared.place(a, self._sources) for a in args]
            )
            data, buffers = pickling.dump(placed)
            if buffers:  # a large array inside a container that was placed in line
                placed = tuple([self._shared.force(a, self._sources) for a in placed])
                data, _ = pickling.dump(placed)
        except SerializationError as error:
            raise blame_argument(task.title(), args, error) from error
        except AlamoError as error:
            raise type(error)(f"an argument of {task.title()}: {error}") from error
        return data, tuple(dict.fromkeys(self._sources)), self._shared.used

    def source_of(self, task: Task, what: str) -> int:
        """A handle is inside an argument: the element that it stands for.

        Raises:
            UsageError: it is not a handle of an earlier task of this list.
        """
        if self._in_function:
            raise UsageError(
                f"it holds the {what} handle of {task.title()} in its closure, defaults or "
                "globals; give the handle as an argument"
            )
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


def _pickle_plain(tasks: Sequence[Task]) -> list[bytes] | None:
    """Pickled arguments of tasks that have only numbers and strings; ``None`` if one has others."""
    args = [task.args for task in tasks]  # type: ignore[attr-defined]
    if not ATOMS.issuperset(map(type, chain.from_iterable(args))):
        return None
    return list(map(pickle.dumps, args, repeat(ATOMS_PROTOCOL)))


def _have_accesses(tasks: Sequence[Task]) -> bool:
    return any([t.reads or t.writes for t in tasks])  # noqa: C419  a generator is slower


def _column_of_uids(tasks: Sequence[Task], first: int, end: int) -> array[int]:
    """The uid of each element, 0 for a join."""
    uids = array("Q", [task._uid for task in tasks])
    if end - first == len(tasks):
        return uids
    column = array("Q", bytes(8 * (end - first)))
    for task, uid in zip(tasks, uids):
        column[task.index - first] = uid
    return column
