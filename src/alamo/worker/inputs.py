"""Arguments that travel apart: outputs of other tasks, large and shared objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from alamo.protocol import pickling
from alamo.protocol.blocks import BlockMaker, BlockReader
from alamo.protocol.messages import Chunk, ObjectDefined
from alamo.protocol.output_form import PLAIN
from alamo.protocol.parts import Reduced, homing_reference
from alamo.protocol.placeholders import inputs
from alamo.protocol.records import ARRAY_MARK, RAW, RESULT, STDOUT, Record, outcomes_of

_decode_record = msgspec.msgpack.Decoder(Record).decode


class ChunkInputs:
    """What placeholders in the arguments of the current chunk resolve to."""

    def __init__(self, reader: BlockReader, maker: BlockMaker) -> None:
        self._reader = reader
        self._maker = maker
        self._objects: dict[int, dict[int, ObjectDefined]] = {}
        self._outcomes: dict[int, bytes] = {}
        self._program: dict[int, ObjectDefined] = {}
        self._part_numbers: dict[int, list[int]] = {}
        self._number = -1
        self._parts: dict[int, Any] = {}
        self._latest: dict[int, int] = {}  # id of a part -> the number it was loaded as last
        self._gifts: dict[int, int] = {}
        self.bind()

    def bind(self) -> None:
        """Have placeholders in this process ask here."""
        inputs.outcome = self._outcome
        inputs.shared = self._shared
        inputs.part = self._part

    def define(self, message: ObjectDefined) -> None:
        """Keep an object of a program."""
        self._objects.setdefault(message.program, {})[message.number] = message
        if message.is_part:
            self._part_numbers.setdefault(message.program, []).append(message.number)

    def forget(self, program: int, numbers: Sequence[int] = ()) -> None:
        """Drop objects of a program, or all."""
        if numbers:
            for number in numbers:
                self._objects.get(program, {}).pop(number, None)
            return
        self._objects.pop(program, None)
        self._part_numbers.pop(program, None)
        if program == self._number:
            self._leave_program()

    def _leave_program(self) -> None:
        """Another program's parts may be other states of the same classes: load them again."""
        self._number = -1
        self._parts.clear()
        self._latest.clear()

    def enter(self, chunk: Chunk) -> bool:
        """Make a chunk's inputs current; returns whether it may have any."""
        if chunk.program != self._number:
            self._leave_program()
            self._number = chunk.program
        self._program = self._objects.get(chunk.program, {})
        self._outcomes = dict(chunk.inputs)
        self._gifts = dict(chunk.gifts)
        return bool(self._program or chunk.inputs or chunk.keep)

    def leave(self) -> None:
        """The chunk has ended."""
        self._outcomes = {}
        inputs.fresh.clear()

    def keep(self, chunk: Chunk, position: int, data: bytes) -> None:
        """Remember an outcome for later elements of the same chunk."""
        elements: Sequence[int] = memoryview(chunk.elements).cast("I") if chunk.elements else ()
        self._outcomes[elements[position] if elements else chunk.first + position] = data

    def fill_gift(
        self, position: int, buffers: Sequence[bytes | memoryview]
    ) -> tuple[int, tuple[int, ...]] | None:
        """Put an element's result where an argument lay that nobody else needs.

        The argument was copied out before the element ran.

        Returns:
            Block number and spans; ``None`` when there is no such block of the right size.
        """
        block = self._gifts.get(position, -1)
        spans = self._reader.fill(block, buffers) if block >= 0 else None
        return (block, spans) if spans is not None else None

    def _outcome(self, element: int, stream: int) -> Any:
        data = self._outcomes[element]
        self._load_parts()
        if data[:1] == ARRAY_MARK:
            return [self._opened(outcome, stream) for outcome in outcomes_of(data)]
        return self._opened(data, stream)

    def _opened(self, data: bytes, stream: int) -> Any:
        if data[:1] == b"\x80" or not data:
            if stream != RESULT:
                return b"" if stream & RAW else ""
            return pickling.load(data) if data else None
        record = _decode_record(data)
        if stream != RESULT:
            data = record.stdout if stream & ~RAW == STDOUT else record.stderr
            return data if stream & RAW else PLAIN.shown(data)
        return self._load(record.value, record.block, record.spans)

    def _shared(self, number: int) -> Any:
        message = self._program[number]
        return self._load(message.value, message.block, message.spans)

    # -- parts -----------------------------------------------------------------------------

    def _part(self, number: int) -> Any:
        # A class that changed between two tasks comes under two numbers and is one object here.
        known = self._parts.get(number)
        if known is None or self._latest[id(known)] != number:
            known = self._parts[number] = self._shared(number)
            self._latest[id(known)] = number
        return known

    def _load_parts(self) -> None:
        """An outcome refers to classes by name: have this program's under their names."""
        for number in self._part_numbers.get(self._number, ()):
            if number not in self._parts:
                self._part(number)

    def reference(self, obj: Any) -> Reduced | None:
        """What stands in a result for a class that is a part of the program."""
        number = self._latest.get(id(obj))
        if number is None or not isinstance(obj, type):
            return None
        return homing_reference(obj, number)

    def add(self, obj: Any) -> Reduced | None:
        """Results bring no parts of their own."""
        return None

    def _load(self, value: bytes, block: int, spans: tuple[int, ...]) -> Any:
        if block < 0:
            return pickling.load(value) if value else None
        buffers = self._maker.copy(block, spans)  # an outcome of this very worker
        if buffers is None:
            buffers = self._reader.copy(block, spans)
        if not value:
            value = bytes(buffers.pop(0))
        return pickling.load(value, buffers)
