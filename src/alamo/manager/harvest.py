"""Collecting outcomes from the memory that workers share with the manager.

A worker announces outcomes when a chunk ends or some milliseconds have passed, which it
notices between tasks.  So that a finished task's outcome is not held up by a long one
behind it, the manager looks into the memory of workers that have been silent.
"""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.manager import deaths
from alamo.manager.pool import WorkerProcess
from alamo.protocol import messages as msg
from alamo.protocol.layout import FREE, SharedMemory

if TYPE_CHECKING:
    from alamo.manager.service import Service

#: A worker that has been silent this long is looked at, and again, ever more rarely.
PEEK_S = 0.01
PEEK_MAX_S = 0.2


class Harvester:
    """Takes outcomes from workers and passes them on."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def announced(self, worker: WorkerProcess, message: msg.Finished) -> None:
        """A worker announced outcomes, some of which may have been harvested before."""
        self._take(worker, message)
        if message.buffer >= 0:
            worker.memory.cells[FREE + message.buffer] = 1
        worker.peek_s = PEEK_S

    def _take(self, worker: WorkerProcess, message: msg.Finished) -> None:
        known = self._service.scheduler.pool.workers.get(worker.number)
        chunk = known.chunk(message.chunk) if known is not None else None
        if chunk is None or not message.first <= chunk.done < message.upto:
            return
        base = chunk.done
        news = news_of(worker.memory, message, base)
        self._service.forward(
            chunk.program.number,
            chunk.elements[base : message.upto],
            *news,
            tuple([p - base for p in message.failed if p >= base]),
            tuple([(p - base, block) for p, block in message.blocks if p >= base]),
        )
        share = (message.upto - base) / (message.upto - message.first)
        self._service.drive(
            ev.ChunkFinished(
                worker.number,
                message.chunk,
                message.upto,
                message.failed,
                message.elapsed_ns * 1e-9 * share,
            )
        )

    def watch(self, worker: WorkerProcess) -> None:
        """Look into the worker's memory while it holds chunks of several elements."""
        if not worker.watched:
            worker.watched = True
            worker.peek_s = PEEK_S
            self._service.loop.call_later(PEEK_S, lambda: self._peek(worker))

    def _peek(self, worker: WorkerProcess) -> None:
        known = self._service.scheduler.pool.workers.get(worker.number)
        worker.watched = False
        if known is None or worker.buried or all(len(c.elements) == 1 for c in known.chunks):
            return
        if worker.has_run_for_s(time.monotonic_ns()) > PEEK_S / 2:
            self.harvest(worker)
        worker.watched = True
        worker.peek_s = min(2 * worker.peek_s, PEEK_MAX_S)
        self._service.loop.call_later(worker.peek_s, lambda: self._peek(worker))

    def harvest(self, worker: WorkerProcess) -> None:
        """Take what a worker has recorded and not announced."""
        known = self._service.scheduler.pool.workers.get(worker.number)
        if known is None:
            return
        chunks = {c.number: c for c in known.chunks}
        rest = deaths.salvaged(worker, lambda n: chunks[n].done if n in chunks else -1)
        if rest is not None and rest.upto <= len(chunks[rest.chunk].elements):
            self._cut_unknown_blocks(worker, rest)
            self._take(worker, rest)

    def _cut_unknown_blocks(self, worker: WorkerProcess, rest: msg.Finished) -> None:
        """Leave what lies in a block of which the worker's message has not been read yet."""
        for position, block in rest.blocks:
            if not self._service.blocks.knows(block):
                ends = worker.memory.ends[rest.buffer]
                rest.size = ends[position - rest.first - 1] if position > rest.first else 0
                rest.upto = position
                rest.failed = tuple([p for p in rest.failed if p < position])
                rest.blocks = tuple([pair for pair in rest.blocks if pair[0] < position])
                return

    def harvest_number(self, number: int) -> None:
        """The same of the worker with this number, if it is there."""
        worker = self._service.pool.workers.get(number)
        if worker is not None and not worker.buried:
            self.harvest(worker)


def news_of(memory: SharedMemory, message: msg.Finished, base: int) -> tuple[bytes, bytes]:
    """The outcomes of a message from position ``base`` on: ends and payload."""
    if message.buffer >= 0:
        count = message.upto - message.first
        column = memory.ends[message.buffer][:count]
        payload = memory.payloads[message.buffer][: message.size]
    else:
        column = memoryview(message.ends).cast("I")
        payload = memoryview(message.payload)
    skipped = base - message.first
    if not skipped:
        return bytes(column), bytes(payload)
    start = column[skipped - 1]
    ends = array("I", [end - start for end in column[skipped:]])
    return ends.tobytes(), bytes(payload[start:])
