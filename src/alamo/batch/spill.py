"""Where a client keeps outcomes that nobody has asked for yet: memory, then a file.

Up to a budget outcomes stay in memory.  What comes in above it goes to a temporary file
without a name, which the system removes with the process, and is read back when asked for.
"""

from __future__ import annotations

import os
import tempfile
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from alamo.protocol.blocks import BlockReader
from alamo.protocol.records import Record

#: Environment variable with the budget in bytes.
VARIABLE = "ALAMO_RESULT_MEMORY"
#: Share of the machine's memory that is the budget when the variable is not set.
_SHARE = 4

#: ``Record.block`` of a record whose buffers lie in the spill file.
SPILLED = -2

_decode_record = msgspec.msgpack.Decoder(Record).decode


def default_budget_bytes() -> int:
    """The budget: ALAMO_RESULT_MEMORY, else a quarter of the machine's memory."""
    given = os.environ.get(VARIABLE)
    if given:
        return int(given)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE


class Spilled(NamedTuple):
    """A frame of outcomes in the spill file."""

    ends: memoryview
    offset: int


class ResultMemory:
    """Outcomes of all programs of one client, within a budget.

    Args:
        release: called with blocks that were copied out and can be filled again.
    """

    def __init__(self, budget_bytes: int, release: Callable[[list[int]], None]) -> None:
        self._budget = budget_bytes
        self.release = release
        self._held = 0
        self._lock = threading.Lock()
        self._file: Any = None
        self._file_size = 0
        self.blocks = BlockReader()
        self._sizes: dict[int, int] = {}

    @property
    def spilled_bytes(self) -> int:
        """Bytes written to the spill file so far."""
        return self._file_size

    @property
    def held_bytes(self) -> int:
        """Bytes held in memory and in shared blocks."""
        return self._held

    def add_block(self, block: int, size: int, fd: int) -> None:
        """A block that outcomes will refer to."""
        self._sizes[block] = size
        self.blocks.add(block, size, fd)

    def keep(
        self, ends: memoryview, payload: bytes, blocks: Sequence[tuple[int, int]]
    ) -> tuple[memoryview, bytes] | Spilled:
        """Take a frame of outcomes; returns what ``read`` wants to find one of them."""
        size = len(payload) + sum(self._sizes.get(block, 0) for _, block in blocks)
        if self._held + size <= self._budget:
            self._held += size
            return ends, payload
        if blocks:
            ends, payload = self._without_blocks(ends, payload, blocks)
        return Spilled(ends, self._write(payload))

    def dropped(self, frame: Any) -> None:
        """A frame is no longer wanted."""
        if frame.__class__ is tuple:
            self._held -= len(frame[1])

    def read(self, frame: Any, k: int) -> bytes:
        """The bytes of the k-th outcome of a frame."""
        if frame.__class__ is tuple:
            ends, payload = frame
            return payload[ends[k - 1] if k else 0 : ends[k]]  # type: ignore[no-any-return]
        start = frame.ends[k - 1] if k else 0
        return os.pread(self._file.fileno(), frame.ends[k] - start, frame.offset + start)

    def take_block(self, record: Record) -> list[Any]:
        """Copies of a record's buffers; its block is then given back."""
        if record.block == SPILLED:
            fd = self._file.fileno()
            return [
                bytearray(os.pread(fd, n, at))
                for at, n in zip(record.spans[::2], record.spans[1::2], strict=True)
            ]
        buffers: list[Any] = self.blocks.copy(record.block, record.spans)
        self._held -= self._sizes.get(record.block, 0)
        self.release([record.block])
        return buffers

    def _write(self, data: bytes | bytearray) -> int:
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="alamo-results-")  # noqa: SIM115
            offset = self._file_size
            view = memoryview(data)
            while view:
                done = os.pwrite(self._file.fileno(), view, self._file_size)
                self._file_size += done
                view = view[done:]
            return offset

    def _without_blocks(
        self, ends: memoryview, payload: bytes, blocks: Sequence[tuple[int, int]]
    ) -> tuple[memoryview, bytes]:
        """The same outcomes with the buffers of their blocks copied to the spill file."""
        pieces = [payload[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        for position, block in blocks:
            record = _decode_record(pieces[position])
            spans: list[int] = []
            for buffer in self.blocks.copy(block, record.spans):
                spans += (self._write(buffer), len(buffer))
            record.block, record.spans = SPILLED, tuple(spans)
            pieces[position] = msgspec.msgpack.encode(record)
        self.release([block for _, block in blocks])
        new_ends = array("I")
        at = 0
        for piece in pieces:
            at += len(piece)
            new_ends.append(at)
        return memoryview(new_ends), b"".join(pieces)

    def close(self) -> None:
        """Free file and mappings."""
        self.blocks.close()
        if self._file is not None:
            self._file.close()
