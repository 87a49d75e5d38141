"""Sending chunks to workers, with all that their tasks need and the worker has not yet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from alamo.core import events as ev
from alamo.core.chunks import Chunk
from alamo.errors import AlamoError, SerializationError
from alamo.manager.programs import ProgramData
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol import messages as msg
from alamo.protocol.records import RAISED, Record

if TYPE_CHECKING:
    from alamo.manager.service import Service


class Dealer:
    """Makes messages of the scheduler's chunks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def deal(self, effect: ev.Deal) -> None:
        """Send a chunk to its worker.  One that cannot be sent must not hold up the others."""
        worker = self._service.pool.workers[effect.worker]
        chunk = effect.chunk
        try:
            self._send(worker, chunk)
        except (AlamoError, OSError) as error:
            reason = error
            # Not now: other effects are still to be carried out.
            self._service.loop.at_round_end(lambda: self._refuse(worker, chunk, reason))
            return
        worker.end_seq = chunk.end_seq
        terms = self._service.programs[chunk.program.number].terms
        if terms is not None and terms.is_limited:
            self._service.limits.dealt(worker, chunk)
        if len(chunk.elements) > 1:
            self._service.harvester.watch(worker)

    def _send(self, worker: WorkerProcess, chunk: Chunk) -> None:
        data = self._service.programs[chunk.program.number]
        message = data.make_chunk(chunk, worker.epoch)
        self._define_functions(worker, message.functions)
        for number in data.parts:
            self._define_object(worker, data, number)
        if data.objects:
            for number in data.objects_of(chunk.elements):
                self._define_object(worker, data, number)
            gifts = data.gifts_of(chunk.elements)
            blocks = self._service.blocks
            message.gifts = tuple([g for g in gifts if blocks.is_only_use(g[1])])
        grant = chunk.grant
        if grant is not None and (grant.cores > 1 or grant.gpus or grant.cpus):
            message.binding = self._service.inquiries.wire_grant(grant)
        for source, _ in message.inputs:
            for block in data.kept_blocks.get(source, ()):
                if not self._service.blocks.is_of(block, worker.connection):
                    self._service.blocks.show(block, worker.connection)
        worker.connection.send(message)

    def _define_functions(self, worker: WorkerProcess, functions: int | bytes) -> None:
        needed = {functions} if isinstance(functions, int) else set(memoryview(functions).cast("I"))
        for number in needed - worker.known_functions:
            blob = self._service.functions[number]
            worker.connection.send(msg.FunctionDefined(number, blob))
            worker.known_functions.add(number)

    def _define_object(self, worker: WorkerProcess, data: ProgramData, number: int) -> None:
        key = (data.number, number)
        if key in worker.known_objects:
            return
        definition = data.definitions[number]
        if definition.block >= 0:
            self._service.blocks.show(definition.block, worker.connection)
        worker.connection.send(definition)
        worker.known_objects.add(key)

    def _refuse(self, worker: WorkerProcess, chunk: Chunk, error: Exception) -> None:
        """A chunk did not go out.  Several elements are tried again apart; one has failed."""
        known = self._service.scheduler.pool.workers.get(worker.number)
        if known is None or known.chunk(chunk.number) is None:
            return  # the worker has died, or all of the chunk has been taken back
        if len(chunk.elements) > 1:
            self._service.drive(ev.ChunkRefused(worker.number, chunk.number))
            return
        payload = failure_record(
            SerializationError(f"the task could not be sent to a worker: {error}"),
            self._service.host,
        )
        ends = len(payload).to_bytes(4, "little")
        self._service.forwarder.forward(chunk.program.number, chunk.elements, ends, payload, (0,))
        self._service.drive(ev.ChunkFinished(worker.number, chunk.number, 1, (0,)))
        self._service.check_end()


def failure_record(error: Exception, host: str) -> bytes:
    """The outcome of a task that failed in the manager's hands."""
    from alamo.protocol.exceptions import dump_exception  # rarely needed, and a large module

    return msgspec.msgpack.encode(Record(RAISED, dump_exception(error, host, os.getpid())))
