"""Counters of what a scheduler takes in and answers: pure, and fed per chunk, never per task.

A tally looks over the shoulder of a shell that drives a scheduler.  What is true at a moment (who
runs, what is pending) is not counted here but looked up when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import msgspec

from alamo.core import events as ev
from alamo.core.chunks import Chunk
from alamo.core.scheduler import Scheduler

#: Upper bounds of the histogram of run times, in seconds; the last has none.
BOUNDS_S = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)


class Counts(msgspec.Struct):
    """What a tally has counted; tasks are elements that have something to run.

    Attributes:
        submitted: tasks that the manager has been sent.
        done, failed, skipped, dropped: tasks that ended; dropped are those that nobody wants
            any more, their client being gone, say.
        cancelled: tasks that were cancelled before they began.
        retried: attempts that failed and were followed by another.
        task_seconds: run time of tasks, those of a report together.
        buckets: how many tasks ran so long, by ``BOUNDS_S``; each at the mean of its report.
        overhead_seconds: time in which workers held work and ran none of it.
        workers_started, workers_died, workers_retired: those that came up, those of them that
            died, and those that were asked to end.
        workers_stillborn: those that never came up.
    """

    submitted: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    dropped: int = 0
    cancelled: int = 0
    retried: int = 0
    task_seconds: float = 0.0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    overhead_seconds: float = 0.0
    workers_started: int = 0
    workers_died: int = 0
    workers_retired: int = 0
    workers_stillborn: int = 0

    @property
    def unfinished(self) -> int:
        """Tasks that have not ended."""
        ended = self.done + self.failed + self.skipped + self.dropped + self.cancelled
        return self.submitted - ended


class Tally:
    """Counts what one scheduler does.

    Cost: 2 us a chunk.

    Example:
        >>> s = Scheduler(slots=1)
        >>> tally = Tally(s)
        >>> for event in ev.WorkerReady(0), ev.ProgramOpened(7), ev.PageAdded(7, count=3):
        ...     tally.before(event, 0.0)
        ...     tally.after(s.handle(event, 0.0))
        >>> tally.counts.submitted, tally.counts.workers_started
        (3, 1)
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.counts = Counts()
        self._scheduler = scheduler
        #: Tasks of each program that have not ended.
        self._unfinished: dict[int, int] = {}
        #: Elements of each program that stand for arrays, and the programs of these.
        self._gates: dict[int, dict[int, int]] = {}
        #: Arrays that will not run because something before them has failed.
        self._skipped_arrays: set[int] = set()
        #: The page that the scheduler looks at.
        self._page: ev.PageAdded | None = None
        #: When each worker reported last.
        self._reported_s: dict[int, float] = {}
        self._observers: dict[type, Callable[..., None]] = {
            ev.PageAdded: self._on_page_added,
            ev.ChunkFinished: self._on_chunk_finished,
            ev.WorkerReady: self._on_worker_ready,
            ev.WorkerLost: self._on_worker_lost,
            ev.ElementLost: self._on_element_lost,
            ev.ElementsSkipped: self._on_skipped,
            ev.ElementsCancelled: self._on_cancelled,
            ev.RetireWorker: self._on_retired,
            ev.ProgramDone: self._on_program_done,
        }

    def before(self, event: ev.Event, now_s: float) -> None:
        """The scheduler is about to handle the event: what it is about may be gone afterwards."""
        self._page = None  # one before, perhaps, that was refused
        observer = self._observers.get(type(event))
        if observer is not None:
            observer(event, now_s)

    def after(self, effects: list[ev.Effect]) -> None:
        """The scheduler has handled the event, without an error."""
        if self._page is not None:
            self._add_page(self._page)
        for effect in effects:
            observer = self._observers.get(type(effect))
            if observer is not None:
                observer(effect)

    def _on_page_added(self, event: ev.PageAdded, now_s: float) -> None:
        program = self._scheduler.programs.get(event.program)
        is_taken = program is not None and not program.dropped and not program.called_off
        self._page = event if is_taken else None

    def _add_page(self, event: ev.PageAdded) -> None:
        count = event.count - len(event.joins) - len(event.gates)
        self.counts.submitted += count
        self._unfinished[event.program] = self._unfinished.get(event.program, 0) + count
        if event.gates:
            self._gates.setdefault(event.program, {}).update(event.gates)

    def _on_chunk_finished(self, event: ev.ChunkFinished, now_s: float) -> None:
        worker = self._scheduler.pool.workers.get(event.worker)
        chunk = worker.chunk(event.chunk) if worker is not None else None
        if chunk is None:
            return
        upto = min(event.upto, len(chunk.elements))
        count = upto - chunk.done
        if count <= 0:
            return
        counts = self.counts
        failed = sum(chunk.done <= position < upto for position in event.failed)
        again = self._again(chunk, event, upto) if event.again else 0
        counts.done += count - failed
        counts.failed += failed - again
        counts.retried += again
        self._unfinished[chunk.program.number] -= count - again
        since_s = max(chunk.dealt_s, self._reported_s.get(event.worker, 0.0))
        self._reported_s[event.worker] = now_s
        if event.elapsed_s > 0.0:
            counts.task_seconds += event.elapsed_s
            counts.buckets[bisect_left(BOUNDS_S, event.elapsed_s / count)] += count
            counts.overhead_seconds += max(0.0, now_s - since_s - event.elapsed_s)

    @staticmethod
    def _again(chunk: Chunk, event: ev.ChunkFinished, upto: int) -> int:
        """How many of the newly finished are tried again, as the scheduler will see it."""
        new = {position for position in event.again if chunk.done <= position < upto}
        elements = [chunk.elements[position] for position in new.intersection(event.failed)]
        return sum([chunk.program.retries_left(element) > 0 for element in elements])

    def _on_worker_ready(self, event: ev.WorkerReady, now_s: float) -> None:
        self.counts.workers_started += event.worker not in self._scheduler.pool.workers

    def _on_worker_lost(self, event: ev.WorkerLost, now_s: float) -> None:
        if event.worker in self._scheduler.pool.workers:
            self.counts.workers_died += 1
        else:
            self.counts.workers_stillborn += 1
        self._reported_s.pop(event.worker, None)

    def _on_element_lost(self, effect: ev.ElementLost) -> None:
        if effect.again:
            self.counts.retried += 1
            return
        self.counts.failed += 1
        self._unfinished[effect.program] -= 1

    def _on_skipped(self, effect: ev.ElementsSkipped) -> None:
        gates = self._gates.get(effect.program, {})
        arrays = [gates[element] for element in effect.elements if element in gates]
        self._skipped_arrays.update(arrays)
        count = len(effect.elements) - len(arrays)
        self.counts.skipped += count
        self._unfinished[effect.program] -= count

    def _on_cancelled(self, effect: ev.ElementsCancelled) -> None:
        gates = self._gates.get(effect.program, {})
        count = len(effect.elements) - sum([element in gates for element in effect.elements])
        self.counts.cancelled += count
        self._unfinished[effect.program] -= count

    def _on_retired(self, effect: ev.RetireWorker) -> None:
        self.counts.workers_retired += 1
        self._reported_s.pop(effect.worker, None)

    def _on_program_done(self, effect: ev.ProgramDone) -> None:
        number = effect.program
        rest = self._unfinished.pop(number, 0)
        self._gates.pop(number, None)
        if number in self._skipped_arrays:
            self._skipped_arrays.discard(number)
            self.counts.skipped += rest
        else:
            self.counts.dropped += rest
