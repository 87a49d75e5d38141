"""Handles of what a task leaves: its result, its stdout, its stderr."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from alamo.errors import UsageError
from alamo.protocol.placeholders import raw_output, shown_output, task_output
from alamo.protocol.records import RESULT, STDERR, STDOUT

if TYPE_CHECKING:
    from alamo.batch.compiler import Compiler

STREAMS = {RESULT: "result", STDOUT: "stdout", STDERR: "stderr"}

#: The compile under way in this thread, which handles inside arguments report to.
compiling = threading.local()


class AsyncDict(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Handle of a task's result, stdout or stderr.

    Given as an argument of a later task of the same ``compile``, at any depth inside it,
    a handle is replaced by what it stands for, and orders the two tasks.

    Example:
        >>> from alamo import Batch
        >>> with Batch(num_workers=1) as batch:
        ...     task = batch.function(pow, 2, 10)
        ...     _ = task.start()
        ...     task.result.get()
        1024
    """

    task: Any
    stream: int

    def get(
        self, tuid: int | None = None, timeout: float | None = None, *, rank: int | None = None
    ) -> Any:
        """What the task returned or printed; waits for its end if necessary.

        Args:
            tuid: uid of a subtask; needed for a compiled task with more than one.
            timeout: seconds to wait; ``None`` waits for ever.
            rank: of a job's stdout or stderr the part that this rank wrote; ``None``: all of it.

        Returns:
            The task's return value (the same object each time), or the text it printed (bytes,
            if it was made with ``text=False``): all of it, or of more than a mebibyte the head
            and the tail.

        Raises:
            Exception: for ``result``, what the task raised, with the remote traceback as a note.
            UpstreamFailed: a task whose output it needed had failed.
            WorkerLost: the process that ran it died.
            WaitTimeout: (a ``TimeoutError``) the time is over.
            UsageError: the task has not been started, or ``tuid`` is missing or unknown, or it
                has no such ``rank``.

        Cost: 0.4 us for a result that is there.
        """
        task = self.task
        program = task.program
        if program is None or not program.started:
            raise UsageError(f"{task.title()} has not been started; call start() or run() first")
        element = task.index
        if element < 0 or tuid is not None:
            element = task.element_of(tuid)
            if program.arrays and element in program.arrays:
                from alamo.batch.array_task import handle_at  # which needs this module

                return handle_at(task.batch, program, element, self.stream).get(None, timeout)
        if not program.has(element):
            program.client.waits.element(program, element, timeout)
        if self.stream == RESULT:
            if rank is not None:
                raise UsageError("rank= is for stdout and stderr; a job's result is one for all")
            return program.value(element)
        return program.text(element, self.stream, rank)

    def __reduce__(self) -> tuple[Any, ...]:
        compiler: Compiler | None = getattr(compiling, "compiler", None)
        if compiler is None:
            raise UsageError(
                f"the {STREAMS[self.stream]} handle of {self.task.title()} was pickled "
                "outside of a compile; "
                "pass its value (handle.get()), or compile both tasks together"
            )
        element = compiler.source_of(self.task, STREAMS[self.stream])
        form = getattr(self.task, "form", None)
        if form is not None and self.stream != RESULT:
            return shown_output, (element, self.stream, form)
        return task_output, (element, self.stream)

    def __repr__(self) -> str:
        from alamo.batch import display  # which needs this module

        return display.text(self, display.of_handle)

    def _repr_html_(self) -> str:
        from alamo.batch import display

        return display.html(self, display.of_handle)


class RawOutput(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Stands for the bytes of a handle's stream among the arguments of a later task."""

    handle: AsyncDict

    def __reduce__(self) -> tuple[Any, ...]:
        _, (element, stream, *_) = self.handle.__reduce__()
        return raw_output, (element, stream)


#: The name of the handles' class in the first document.
AsyncValue = AsyncDict
