"""Tasks: what a user starts and waits on.

Tasks are msgspec Structs outside of the garbage collector: a million of them are made
in a quarter of the time and do not slow the user's own collections down.  The price: a
reference cycle through a task is never freed, so a task lets go of its function and
arguments when they have been sent, and a program never refers to tasks.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from alamo.batch.options import Options
from alamo.batch.outcomes import Program
from alamo.batch.results import AsyncDict
from alamo.batch.waiting import Tick, default_timeout
from alamo.core.access import READ, WRITE, make_access
from alamo.errors import UsageError
from alamo.protocol.output_form import OutputForm
from alamo.protocol.records import RESULT, STDERR, STDOUT


class Task(msgspec.Struct, gc=False, eq=False):
    """Something that a Batch runs.  Made by ``Batch.function`` and ``Batch.compile``.

    Attributes:
        batch: the Batch that it belongs to.
        callback_func, callback_args: called in this process after it succeeded.
        reads, writes: its accesses.
        compiled: it was made by ``compile``.
        name: what messages call it beside its uid.
    """

    batch: Any
    callback_func: Callable[..., Any] | None = None
    callback_args: tuple[Any, ...] = ()
    reads: Any = ()
    writes: Any = ()
    compiled: bool = False
    name: str | None = None
    _uid: int = -1
    #: Where its outcome will be; ``None`` until it is compiled or started.
    program: Program | None = None
    #: Its element in the program; -1 for a compiled task, which is all of it.
    index: int = -1
    #: Time limit, retries, policy and priority, if any of them is given.
    options: Options | None = None

    @property
    def uid(self) -> int:
        """The unique id of the task, an int."""
        return self._uid

    def get_uid(self) -> int:
        """The unique id of the task: the same as ``uid``."""
        return self._uid

    @property
    def subtask(self) -> bool:
        """Whether it may only be started and waited on through a compiled task."""
        return self.program is not None and self.index >= 0 and not self.program.is_stream

    def title(self) -> str:
        """How messages name the task."""
        return f"task {self._uid}" + (f" ({self.name})" if self.name else "")

    @property
    def result(self) -> AsyncDict:
        """Handle of what the task returns or raises."""
        return AsyncDict(self, RESULT)

    @property
    def stdout(self) -> AsyncDict:
        """Handle of what the task writes to descriptor 1, as text."""
        return AsyncDict(self, STDOUT)

    @property
    def stderr(self) -> AsyncDict:
        """Handle of what the task writes to descriptor 2, as text."""
        return AsyncDict(self, STDERR)

    def get(self, tuid: int | None = None, timeout: float | None = None) -> Any:
        """The result: ``task.result.get(tuid, timeout)``."""
        return AsyncDict(self, RESULT).get(tuid, timeout)

    def read(self, obj: Any, *channels: Any) -> None:
        """Say that the task reads ``channels`` of ``obj``; see ``Batch.read``.

        Raises:
            UsageError: the task has been compiled or started.
        """
        self._check_unbound("reads of it must be declared before")
        self.reads = (*_as_tuple(self.reads), make_access(obj, channels, READ, os.getcwd))

    def write(self, obj: Any, *channels: Any) -> None:
        """Say that the task writes ``channels`` of ``obj``; see ``Batch.write``.

        Raises:
            UsageError: the task has been compiled or started.
        """
        self._check_unbound("writes of it must be declared before")
        self.writes = (*_as_tuple(self.writes), make_access(obj, channels, WRITE, os.getcwd))

    def _check_unbound(self, what: str) -> None:
        if self.program is not None:
            done = "been compiled" if self.subtask or self.compiled else "been started"
            raise UsageError(f"{self.title()} has {done}; {what}")

    def start(self) -> Any:
        """Start the task and return at once.

        Returns:
            The handles ``(result, stdout, stderr)``; for a compiled task a mapping of
            such triples by uid.

        Raises:
            UsageError: it was started before, or is a subtask of a compiled task.
            SubmitAfterClose: the Batch was closed.
            SerializationError: its function or an argument cannot be pickled.
        """
        if self.subtask:
            raise UsageError(
                f"{self.title()} is a subtask of a compiled task; start that one (it can be "
                "read from there)"
            )
        return self.batch._start(self)

    def wait(self, timeout: float | None = default_timeout, *, progress: bool = False) -> None:
        """Wait until the task has ended, successfully or not, and its callbacks have run.

        Args:
            timeout: seconds.
            progress: show meanwhile on stderr how far it is; needs ``alamo[progress]``.

        Raises:
            WaitTimeout: (a ``TimeoutError``) the time is over; the task goes on.
            UsageError: it has not been started, or is a subtask of a compiled task.
            BatchBroken: the service is gone.
        """
        program = self.program
        if self.subtask:
            raise UsageError(
                f"{self.title()} is a subtask of a compiled task; wait on that one, or use "
                "result.get()"
            )
        if program is None or not program.started:
            raise UsageError(f"{self.title()} has not been started; call start() or run() first")
        if not progress:
            self._wait(program, timeout, None)
            return
        from alamo.batch.progress import of_task  # for those who ask for it

        with of_task(self) as tick:
            self._wait(program, timeout, tick)

    def _wait(self, program: Program, timeout: float | None, tick: Tick | None) -> None:
        if self.index >= 0:
            program.client.waits.task(program, self.index, timeout, tick)
        else:
            program.client.waits.program(program, timeout, self.title(), tick=tick)

    def _start_and_wait(self, timeout: float | None, progress: bool) -> Any:
        if progress:
            from alamo.batch.progress import check_installed

            check_installed()  # before anything runs
        started = self.start()
        self.wait(timeout, progress=progress)
        return started

    def cancel(self, reason: str | None = None) -> bool:
        """Have the task end: what of it has not begun never will, and what runs is stopped.

        Of a compiled task that means all its subtasks, of an array all its elements.  They end as
        cancelled: ``get`` raises ``TaskCancelled``, and tasks that need their output do not run.
        A running function gets no chance to clean up; processes that it has started get SIGTERM
        first.  A task that was not started yet may still be, and ends at once.

        Args:
            reason: shown in the error.

        Returns:
            Whether it had not ended, as far as is known here; what ends meanwhile stays as it is.

        Cost: a message; does not wait for the end.
        """
        from alamo.batch.cancelling import cancel  # which needs the arrays, and they this module

        return cancel(self, reason)

    @property
    def state(self) -> str:
        """``created`` (not started), ``waiting`` (for other tasks, or to be tried again),
        ``ready``, ``running``, ``done``, ``failed``, ``skipped`` or ``cancelled``.

        Of a compiled task, or an array, what the furthest of its tasks that have not ended do;
        when all have, the worst of their ends.  Cost: a message there and back while it goes on.
        """
        from alamo.batch.states import state_of_task

        return state_of_task(self)

    @property
    def attempts(self) -> Any:
        """The ``Attempt`` objects of its runs that have ended, in order; of an array a sequence
        of such lists, of a compiled task a mapping by uid.
        """
        from alamo.batch.attempts import attempts_of  # for those who ask for it

        return attempts_of(self)

    def __await__(self) -> Generator[Any, None, Any]:
        """``await task``: what ``run`` returns or raises, of a task that has been started.

        Callbacks are not waited for.  Cancelling who awaits leaves the task alone; any number
        may await it, in any event loop of ``asyncio``, at no cost of a thread.

        Raises:
            UsageError: it has not been started.
        """
        from alamo.batch.awaiting import outcome_of  # asyncio is slow to import

        return outcome_of(self).__await__()

    def run(self, timeout: float | None = default_timeout, *, progress: bool = False) -> Any:
        """Start the task, wait for its end and return its result.

        Args:
            timeout: seconds.
            progress: as in ``wait``.

        Returns:
            What the function returned; for a compiled task the mapping that ``start``
            returns, with a warning that counts the failures, if any.

        Raises:
            Exception: what the task raised.
            WaitTimeout: (a ``TimeoutError``) the time is over; the task goes on.
        """
        started = self._start_and_wait(timeout, progress)
        if self.index >= 0:
            assert self.program is not None
            return self.program.value(self.index)
        self._warn_of_failures()
        return started

    def _warn_of_failures(self) -> None:
        program = self.program
        assert program is not None
        failed, skipped = len(program.failed), len(program.skipped)
        cancelled = len(program.cancelled)
        if failed or skipped or cancelled:
            first = program.title(min(program.failed)) if program.failed else ""
            also = f", {cancelled} were cancelled" if cancelled else ""
            warnings.warn(
                f"{failed} of {program.tasks} tasks failed (first: {first}){also} and {skipped} "
                "did not run because of "
                "that; raise_failures() raises them, result.get(uid) one of them",
                RuntimeWarning,
                stacklevel=3,
            )

    def raise_failures(self) -> None:
        """Raise the exceptions of all failed subtasks as one ExceptionGroup, if there are any.

        Tasks that did not run because of them are not in the group.
        """
        program = self.program
        if program is None or not program.started:
            raise UsageError(f"{self.title()} has not been started; call start() or run() first")
        errors: list[Exception] = []
        elements = sorted([*program.failed, *program.cancelled]) if self.index < 0 else [self.index]
        for element in elements:
            try:
                program.value(element)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup(
                f"{len(errors)} of {program.tasks} tasks of {self.title()} failed", errors
            )

    def dump_dag(self, file_name: str | os.PathLike[str]) -> None:
        """Draw the tasks of a compiled task, with their states as known now, and their order.

        May be called at any time; of a subtask it draws the program that it is part of.

        Args:
            file_name: the ending tells the format: ``.png`` (or none), ``.svg``, ``.pdf``,
                ``.dot`` (for Graphviz) or ``.json`` (see :mod:`alamo.drawing.json`).

        Raises:
            UsageError: there is no such format, or it needs Pillow: ``pip install alamo[dag]``.
            OSError: the file cannot be written.

        Cost: some seconds for 100 000 tasks; above some 1500 they have no names in a picture.
        """
        from alamo.batch.diagrams import diagram_of  # few programs draw; and it needs this module
        from alamo.drawing.files import check_ending, write

        check_ending(file_name)
        write(diagram_of(self), file_name)

    @property
    def callback_error(self) -> BaseException | None:
        """What the task's callback raised, if it did."""
        return None if self.program is None else self.program.callback_errors.get(self.index)

    @property
    def stats(self) -> Any:
        """When and where it ran and what it took, a ``TaskStats``; ``None`` until it has ended,
        and if it did not run.  Of a compiled task those of its subtasks by uid.
        """
        from alamo.batch.task_stats import StatsByUid, stats_of  # for those who ask for it

        program = self.program
        if program is None:
            return None
        return stats_of(program, self.index) if self.index >= 0 else StatsByUid(program)

    def element_of(self, tuid: int | None) -> int:
        """The element of the program that a uid means.

        Raises:
            UsageError: it is not one of this task, or missing and there are several.
        """
        program = self.program
        assert program is not None
        if self.index >= 0:
            if tuid is not None and tuid != self._uid:
                raise UsageError(f"uid {tuid!r} is not that of {self.title()}; leave it out")
            return self.index
        if tuid is None:
            if program.handles == 1:
                return program.only_element()
            raise UsageError(
                f"{self.title()} has {program.handles} subtasks; say which: get(subtask.uid)"
            )
        element = program.element_of(tuid.__index__()) if hasattr(tuid, "__index__") else -1
        if element < 0:
            raise UsageError(f"uid {tuid!r} is not that of a subtask of {self.title()}")
        return element

    def __reduce__(self) -> tuple[Any, ...]:
        raise UsageError(
            f"{self.title()} cannot be pickled; pass its result handle as an argument, or its value"
        )

    def __repr__(self) -> str:
        from alamo.batch import display  # which needs the arrays, and they this module

        return display.text(self, display.of_task)

    def _repr_html_(self) -> str:
        from alamo.batch import display

        return display.html(self, display.of_task)


class _Call(Task, gc=False, eq=False):
    """A task that calls a Python function, once or for each element."""

    func: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    form: OutputForm | None = None  # how its output is to be read, if not as a function's


class _Function(_Call, gc=False, eq=False):
    """A task that calls a Python function once."""


class _Compiled(Task, gc=False, eq=False):
    """A task made of others by ``Batch.compile``."""

    ranks: bytes = b""
    #: Arrays among its tasks that are not fed yet.
    arrays: Any = ()
    #: Nobody else refers to it, so it goes when the user's last reference to the task does.
    start_right: Any = None


def _as_tuple(accesses: Any) -> tuple[Any, ...]:
    return accesses if isinstance(accesses, tuple) else tuple(accesses)
