"""When and where tasks ran, and what they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from alamo.batch.array_view import ArrayView
from alamo.batch.by_uid import ByUid

if TYPE_CHECKING:
    from alamo.batch.outcomes import Program


@dataclass(frozen=True, slots=True)
class TaskStats:
    """When and where a task, or an element of an array, ran, and what it took.

    A task above a millisecond has figures of its own, and so has one that started processes.
    Shorter ones that ran one after the other in a worker share what these took together evenly;
    ``averaged_over`` says how many they are.  Elements of an array of microseconds are timed 64
    at a time, so one that takes long by way of exception may share that with its neighbours.

    Attributes:
        start_s, end_s: when it began and ended, in seconds since the epoch as of ``time.time()``,
            by the clock of the machine where it ran.  Of a task whose worker died the end is when
            that was noticed.
        host: name of the machine where it ran.
        pid: the worker process in which it ran.
        cpu_s: CPU seconds of all its threads, and of the child processes that it waited for or
            that were ended after it; ``None`` where the worker died and took that along.
        peak_bytes: the most memory that an executable had at once, or a process of it or of a
            job that was larger; ``None`` for others, and where the system cannot tell: of one that
            took less than its worker had ever taken and ended within some 20 ms, and of such jobs.
        attempts: how often it was started; the other figures are those of the last time.
        averaged_over: how many tasks the figures are the average of; 1: they are its own.

    Example:
        >>> from alamo import Batch
        >>> with Batch(num_workers=1) as batch:
        ...     task = batch.function(sum, range(1_000_000))
        ...     _ = task.run()
        ...     task.stats.elapsed_s > 0, task.stats.attempts
        (True, 1)
    """

    start_s: float
    end_s: float
    host: str
    pid: int
    cpu_s: float | None = None
    peak_bytes: int | None = None
    attempts: int = 1
    averaged_over: int = 1

    @property
    def elapsed_s(self) -> float:
        """How long it ran, in seconds."""
        return self.end_s - self.start_s


def stats_of(program: Program, element: int) -> TaskStats | None:
    """What is known of an element's run; ``None`` if it has not ended, or has not run.

    Cost: some 5 us.
    """
    place = program.place(element)
    run = None if place is None else program.timeline.run(*place)
    if run is None:
        return None
    return TaskStats(
        run.start_s,
        run.end_s,
        program.client.host,
        run.pid,
        run.cpu_s,
        run.peak_bytes,
        program.attempts_made(element),
        run.averaged_over,
    )


class ArrayStats(Sequence["TaskStats | None"]):
    """What is known of the runs of an array's elements, by index; of those made so far.

    Looked up when asked for: it costs nothing however many there are, and shows what has come in
    since.  ``None`` stands for an element that has not ended, or did not run.
    """

    def __init__(self, view: ArrayView | None) -> None:
        self._view = view

    @overload
    def __getitem__(self, index: int) -> TaskStats | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[TaskStats | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Of one element, or a list of several."""
        places = range(len(self))
        if isinstance(index, slice):
            return [self[i] for i in places[index]]
        at = places[index]
        assert self._view is not None  # or there were no places
        return self._view.stats_at(at)

    def __len__(self) -> int:
        """How many elements have been made; does not wait."""
        return 0 if self._view is None else self._view.size


class StatsByUid(ByUid["TaskStats | ArrayStats | None"]):
    """The runs of a compiled task's subtasks: uid -> ``TaskStats``, of an array ``ArrayStats``."""

    def _at(self, element: int) -> TaskStats | ArrayStats | None:
        program = self._program
        if element in program.arrays:
            return ArrayStats(program.arrays[element])
        return stats_of(program, element)
