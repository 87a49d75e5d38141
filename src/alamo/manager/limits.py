"""Watching elements that may only take so long, or so much memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from alamo.core.chunks import Chunk
from alamo.manager.memory import MemoryWatch
from alamo.manager.stopping import chunk_at
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol.records import MEMORY, TIMEOUT, StopInfo

if TYPE_CHECKING:
    from alamo.manager.service import Service

#: How often workers with limited elements are looked at.
TICK_S = 0.05
#: What shorter elements leave behind is looked at no more often than that.
SHORT_S = 0.005


class Limits:
    """Looks at workers through their cells, so it sees tasks in C code too."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._watched: dict[int, WorkerProcess] = {}
        self._memory: dict[int, MemoryWatch] = {}
        #: When it was looked last what the worker had before its tasks.
        self._begun_s: dict[int, float] = {}
        self._ticking = False

    def dealt(self, worker: WorkerProcess, chunk: Chunk) -> None:
        """A chunk has gone to the worker, some of whose elements are limited."""
        self._watched[worker.number] = worker
        terms = self._service.programs[chunk.program.number].terms
        if terms is not None and any(t.memory_bytes for t in terms.by_number.values()):
            watch = self._memory.get(worker.number)
            if watch is None:
                watch = self._memory[worker.number] = MemoryWatch(worker.pid)
            if chunk.seq == worker.next_seq:
                self._begin(worker.number, watch, chunk)
        if not self._ticking:
            self._ticking = True
            self._service.loop.call_later(TICK_S, self._tick)

    def finished(self, worker: WorkerProcess) -> None:
        """The worker has reported; what it holds from now on belongs to the elements to come."""
        watch = self._memory.get(worker.number)
        if watch is not None:
            known = self._service.scheduler.pool.workers.get(worker.number)
            chunk = known.chunks[0] if known is not None and known.chunks else None
            self._begin(worker.number, watch, chunk)

    def _begin(self, number: int, watch: MemoryWatch, chunk: Chunk | None) -> None:
        """Look what the worker has before elements that begin now."""
        now_s = time.monotonic()
        if chunk is not None and now_s - self._begun_s.get(number, 0.0) < TICK_S:
            mean_s = (chunk.lane or chunk.program).mean_s
            if mean_s is not None and mean_s < SHORT_S:
                return
        self._begun_s[number] = now_s
        watch.begin()

    def gone(self, worker: WorkerProcess) -> None:
        """The worker is no more."""
        self._watched.pop(worker.number, None)
        self._memory.pop(worker.number, None)
        self._begun_s.pop(worker.number, None)

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        for number, worker in list(self._watched.items()):
            known = self._service.scheduler.pool.workers.get(number)
            if known is None or not known.chunks or worker.buried:
                self.gone(worker)
                continue
            seq = worker.running_seq([(c.number, c.seq, c.end_seq) for c in known.chunks])
            chunk = chunk_at(known, seq)
            if chunk is not None:
                self._look(worker, chunk, seq, worker.has_run_for_s(now_ns))
        self._ticking = bool(self._watched)
        if self._ticking:
            self._service.loop.call_later(TICK_S, self._tick)

    def _look(self, worker: WorkerProcess, chunk: Chunk, seq: int, has_run_s: float) -> None:
        """Hold what the running element has taken against what it may take."""
        table = self._service.programs[chunk.program.number].terms
        terms = table.of(chunk.elements[seq - chunk.seq]) if table is not None else None
        if terms is None:
            return
        host = self._service.host
        if 0 < terms.timeout_s < has_run_s:
            info = StopInfo(TIMEOUT, host, worker.pid, terms.timeout_s, has_run_s)
            self._service.stopper.ask(worker, seq, info)
        elif terms.memory_bytes and worker.number in self._memory:
            used = self._memory[worker.number].exceeds(terms.memory_bytes)
            if used:
                info = StopInfo(MEMORY, host, worker.pid, terms.memory_bytes, used)
                self._service.stopper.ask(worker, seq, info)
