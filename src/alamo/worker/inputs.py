"""Arguments that travel apart: outputs of other tasks, large and shared objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from alamo.protocol import pickling
from alamo.protocol.blocks import BlockMaker, BlockReader
from alamo.protocol.messages import Chunk, ObjectDefined
from alamo.protocol.placeholders import inputs
from alamo.protocol.records import RESULT, STDOUT, Record

_decode_record = msgspec.msgpack.Decoder(Record).decode


class ChunkInputs:
    """What placeholders in the arguments of the current chunk resolve to."""

    def __init__(self, reader: BlockReader, maker: BlockMaker) -> None:
        self._reader = reader
        self._maker = maker
        self._objects: dict[int, dict[int, ObjectDefined]] = {}
        self._outcomes: dict[int, bytes] = {}
        self._program: dict[int, ObjectDefined] = {}
        inputs.outcome = self._outcome
        inputs.shared = self._shared

    def define(self, message: ObjectDefined) -> None:
        """Keep an object of a program."""
        self._objects.setdefault(message.program, {})[message.number] = message

    def forget(self, program: int) -> None:
        """Drop a program's objects."""
        self._objects.pop(program, None)

    def enter(self, chunk: Chunk) -> bool:
        """Make a chunk's inputs current; returns whether it may have any."""
        self._program = self._objects.get(chunk.program, {})
        self._outcomes = dict(chunk.inputs)
        return bool(self._program or chunk.inputs or chunk.keep)

    def leave(self) -> None:
        """The chunk has ended."""
        self._outcomes = {}
        inputs.fresh.clear()

    def keep(self, chunk: Chunk, position: int, data: bytes) -> None:
        """Remember an outcome for later elements of the same chunk."""
        elements: Sequence[int] = memoryview(chunk.elements).cast("I") if chunk.elements else ()
        self._outcomes[elements[position] if elements else chunk.first + position] = data

    def _outcome(self, element: int, stream: int) -> Any:
        data = self._outcomes[element]
        if data[:1] == b"\x80" or not data:
            if stream != RESULT:
                return ""
            return pickling.load(data) if data else None
        record = _decode_record(data)
        if stream != RESULT:
            text = record.stdout if stream == STDOUT else record.stderr
            return text.decode("utf-8", "backslashreplace")
        return self._load(record.value, record.block, record.spans)

    def _shared(self, number: int) -> Any:
        message = self._program[number]
        return self._load(message.value, message.block, message.spans)

    def _load(self, value: bytes, block: int, spans: tuple[int, ...]) -> Any:
        if block < 0:
            return pickling.load(value) if value else None
        buffers = self._maker.copy(block, spans)  # an outcome of this very worker
        if buffers is None:
            buffers = self._reader.copy(block, spans)
        if not value:
            value = bytes(buffers.pop(0))
        return pickling.load(value, buffers)
