"""Array tasks: one task of many elements, and the handles of what they leave."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any, overload

from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_view import ArrayView
from alamo.batch.array_waits import CompletedElements, ElementWatch
from alamo.batch.expanded import Countdown, ExpandedArray
from alamo.batch.feeding import Feeder
from alamo.batch.functions import name_of
from alamo.batch.outcomes import Program
from alamo.batch.program_terms import ProgramTerms
from alamo.batch.results import STREAMS, AsyncDict, compiling
from alamo.batch.sources import Source
from alamo.batch.task import Task, _Call
from alamo.batch.task_stats import ArrayStats
from alamo.batch.waiting import default_timeout
from alamo.batch.watched import Callback
from alamo.errors import UsageError
from alamo.protocol import messages as msg
from alamo.protocol.placeholders import array_output
from alamo.protocol.records import RESULT, STDERR, STDOUT


class ArrayHandle(AsyncDict, frozen=True, eq=False, gc=False):
    """Handle of what the elements of an array task return or print.

    Example:
        >>> from alamo import Batch
        >>> with Batch(num_workers=1) as batch:
        ...     squares = batch.map(pow, range(5), [2] * 5)
        ...     result, stdout, stderr = squares.start()
        ...     result[3], len(result), list(result)
        (9, 5, [0, 1, 4, 9, 16])
    """

    def get(
        self,
        tuid: int | None = None,
        timeout: float | None = None,
        partial: bool = False,
        *,
        rank: int | None = None,
    ) -> Any:
        """The list of what all elements returned or printed, in order; waits for the end.

        Args:
            tuid: the array's uid, or nothing.
            timeout: seconds to wait; ``None`` waits for ever.
            partial: for ``result``, give the list of each element's ``Outcome`` and raise nothing.
            rank: refused; jobs have ranks.

        Raises:
            ExceptionGroup: what the elements raised; its message names the failed indices.
            UpstreamFailed: a task whose output the array needed had failed.
            WaitTimeout: (a ``TimeoutError``) the time is over.
            UsageError: the array has not been started.

        Cost: 0.2 us an element; nothing a ``None``.
        """
        view = self._view()
        if rank is not None:
            raise UsageError("rank= is for jobs; the elements of an array have none")
        if tuid is not None:
            self.task.element_of(tuid)
        view.wait_all(timeout)
        if self.stream != RESULT:
            view.raise_if_skipped()
            return [view.text_at(i, self.stream) for i in range(view.size)]
        return view.all_outcomes() if partial else view.all_values()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """What one element returned or printed; waits for it.  A slice gives a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        view = self._view()
        if index < 0 or not view.wait_one(index, None):
            raise IndexError(
                f"element {index} of {self.task.title()}, which has {len(self)}"
            ) from view.feed_error
        return self._at(view, index)

    def __iter__(self) -> Iterator[Any]:
        """What the elements returned or printed, in order, each as soon as it is there."""
        view = self._view()
        index = 0
        while view.wait_one(index, None):
            yield self._at(view, index)
            index += 1
        if view.feed_error is not None:
            raise view.feed_error

    def __len__(self) -> int:
        """How many elements there are; waits until that is known."""
        return self._view().wait_length()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """As ``__iter__``, for ``async for``."""
        from alamo.batch.awaiting import settled  # asyncio is slow to import

        view = self._view()
        for index in count():
            await settled(ElementWatch(view, index), (self.task.program.client,))
            if not view.wait_one(index, None):
                break
            yield self._at(view, index)
        if view.feed_error is not None:
            raise view.feed_error

    def as_completed(self, timeout: float | None = None) -> CompletedElements:
        """Pairs of an element's index and its ``Outcome``, as they end.

        For ``for`` and for ``async for``.

        Raises:
            WaitTimeout: (a ``TimeoutError``) not all have ended in so many seconds.
        """
        return CompletedElements(self._view(), timeout)

    def _view(self) -> ArrayView:
        task = self.task
        if task.view is None or not task.program.started:
            raise UsageError(f"{task.title()} has not been started; call start() or run() first")
        assert isinstance(task.view, ArrayView)
        return task.view

    def _at(self, view: ArrayView, index: int) -> Any:
        if self.stream == RESULT:
            return view.value_at(index)
        return view.text_at(index, self.stream)

    def __reduce__(self) -> tuple[Any, ...]:
        sources_of = getattr(getattr(compiling, "compiler", None), "sources_of", None)
        if sources_of is None or not isinstance(self.task.view, ExpandedArray):
            return AsyncDict.__reduce__(self)
        return array_output, (sources_of(self.task, STREAMS[self.stream]), self.stream)

    def __repr__(self) -> str:
        return AsyncDict.__repr__(self)


class _Array(_Call, gc=False, eq=False):
    """A task of many elements, which call one function.

    Attributes:
        view: its elements; ``None`` until it is compiled or started.
        alone: it was started by itself.
    """

    source: Source | None = None
    feeder: Feeder | Countdown | None = None
    view: ArrayView | None = None
    alone: bool = False

    @property
    def subtask(self) -> bool:
        """Whether it may only be started and waited on through a compiled task."""
        return self.program is not None and not self.alone

    @property
    def result(self) -> ArrayHandle:
        """Handle of what the elements return or raise."""
        return ArrayHandle(self, RESULT)

    @property
    def stdout(self) -> ArrayHandle:
        """Handle of what the elements write to descriptor 1, as texts."""
        return ArrayHandle(self, STDOUT)

    @property
    def stderr(self) -> ArrayHandle:
        """Handle of what the elements write to descriptor 2, as texts."""
        return ArrayHandle(self, STDERR)

    @property
    def is_elementwise(self) -> bool:
        """Whether its accesses are given element by element."""
        return callable(self.reads) or callable(self.writes)

    def get(self, tuid: int | None = None, timeout: float | None = None) -> Any:
        """The results: ``task.result.get(tuid, timeout)``."""
        return self.result.get(tuid, timeout)

    def run(self, timeout: float | None = default_timeout, *, progress: bool = False) -> Any:
        """Start the array, wait for its end and return the list of its results.

        Raises:
            ExceptionGroup: what the elements raised; its message names the failed indices.
            WaitTimeout: (a ``TimeoutError``) the time is over; the task goes on.
        """
        self._start_and_wait(timeout, progress)
        return self.result.get()

    def read(self, obj: Any, *channels: Any) -> None:
        """Say that the array as a whole reads ``channels`` of ``obj``; see ``Batch.read``.

        Raises:
            UsageError: its reads are given element by element, or it was compiled or started.
        """
        self._check_whole("reads", self.reads)
        Task.read(self, obj, *channels)

    def write(self, obj: Any, *channels: Any) -> None:
        """Say that the array as a whole writes ``channels`` of ``obj``; see ``Batch.write``.

        Raises:
            UsageError: its writes are given element by element, or it was compiled or started.
        """
        self._check_whole("writes", self.writes)
        Task.write(self, obj, *channels)

    def _check_whole(self, what: str, given: Any) -> None:
        if callable(given):
            raise UsageError(
                f"the {what} of {self.title()} are given as a function of the element; "
                "let that function give this one too"
            )

    @property
    def callback_error(self) -> BaseException | None:
        """What the array's callback raised, if it did."""
        if self.program is None or self.view is None:
            return None
        program, element = self.program, -1
        if isinstance(self.view, ArrayProgram) and self.view.gate is not None:
            program, element = self.view.gate
        elif isinstance(self.view, ExpandedArray):
            element = next(e for e, view in program.arrays.items() if view is self.view)
        return program.callback_errors.get(element)

    def element_of(self, tuid: int | None) -> int:
        """-1, the array as a whole.

        Raises:
            UsageError: the uid is not the array's.
        """
        if tuid is not None and tuid != self._uid:
            raise UsageError(f"uid {tuid!r} is not that of {self.title()}; leave it out")
        return -1

    @property
    def stats(self) -> ArrayStats:
        """When and where each element ran and what it took: ``array.stats[i]`` is a ``TaskStats``,
        ``None`` until that element has ended.
        """
        return ArrayStats(self.view)

    def raise_failures(self) -> None:
        """Raise the exceptions of all failed elements as one ExceptionGroup, if there are any."""
        self.result.get()


def open_array(task: _Array, send: Callable[..., None], priority: int = 0) -> ArrayProgram:
    """Make the program of an array task, and what feeds it.

    Args:
        send: sends messages to the manager, now or later.
        priority: of the compiled task in which it is, where it has none itself.
    """
    client = task.batch._client
    number = client.next_program_number()
    program: ArrayProgram = client.adopt(ArrayProgram(number, client, task._uid, task.name))
    assert task.func is not None
    assert task.source is not None
    program.function_name = name_of(task.func)
    try:
        options = task.options
        if options is not None and options.priority:
            priority = options.priority
        terms = ProgramTerms(number)
        number_of_terms = terms.number(options)
        opened = msg.Opened(number, os.getcwdb(), growing=True, array=True, priority=priority)
        send([opened, *terms.take_unsent()])
        feeder = client.feeder_class(client, program, task.func, task.source, send)
        feeder.terms, task.feeder = number_of_terms, feeder
    except BaseException:
        client.forget_program(program)
        raise
    task.program = task.view = program
    return program


def start_array(task: _Array) -> None:
    """Start an array task, whose accesses mean nothing by themselves, alone."""
    program = open_array(task, task.batch._client.send)
    if task.callback_func is not None:
        program.client.callbacks.start()
        function = task.callback_func
        program.end_callback = Callback(
            lambda *args: function(program.all_values(), *args), tuple(task.callback_args)
        )
    task.alone = True
    program.begin()
    program.client.send([msg.Started(program.number)])
    let_go(task)
    feed([task])


def let_go(task: _Array) -> None:
    """Of what has been sent or is held by the feeder."""
    task.func = task.source = task.callback_func = None
    task.reads = task.writes = ()


def feed(tasks: list[_Array]) -> None:
    """Begin to make the elements of array tasks; takes them out of the list."""
    try:
        while tasks:
            task = tasks.pop(0)
            feeder, task.feeder = task.feeder, None
            if feeder is not None:
                feeder.start()
    except BaseException as error:  # nobody may wait for ever for the others
        for task in tasks:
            if isinstance(task.feeder, Feeder):
                task.feeder.give_up(error)
        raise


def handle_at(batch: Any, program: Program, element: int, stream: int) -> ArrayHandle:
    """A handle of an array that is known by the element that stands for it."""
    view = program.arrays[element]
    task = _Array(batch, name=view.name, _uid=view.uid, program=program, view=view)
    return ArrayHandle(task, stream)
