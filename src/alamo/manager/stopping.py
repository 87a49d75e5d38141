"""Ending a task that runs: for it took too long or too much, or nobody wants it any more.

    limit passed, or cancelled ─► scheduler takes back what is behind it ─► SIGTERM to what the
    task has started ─► SIGKILL to that ─► SIGKILL to the worker

A task whose child ends reports by itself, and its worker goes on; one that sits in code of its
own process can only end with it.  Whatever the task leaves from the first signal on, its end is
the stop's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from alamo import linux
from alamo.core import events as ev
from alamo.core.chunks import Chunk
from alamo.core.workers import Worker
from alamo.manager.worker_process import Stop, WorkerProcess
from alamo.protocol import shortening
from alamo.protocol.records import CANCELLED, STOPPED, Record, StopInfo, as_record

if TYPE_CHECKING:
    from alamo.manager.service import Service

#: What a task has started gets this long to end by itself, and once more when it was killed.
TERM_S = 0.3
KILL_S = 0.2


class Stopper:
    """Ends running elements of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        #: Why elements are to be ended that the scheduler has been asked to have ended.
        self._reasons: dict[tuple[int, int], StopInfo] = {}

    def ask(self, worker: WorkerProcess, seq: int, info: StopInfo) -> None:
        """The element that runs there at ``seq`` shall end."""
        key = (worker.number, seq)
        if key not in self._reasons:
            self._reasons[key] = info
            self._service.drive(ev.StopAsked(*key))

    def stop(self, effect: ev.StopElement) -> None:
        """End it: nothing behind it will begin in that worker."""
        worker = self._service.pool.workers.get(effect.worker)
        if worker is None or worker.buried or worker.next_seq > effect.seq:
            return
        info = self._reasons.pop((effect.worker, effect.seq), None)
        if info is None:
            known = self._service.scheduler.pool.workers.get(worker.number)
            chunk = chunk_at(known, effect.seq) if known is not None else None
            reason = "" if chunk is None else self._reason(chunk, effect.seq)
            info = StopInfo(CANCELLED, self._service.host, worker.pid, reason=reason)
        worker.stop = Stop(effect.seq, info)
        self._cancel_submitted(worker)
        if _signal(descendants(worker.pid), signal.SIGTERM):
            self._service.loop.call_later(TERM_S, lambda: self._kill_children(worker, effect.seq))
        else:
            self._kill(worker, effect.seq)

    def _reason(self, chunk: Chunk, seq: int) -> str:
        """What its user said why the element there was cancelled."""
        data = self._service.programs[chunk.program.number]
        return data.why_cancelled(chunk.elements[seq - chunk.seq])

    def forget(self, worker: WorkerProcess) -> None:
        """The worker is gone."""
        for key in [key for key in self._reasons if key[0] == worker.number]:
            del self._reasons[key]

    def _cancel_submitted(self, worker: WorkerProcess) -> None:
        """What the task has submitted nobody can want any more."""
        for client in list(self._service.clients.values()):
            if client.worker == worker.number:
                for number in list(client.programs.values()):
                    if number in self._service.programs:
                        self._cancel_later(number)

    def _cancel_later(self, number: int) -> None:
        def cancel() -> None:
            if number in self._service.programs:
                self._service.cancel(number, None, "the task that submitted it was ended")

        self._service.loop.at_round_end(cancel)  # now effects are being carried out

    @staticmethod
    def _runs_on(worker: WorkerProcess, seq: int) -> bool:
        return not worker.buried and worker.stop is not None and worker.next_seq <= seq

    def _kill_children(self, worker: WorkerProcess, seq: int) -> None:
        if self._runs_on(worker, seq):
            linux.kill_tree(*linux.children_of(worker.pid))
            self._service.loop.call_later(KILL_S, lambda: self._kill(worker, seq))

    def _kill(self, worker: WorkerProcess, seq: int) -> None:
        if self._runs_on(worker, seq):
            self._service.pool.kill(worker.number)

    # -- what is told ----------------------------------------------------------------------

    def outcomes(
        self, worker: WorkerProcess, first_seq: int, outcomes: list[bytes]
    ) -> dict[int, bytes]:
        """Of outcomes that a worker reports, those that a stop has ended: position -> outcome.

        Args:
            first_seq: sequence number of the first of them.
        """
        stop = worker.stop
        if stop is None or not first_seq <= stop.seq < first_seq + len(outcomes):
            return {}
        position = stop.seq - first_seq
        worker.stop = None
        record = as_record(outcomes[position])
        stdout, stderr = (b"", b"") if record is None else (record.stdout, record.stderr)
        return {position: stopped_record(stop.info, stdout, stderr)}

    @staticmethod
    def lost_record(worker: WorkerProcess, seq: int) -> bytes | None:
        """The outcome of the element that died with its worker, if that was a stop."""
        stop = worker.stop
        if stop is None or stop.seq != seq:
            return None
        return stopped_record(
            stop.info, shortening.read(worker.stdout), shortening.read(worker.stderr)
        )


def chunk_at(worker: Worker, seq: int) -> Chunk | None:
    """The chunk of a worker in which an element of its sequence lies."""
    return next((c for c in worker.chunks if c.seq <= seq < c.end_seq), None)


def stopped_record(info: StopInfo, stdout: bytes, stderr: bytes) -> bytes:
    """The outcome of an element that was ended."""
    return msgspec.msgpack.encode(Record(STOPPED, msgspec.msgpack.encode(info), stdout, stderr))


def descendants(pid: int) -> list[int]:
    """All processes below one, whatever session they are in."""
    found: list[int] = []
    pending = linux.children_of(pid)
    while pending:
        child = pending.pop()
        found.append(child)
        pending += linux.children_of(child)
    return found


def _signal(pids: Iterable[int], number: signal.Signals) -> bool:
    """Signal all of them; whether any was there."""
    reached = False
    for pid in pids:
        try:
            os.kill(pid, number)
            reached = True
        except OSError:  # it has ended, or has become another user's
            continue
    return reached
