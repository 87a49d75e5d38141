"""Collecting outcomes from the memory that workers share with the manager.

A worker announces outcomes when a chunk ends or some milliseconds have passed, which it
notices between tasks.  So that a finished task's outcome is not held up by a long one
behind it, the manager looks into the memory of workers that have been silent.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.errors import ProtocolError
from alamo.manager import deaths
from alamo.manager.settling import Outcomes, settle
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol import messages as msg
from alamo.protocol.layout import BUFFERS, FREE, PAYLOAD_BYTES, SharedMemory
from alamo.protocol.marks import Timing, elapsed_ns
from alamo.worker.stats import marks_of

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
        self._service.limits.finished(worker)
        if 0 <= message.buffer < BUFFERS:
            worker.memory.cells[FREE + message.buffer] = 1
        worker.peek_s = PEEK_S

    def _take(self, worker: WorkerProcess, message: msg.Finished) -> None:
        known = self._service.scheduler.pool.workers.get(worker.number)
        chunk = known.chunk(message.chunk) if known is not None else None
        if chunk is None or not message.first <= chunk.done < message.upto:
            return
        base = chunk.done
        try:
            if message.upto > len(chunk.elements):
                raise ProtocolError("outcomes of elements that it does not hold")
            news = news_of(worker.memory, message, base)
            marks = message.marks or marks_of(worker.memory.marks[message.buffer])
        except ProtocolError as error:
            self._spoiled(worker, str(error))
            return
        failed = tuple([p - base for p in message.failed if p >= base])
        blocks = tuple([(p - base, block) for p, block in message.blocks if p >= base])
        timing = Timing(worker.pid, marks, base - message.first)
        found = Outcomes(chunk.elements[base : message.upto], *news, failed, blocks, timing)
        number = chunk.program.number
        again: Sequence[int] = ()
        if worker.stop is not None or (failed and self._service.programs[number].terms):
            found, again, ended = settle(self._service, worker, chunk, base, found)
        else:
            ended = found
        if len(ended.elements):
            self._service.forwarder.forward(number, *ended)
        took_s = message.elapsed_ns * 1e-9
        if base > message.first or not took_s:  # some of them were harvested before, or are now
            took_s = elapsed_ns(marks, base - message.first, message.upto - message.first) * 1e-9
            # A task may have written anything where the marks lie.
            took_s = min(took_s, max(0.0, time.monotonic() - chunk.dealt_s))
        self._service.drive(
            ev.ChunkFinished(
                worker.number,
                message.chunk,
                message.upto,
                [base + p for p in found.failed],
                took_s,
                [base + p for p in again],
            )
        )

    def _spoiled(self, worker: WorkerProcess, what: str) -> None:
        """Some task wrote where outcomes lie.  Which are still right cannot be told: it ends."""
        if not worker.buried:
            worker.cause = (
                f"it reported {what}, so it was killed: the function or a library wrote to memory "
                "that was not its own"
            )
            self._service.pool.kill(worker.number)

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
    """The outcomes of a message from position ``base`` on: ends and payload.

    Raises:
        ProtocolError: a task has written over them.

    Cost: 0.03 us an outcome.
    """
    ends, payload = message.ends, message.payload
    if message.buffer >= 0:
        if message.buffer >= BUFFERS or not 0 <= message.size <= PAYLOAD_BYTES:
            raise ProtocolError("outcomes that are nowhere")
        ends = bytes(memory.ends[message.buffer][: message.upto - message.first])
        payload = bytes(memory.payloads[message.buffer][: message.size])
    if len(ends) != 4 * (message.upto - message.first):
        raise ProtocolError("outcomes without their ends")
    column = memoryview(ends).cast("I").tolist()
    if column[-1] != len(payload) or column != sorted(column):
        raise ProtocolError("outcomes whose ends make no sense")
    skipped = base - message.first
    if not skipped:
        return ends, payload
    start = column[skipped - 1]
    rest = array("I", [end - start for end in column[skipped:]])
    return rest.tobytes(), payload[start:]
