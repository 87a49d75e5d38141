"""From tasks to a program on its way to the manager: dependencies, pickles, pages.

One walk over the list, a page at a time; ``_add_page`` is where a client's microseconds go.
A compile that fails leaves its tasks as they were.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from alamo.batch.arguments import blame_argument
from alamo.batch.functions import Function, Functions
from alamo.batch.job import _Job
from alamo.batch.options import Options
from alamo.batch.page_columns import column_of_uids, have_accesses, pickle_plain, spread
from alamo.batch.process import _Process
from alamo.batch.program_terms import ProgramTerms
from alamo.batch.results import compiling
from alamo.batch.shared import SHARED_MIN_BYTES, SharedObjects, long_texts, send_and_close
from alamo.batch.task import Task, _Function
from alamo.batch.watched import Callback
from alamo.core import graph
from alamo.core.edges import Columns
from alamo.core.hazards import HazardTracker
from alamo.errors import AlamoError, GraphError, SerializationError, UsageError
from alamo.protocol import messages as msg
from alamo.protocol.importable import importable

if TYPE_CHECKING:
    from alamo.batch.client import Client

#: Tasks a page: large against the cost of a message, small against a million.
PAGE = 1024


class Compiler:
    """Compiles one list of tasks.

    Attributes:
        program: what becomes of them.
        ranks: what goes first, by priority and longest path to the end; empty if all are alike.
    """

    _kinds: frozenset[type] = frozenset({_Function, _Process, _Job})

    def __init__(self, batch: Any, client: Client, priority: int = 0) -> None:
        self.program = client.new_program()
        self.ranks = b""
        self.priority = priority
        self._batch = batch
        self._client = client
        self._count = 0
        self._tracker: HazardTracker | None = None
        self._pred_ends = array("I")
        self._preds = array("I")
        self._joins: list[int] = []
        self._uids = array("Q")
        self._sources: list[int] = []
        #: Goes with whatever is sent first: each message alone wakes the manager up.
        self._opening: list[msg.Message] = [
            msg.Opened(self.program.number, os.getcwdb(), priority=priority)
        ]
        self._shared = SharedObjects(client, self.program.number, self._send)
        self.program.kinds = self._shared.parts.kinds
        self._inputs: list[tuple[int, tuple[int, ...]]] = []
        self._objects: list[tuple[int, tuple[int, ...]]] = []
        self._gates: tuple[tuple[int, int], ...] = ()
        #: Of arrays whose elements are tasks here: element -> the join that stands for its array.
        self._joins_of: dict[int, int] = {}
        self._functions = Functions(client, self.program.number, self._send)
        self._terms = ProgramTerms(self.program.number)
        #: Of elements with options: those of the page under way, and all that are not 0.
        self._options: list[tuple[int, Options]] = []
        self._priorities: dict[int, int] = {}
        #: Options that all tasks of the page under way have.
        self._alike: Options | None = None

    # -- the whole -------------------------------------------------------------------------

    def compile(self, tasks: Sequence[Task]) -> None:
        """Send all tasks; nothing runs yet."""
        try:
            importable.scan()
            compiling.compiler = self
            with self._client.blocks.helped():
                for start in range(0, len(tasks), PAGE):
                    self._add(tasks[start : start + PAGE])
            compiling.compiler = None
            self._finish()
            self._let_go(tasks)
        except BaseException:
            compiling.compiler = None
            self._shared.close()
            self._undo(tasks)
            raise
        finally:
            self._shared.end()
            # These and this refer to each other; arguments and results would hang on.
            del self._shared, self._functions

    def _undo(self, tasks: Sequence[Task]) -> None:
        """Nobody can start the program: its tasks are as they were, but those let go of."""
        program = self.program
        for task in tasks:
            if getattr(task, "program", None) is program and _has_function(task):
                task.program, task.index = None, -1
        self._client.forget_program(program)

    def _finish(self) -> None:
        program = self.program
        first = self._uids[0]
        if first and self._uids == array("Q", range(first, first + len(self._uids))):
            program.first_uid = first
        else:
            program.uids = self._uids
        if self._preds:
            self._pred_ends.extend([len(self._preds)] * (self._count - len(self._pred_ends)))
            self.ranks = graph.ranks(
                self._pred_ends, self._preds, self._count, self._joins
            ).tobytes()
            program.edges = Columns(self._pred_ends, self._preds, array("I", self._joins))
        if self._priorities:
            self.ranks = graph.ranks_by_priority(
                self.ranks, self._priorities, self._count
            ).tobytes()
        program.function_names = self._functions.names

    def _let_go(self, tasks: Sequence[Task]) -> None:
        """What has been sent need not be kept by the tasks."""
        nothing = ()
        for task in tasks:
            task.func = None  # type: ignore[attr-defined]  # first: ``_undo`` looks at it
            task.args = task.reads = task.writes = nothing  # type: ignore[attr-defined]
        if self.program.callbacks:
            for task in tasks:
                task.callback_func = None

    # -- a page ----------------------------------------------------------------------------

    def _add(self, tasks: Sequence[Task]) -> None:
        """Add neighbouring tasks."""
        self._claim(tasks)
        self._add_page(tasks)

    def _add_page(self, tasks: Sequence[Task]) -> None:
        """Add neighbouring tasks.  What all of them need is done for all at once, in C."""
        first = self._count
        self._shared.texts = set()
        functions, loose = self._functions.of(tasks)
        blobs = pickle_plain(tasks) if not loose else None
        args = b"" if blobs is None else b"".join(blobs)
        if blobs is None or len(args) > SHARED_MIN_BYTES * len(tasks):
            self._shared.texts = long_texts([task.args for task in tasks])  # type: ignore[attr-defined]
        if blobs is None or self._shared.texts:
            blobs = self._place_any(tasks, functions, loose)
            args = b"".join(blobs)
        elif have_accesses(tasks):
            self._place_plain(tasks)
        else:
            for index, task in enumerate(tasks, first):
                task.index = index
            if self._tracker is not None:
                self._tracker.add_plain(len(tasks))
        end = tasks[-1].index + 1
        if end - first > len(tasks):
            blobs = spread(blobs, tasks, first, end)
        column = self._functions.column(tasks, functions, loose, end - first)
        self._note_options(tasks, has_joins=end - first > len(tasks))
        self._uids.extend(column_of_uids(tasks, first, end))
        lengths = array("I", map(len, blobs))
        self._send_page(first, end - first, column, lengths, args, len(tasks))

    def _claim(self, tasks: Sequence[Task]) -> None:
        """Check the tasks and mark them as this program's."""
        batch, program, kinds = self._batch, self.program, self._kinds
        for task in tasks:
            if task.__class__ not in kinds or task.program is not None or task.batch is not batch:
                self._refuse(task, program.tasks + [t is task for t in tasks].index(True))
            task.program = program

    def _place_plain(self, tasks: Sequence[Task]) -> None:
        """Infer the dependencies of tasks whose arguments hold no handles."""
        tracker = self._tracker or self._start_tracker()
        placed: list[int] = []
        reads, writes = [task.reads for task in tasks], [task.writes for task in tasks]
        try:
            tracker.add_all(reads, writes, repeat(()), placed)
        except GraphError as error:
            raise GraphError(f"{tasks[len(placed)].title()}: {error}") from error
        for task, index in zip(tasks, placed):
            task.index = index

    def _place_any(
        self, tasks: Sequence[Task], functions: list[Function], loose: set[int]
    ) -> list[bytes]:
        """Pickle any arguments and infer dependencies, one task after the other: a handle needs
        the index of its task."""
        tracker = self._tracker or self._start_tracker()
        blobs: list[bytes] = []
        for task, function in zip(tasks, functions):
            data, sources, used = self._dump_args(task, function if id(function) in loose else None)
            try:
                edges = self._edges_from(sources)
                index = task.index = tracker.add(task.reads, task.writes, edges)
            except GraphError as error:
                raise GraphError(f"{task.title()}: {error}") from error
            blobs.append(data)
            self._note_inputs(index, sources, used)
        return blobs

    def _edges_from(self, sources: Sequence[int]) -> Sequence[int]:
        """The elements to wait for: instead of all of an array's the one that stands for it."""
        joins = self._joins_of
        return list({joins.get(s, s): None for s in sources}) if joins else sources

    def _note_inputs(self, index: int, sources: Sequence[int], used: list[int]) -> None:
        if sources:
            self._inputs.append((index, tuple(sources)))
        if used:
            self._objects.append((index, tuple(used)))

    def _start_tracker(self) -> HazardTracker:
        tracker = self._tracker = HazardTracker()
        tracker.add_plain(self._count)
        tracker.drain()
        return tracker

    def _note_options(self, tasks: Sequence[Task], has_joins: bool) -> None:
        program = self.program
        given = [task.options for task in tasks]
        alike = given[0]
        # Looks at identity first, in C.
        if alike is None or alike.priority or has_joins or given.count(alike) < len(given):
            alike = None
        self._alike = alike
        for task in tasks:
            if task.name is not None:
                program.names[task.index] = task.name
            if alike is None and task.options is not None:
                self._note_terms(task.index, task.options)
            if task.callback_func is not None:
                callback = Callback(task.callback_func, tuple(task.callback_args))
                program.callbacks[task.index] = callback
            if task.form is not None:  # type: ignore[attr-defined]
                program.forms[task.index] = task.form  # type: ignore[attr-defined]
        if program.callbacks:
            self._client.callbacks.start()

    def _note_terms(self, element: int, options: Options) -> None:
        self._options.append((element, options))
        if options.priority:
            self._priorities[element] = options.priority

    def _send_page(
        self,
        first: int,
        count: int,
        functions: int | bytes,
        lengths: array[int],
        args: bytes,
        tasks: int,
    ) -> None:
        page = msg.Page(self.program.number, count, functions, lengths.tobytes(), args)
        if self._tracker is not None:
            drained = self._tracker.drain()
            page.pred_ends, page.preds, page.joins = (
                drained.pred_ends,
                drained.preds,
                tuple(drained.joins),
            )
            self._joins += drained.joins
            self._keep_edges(first, drained.pred_ends, drained.preds)
        if self._inputs or self._objects:
            page.inputs, page.objects = tuple(self._inputs), tuple(self._objects)
            self._inputs, self._objects = [], []
        page.gates, self._gates = self._gates, ()
        if self._alike is not None:
            page.terms, self._alike = self._terms.number(self._alike), None
        elif self._options:
            given = [(element - first, options) for element, options in self._options]
            page.terms = self._terms.column(given, count)
            self._options = []
        self._count = first + count
        runs = self.program.functions
        if not runs or functions.__class__ is bytes or runs[-1][1] != functions:
            runs.append((first, functions))
        self.program.add_elements(count, tasks)
        messages, fds = self._shared.take_unsent()
        send_and_close(self._send, [*self._terms.take_unsent(), *messages, page], fds)

    def _send(self, messages: Sequence[msg.Message], fds: Sequence[int] = ()) -> None:
        opening, self._opening = self._opening, []
        self._client.send([*opening, *messages], fds)

    def _keep_edges(self, first: int, pred_ends: bytes, preds: bytes) -> None:
        """All pages' edges, for the ranks and for drawings."""
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
        if self._element_of(task) != -1 or task.program is self.program:
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

    def _dump_args(
        self, task: Task, function: Function | None
    ) -> tuple[bytes, Sequence[int], list[int]]:
        """Pickle any arguments, behind the function if that goes with them.

        Returns:
            Their pickle, the elements whose handles they hold, and the numbers of the
            shared objects that they refer to.
        """
        args: tuple[Any, ...] = task.args  # type: ignore[attr-defined]
        try:
            data = self._shared.dump(args if function is None else (function, *args), self._sources)
        except AlamoError as error:
            if function is not None:
                self._functions.check(task, function)
            if isinstance(error, SerializationError):
                raise blame_argument(task.title(), args, error) from error
            raise type(error)(f"an argument of {task.title()}: {error}") from error
        if function is not None and self._sources:
            self._functions.check(task, function)  # a handle in it is refused, wherever it goes
        return data, tuple(dict.fromkeys(self._sources)), self._shared.used

    def source_of(self, task: Task, what: str) -> int:
        """A handle is inside an argument: the element that it stands for.

        Raises:
            UsageError: it is not a handle of an earlier task of this list.
        """
        if self._functions.pickling:
            raise UsageError(
                f"it holds the {what} handle of {task.title()} in its closure, defaults or "
                "globals; give the handle as an argument"
            )
        element = self._element_of(task)
        if element < 0:
            where = (
                "a compiled task" if task.compiled else "a task that is not before it in the list"
            )
            raise UsageError(
                f"the {what} handle of {task.title()} is given, which is {where}; "
                "a handle can only be an argument of a later task of the same compile"
            )
        self._sources.append(element)
        return element

    def _element_of(self, task: Task) -> int:
        """The element of a task that has been placed, or -1."""
        return task.index if task.program is self.program else -1


def _has_function(task: Any) -> bool:
    return task.func is not None
