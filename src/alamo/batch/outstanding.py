"""All that a client has started and that has not ended: waiting for it, cancelling it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from alamo.batch import cancelling
from alamo.batch.array_program import ArrayProgram
from alamo.batch.client import Client
from alamo.batch.outcomes import Program
from alamo.batch.waiting import deadline_of, default_timeout, left_until

if TYPE_CHECKING:
    from alamo.batch.single import SingleTasks


class Outstanding:
    """The part of a Batch that deals with all its work at once."""

    _client: Client
    _singles: SingleTasks

    def fence(self, timeout: float | None = default_timeout) -> None:
        """Wait until all work that this client has started so far has ended, and its callbacks.

        What comes behind it therefore comes behind all that, whatever it reads and writes: tasks
        of different ``compile`` calls and single tasks are not ordered otherwise.  It waits for
        no other client's work, and raises nothing of what failed.

        Args:
            timeout: seconds.

        Raises:
            WaitTimeout: (a ``TimeoutError``) the time is over; the work goes on.
            BatchBroken: the service is gone.

        Cost: that of waiting; nothing is sent.

        Example:
            >>> from alamo import Batch
            >>> with Batch(num_workers=2) as batch:
            ...     tasks = [batch.function(pow, 2, n) for n in range(3)]
            ...     for task in tasks:
            ...         _ = task.start()
            ...     batch.fence()
            ...     [task.state for task in tasks]
            ['done', 'done', 'done']
        """
        deadline_s = deadline_of(timeout)
        waits = self._client.waits
        for program in list(self._started()):
            if not program.is_stream:
                what = program.title(-1) if isinstance(program, ArrayProgram) else "the fence"
                waits.program(program, left_until(deadline_s), what)
                continue
            for element in range(program.count):  # others may be started meanwhile
                if element in program.callbacks or not program.has(element):
                    waits.task(program, element, left_until(deadline_s))

    def cancel_all(self, reason: str | None = None) -> int:
        """Cancel all that this client has started and that has not ended, as ``Task.cancel`` does.

        Tasks of other clients go on, and what was not started may
        still be.  It does not wait for the end of what runs: ``fence`` does.

        Args:
            reason: shown in the errors.

        Returns:
            How many tasks had not ended, as far as is known here.

        Cost: a message a compiled task or array, and one for each 1024 single tasks.
        """
        why = cancelling.checked(reason)
        self._singles.seal_all()  # what was started one by one: nothing comes in behind this
        count = 0
        for program in list(self._started()):
            if not (program.is_stream and program.growing):  # or it was opened just now
                count += self._cancel(program, why)
        return count

    @staticmethod
    def _cancel(program: Program, reason: str) -> int:
        count = program.remaining
        if program.is_stream:
            open_ = [e for e in range(program.count) if not program.has(e)]
            cancelling.cancel_elements(program, open_, reason)
        elif isinstance(program, ArrayProgram):
            cancelling.cancel_array(program, program, reason)
        else:
            cancelling.cancel_program(program, reason)
        return count

    def _started(self) -> Iterator[Program]:
        """Programs that have not ended; arrays within others come with these."""
        for program in list(self._client._programs.values()):
            if program.started and getattr(program, "gate", None) is None:
                yield program
