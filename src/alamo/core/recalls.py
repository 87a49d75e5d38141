"""Taking back what a worker has not begun, and stopping what it is running.

A running element can be stopped only by what may hurt its whole worker, so first everything
behind it is taken back; when nothing behind it will begin any more, the effect goes out.
"""

from __future__ import annotations

from collections.abc import Callable

from alamo.core import events as ev
from alamo.core.chunks import Chunk
from alamo.core.program import Program
from alamo.core.workers import Worker, WorkerPool


class Recalls:
    """What is being taken back from workers.

    Args:
        pool: the workers.
        effects: where requests to them go.
        follow: told of each program that has been given elements back.
    """

    def __init__(
        self, pool: WorkerPool, effects: list[ev.Effect], follow: Callable[[Program], None]
    ) -> None:
        self._pool = pool
        self._effects = effects
        self._follow = follow

    def recall(self, worker: Worker, all_: bool = False) -> None:
        """Ask for work back; one that asks for the half does not stand in for all."""
        if worker.recalling_all or (worker.recalling and not all_):
            return
        worker.recalling = True
        worker.recalling_all = all_
        worker.settled = False
        self._pool.place(worker)
        self._effects.append(ev.Recall(worker.number, all_))

    def cut(self, chunk: Chunk, position: int) -> None:
        """End the chunk before ``position``; what is cut off is given back to the program."""
        position = max(position, chunk.done)
        rest = chunk.elements[position:]
        if len(rest):
            chunk.elements = chunk.elements[:position]
            chunk.outside = None
            chunk.program.give_back(rest)

    def taken_back(self, event: ev.TakenBack) -> None:
        """What was asked for has come back."""
        worker = self._pool.workers.get(event.worker)
        if worker is None:
            return
        for chunk in worker.chunks[::-1]:  # what was dealt first comes to lie in front
            if chunk.end_seq > event.seq:
                self.cut(chunk, event.seq - chunk.seq)
                if chunk.done == len(chunk.elements):
                    worker.chunks.remove(chunk)
                self._follow(chunk.program)
        worker.settled = worker.recalling_all
        if worker.stopping >= event.seq:  # it had not begun
            worker.stopping, worker.stop_told = -1, False
        self._look_for_stop(worker)
        self._pool.place(worker)

    def resumed(self, event: ev.WorkerResumed) -> None:
        """The worker goes on; what it still holds it has begun."""
        worker = self._pool.workers.get(event.worker)
        if worker is None:
            return
        if worker.recalling_all:
            worker.settled = True
            self._look_for_stop(worker)
        worker.recalling = worker.recalling_all = worker.settled = False
        worker.exhausted = worker.behind_running > 0
        self._pool.place(worker)

    # -- stopping ------------------------------------------------------------------------

    def stop_asked(self, event: ev.StopAsked) -> None:
        """The element that runs at ``seq`` shall end."""
        worker = self._pool.workers.get(event.worker)
        if worker is None or not any(
            chunk.seq + chunk.done <= event.seq < chunk.end_seq for chunk in worker.chunks
        ):
            return
        if worker.stopping != event.seq:
            worker.stopping, worker.stop_told = event.seq, False
        if worker.chunks[-1].end_seq == event.seq + 1:
            self._stop(worker)
        else:
            self.recall(worker, all_=True)
        self._pool.place(worker)

    def stop_cancelled(self, program: Program) -> None:
        """Elements at workers are to be cancelled: those that have not begun are taken back."""
        for worker in list(self._pool.holding.values()):
            for chunk in worker.chunks:
                if chunk.program is program and not program.cancelling.isdisjoint(
                    chunk.elements[chunk.done :]
                ):
                    self.recall(worker, all_=True)
                    if worker.settled:
                        self._look_for_stop(worker)
                        self._pool.place(worker)
                    break

    def _look_for_stop(self, worker: Worker) -> None:
        """Nothing behind the last element that the worker holds will begin: shall that one end?"""
        if not worker.settled or not worker.chunks:
            return
        last = worker.chunks[-1]
        seq = last.end_seq - 1
        if worker.stopping < 0 and last.elements[-1] in last.program.cancelling:
            worker.stopping = seq
        if worker.stopping == seq:
            self._stop(worker)

    def _stop(self, worker: Worker) -> None:
        if not worker.stop_told:
            worker.stop_told = True
            self._effects.append(ev.StopElement(worker.number, worker.stopping))

    @staticmethod
    def reported(worker: Worker, upto_seq: int) -> None:
        """All before ``upto_seq`` has ended: one of these need not be stopped any more."""
        if worker.stopping < upto_seq:
            worker.stopping, worker.stop_told = -1, False
