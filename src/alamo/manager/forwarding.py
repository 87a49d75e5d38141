"""What becomes of elements, told to their clients; and what nobody needs once they have ended."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from alamo.errors import SerializationError
from alamo.manager.arrays import ArrayData
from alamo.manager.dealing import failure_record
from alamo.manager.programs import ProgramData
from alamo.manager.settling import replaced
from alamo.protocol import messages as msg
from alamo.protocol.marks import Timing
from alamo.protocol.records import block_of

if TYPE_CHECKING:
    from alamo.manager.service import Service

#: Outcomes of tasks this short, with this many to come, are gathered this long for their client:
#: each message wakes it up, which costs both sides as much as ten tasks.
_LINGER_S = 0.002
_SHORT_S = 0.000_05
_MANY = 1024

#: A client that has not taken so much gets no more of its programs run until it has taken half.
QUEUE_MAX_BYTES = 64 << 20


class Forwarder:
    """Passes outcomes from workers to clients as opaque bytes.

    Attributes:
        forwarded_bytes: how many bytes so far.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.forwarded_bytes = 0

    def forward(
        self,
        number: int,
        elements: Sequence[int],
        ends: bytes,
        payload: bytes,
        failed: tuple[int, ...] = (),
        blocks: tuple[tuple[int, int], ...] = (),
        timing: Timing | None = None,
    ) -> None:
        """Pass outcomes on to the client, unopened, and keep those that other tasks need."""
        data = self._service.programs[number]
        client = self._service.clients.get(data.client)
        used = [block for _, block in blocks]
        self.forwarded_bytes += len(payload) + sum(map(self._service.blocks.size_of, used))
        unseen: dict[int, bytes] = {}
        for position, block in blocks:
            self._service.blocks.use(block)
            try:
                if client is not None:
                    client.show_block(block)
            except OSError as error:
                lost = SerializationError(f"the result could not be passed on: {error}")
                unseen[position] = failure_record(lost, self._service.host)
        if data.consumers:
            self._keep_sources(data, elements, ends, payload)
        if isinstance(data, ArrayData) and data.is_collected:
            for block in data.collect(elements, ends, payload):
                self._service.blocks.use(block)
        if unseen:
            ends, payload = replaced(ends, payload, unseen)
            failed = tuple(sorted({*failed, *unseen}))
            blocks = tuple([pair for pair in blocks if pair[0] not in unseen])
        if client is not None:
            is_range = isinstance(elements, range)
            column = b"" if is_range else _column(elements)
            linger_s = self._linger_s(number, len(elements))
            client.connection.send(
                msg.Results(
                    data.remote, elements[0], column, ends, payload, failed, blocks, timing
                ),
                linger_s=linger_s,
            )
            if client.connection.queued_bytes > QUEUE_MAX_BYTES:
                client.hold()
            if not linger_s:  # somebody may wait for it: before anything is decided
                client.connection.flush()
        if data.inputs or data.objects or data.is_array:
            self._ended(data, elements)
        if used:
            self._service.blocks.released(used)

    def _linger_s(self, number: int, count: int) -> float:
        """How long outcomes may wait for more to go with them to their client."""
        program = self._service.scheduler.programs.get(number)
        if program is None or program.mean_s is None or program.mean_s > _SHORT_S:
            return 0.0
        return _LINGER_S if program.unfinished - count > _MANY else 0.0

    def _keep_sources(
        self, data: ProgramData, elements: Sequence[int], ends: bytes, payload: bytes
    ) -> None:
        start = 0
        for element, end in zip(elements, memoryview(ends).cast("I"), strict=True):
            if element in data.consumers:
                outcome = data.kept[element] = payload[start:end]
                block = block_of(outcome)
                if block >= 0:
                    self._service.blocks.use(block)
                    data.kept_blocks[element] = [block]
            start = end

    def _ended(self, data: ProgramData, elements: Iterable[int]) -> None:
        blocks, objects = data.ended(elements)
        self._service.blocks.released(blocks)
        self.objects_gone(data, objects)

    def objects_gone(self, data: ProgramData, objects: list[int]) -> None:
        """Nobody needs these objects of a program any more."""
        blocks = []
        for number in objects:
            data.object_users.pop(number, None)
            definition = data.definitions.pop(number, None)
            if definition is not None and definition.block >= 0:
                blocks.append(definition.block)
        self._service.blocks.released(blocks)
        if objects and data.is_array:  # it may be endless, and no worker should keep them all
            for worker in self._service.pool.workers.values():
                sent = [n for n in objects if (data.number, n) in worker.known_objects]
                if sent:
                    worker.known_objects.difference_update([(data.number, n) for n in sent])
                    worker.connection.send(msg.ObjectsForgotten(data.number, tuple(sent)))

    def skipped(self, number: int, elements: list[int], roots: list[int]) -> None:
        """Elements will not run, as what they need has failed."""
        data = self._service.programs[number]
        client = self._service.clients.get(data.client)
        if client is not None:
            client.connection.send(msg.Skipped(data.remote, _column(elements), _column(roots)))
        if data.inputs or data.objects:
            self._ended(data, elements)

    def cancelled(self, number: int, elements: list[int]) -> None:
        """Elements were cancelled before they began."""
        data = self._service.programs[number]
        client = self._service.clients.get(data.client)
        if client is not None:
            by_reason: dict[str, list[int]] = {}
            for element in elements:
                by_reason.setdefault(data.why_cancelled(element), []).append(element)
            for reason, gone in by_reason.items():
                client.connection.send(msg.Cancelled(data.remote, _column(gone), reason))
        if data.inputs or data.objects or data.is_array:
            self._ended(data, elements)

    def attempt_failed(self, number: int, element: int, outcome: bytes, delay_s: float) -> None:
        """An attempt failed, and the element is tried again after ``delay_s``."""
        data = self._service.programs[number]
        client = self._service.clients.get(data.client)
        if client is not None:
            client.connection.send(msg.AttemptFailed(data.remote, element, outcome, delay_s))


def _column(elements: Iterable[int]) -> bytes:
    return array("I", elements).tobytes()
