"""Where a client keeps outcomes that nobody has asked for yet: memory, then a file.

Up to a budget outcomes stay in memory.  What comes in above it goes to a temporary file
without a name, which the system removes with the process, and is read back when asked for.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from alamo.errors import UsageError
from alamo.protocol.blocks import BlockReader
from alamo.protocol.records import Record

log = logging.getLogger("alamo")

#: Environment variable with the budget in bytes.
VARIABLE = "ALAMO_RESULT_MEMORY"
#: Share of the machine's memory that is the budget when the variable is not set.
_SHARE = 4

#: Results that are views of blocks at once; each is a mapping, of which Linux allows 65 530.
_LENT_MAX = 16_384

#: ``Record.block`` of a record whose buffers lie in the spill file.
SPILLED = -2

_decode_record = msgspec.msgpack.Decoder(Record).decode


def default_budget_bytes() -> int:
    """The budget: ALAMO_RESULT_MEMORY, else a quarter of the machine's memory.

    Raises:
        UsageError: the variable is no number.
    """
    given = os.environ.get(VARIABLE)
    if given:
        if not given.isdecimal():
            raise UsageError(f"{VARIABLE} is a number of bytes, not {given!r}")
        return int(given)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE


class Spilled(NamedTuple):
    """A frame of outcomes in the spill file."""

    ends: memoryview
    offset: int


def _nothing() -> None:
    pass


def _release_nothing(blocks: list[int]) -> None:
    pass


class ResultMemory:
    """Outcomes of all programs of one client, within a budget.

    Args:
        release: called with blocks that can be filled again.
    """

    def __init__(self, budget_bytes: int, release: Callable[[list[int]], None]) -> None:
        self._budget = budget_bytes
        self._release = release
        # Filled by finalizers, which run in the middle of anything and must not take a lock.
        self._returned: deque[int] = deque()
        self._unwanted: deque[int] = deque()
        self._dropped: deque[Spilled] = deque()
        self._freed: deque[int] = deque()
        self._lock = threading.Lock()  # for all below
        self._lent = 0
        self._held = 0
        self._file: Any = None
        self._file_size = 0
        self._file_frames = 0
        self.blocks = BlockReader(lending=True)

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
        self.blocks.add(block, size, fd)

    def keep(
        self, ends: memoryview, payload: bytes, blocks: Sequence[tuple[int, int]]
    ) -> tuple[memoryview, bytes] | Spilled:
        """Take a frame of outcomes; returns what ``read`` wants to find one of them."""
        size = len(payload) + sum(self.blocks.size(block) for _, block in blocks)
        frame: tuple[memoryview, bytes] | Spilled = (ends, payload)
        with self._lock:
            free = self._settle()
            if self._held + size > self._budget:
                try:
                    frame = self._spill(ends, payload, blocks)
                    free += [block for _, block in blocks]
                except OSError as error:
                    log.warning("results above the budget stay in memory: %s", error)
            if frame.__class__ is tuple:
                self._held += size
        if free:
            self._release(free)
        return frame

    def dropped(self, frame: Any) -> None:
        """A frame is no longer wanted; may be called by a finalizer."""
        if frame.__class__ is tuple:
            self._freed.append(len(frame[1]))
        else:
            self._dropped.append(frame)

    def read(self, frame: Any, k: int) -> bytes:
        """The bytes of the k-th outcome of a frame."""
        if frame.__class__ is tuple:
            ends, payload = frame
            return payload[ends[k - 1] if k else 0 : ends[k]]  # type: ignore[no-any-return]
        start = frame.ends[k - 1] if k else 0
        return bytes(self._read(frame.offset + start, frame.ends[k] - start))

    def open_block(self, record: Record) -> tuple[list[Any], Callable[[], None]]:
        """A record's buffers, writable, and what to call when they have been made a value.

        They are the block itself, copy-on-write, while not too many are lent; it is given
        back when nothing refers to the value any more.
        """
        if record.block == SPILLED:
            spans = zip(record.spans[::2], record.spans[1::2], strict=True)
            return [self._read(at, size) for at, size in spans], _nothing
        block = record.block
        size = self.blocks.size(block)
        if self._lent >= _LENT_MAX:
            copied: list[Any] = list(self.blocks.copy(block, record.spans))

            def confirm_copy() -> None:
                self._freed.append(size)
                self._release([block])

            return copied, confirm_copy
        confirmed: list[bool] = []

        def returned(block: int) -> None:
            if confirmed:
                self._returned.append(block)

        lent: list[Any] = list(self.blocks.lend(block, record.spans, returned))

        def confirm_loan() -> None:
            self._freed.append(size)
            with self._lock:
                self._lent += 1
            confirmed.append(True)

        return lent, confirm_loan

    def give_up(self, blocks: Iterable[int]) -> None:
        """Nobody will ask for these blocks; may be called by a finalizer."""
        self._unwanted.extend(blocks)

    def release_returned(self) -> None:
        """Give back blocks that nothing refers to any more."""
        if self._returned or self._unwanted:
            with self._lock:
                free = self._settle()
            self._release(free)

    def _settle(self) -> list[int]:
        """Count what finalizers left here; returns the blocks to give back."""
        while self._freed:
            self._held -= self._freed.popleft()
        while self._dropped:
            self._dropped.popleft()
            self._file_frames -= 1
            if not self._file_frames:
                self._file.truncate(0)
                self._file_size = 0
        blocks = []
        while self._returned:
            blocks.append(self._returned.popleft())
        self._lent -= len(blocks)
        while self._unwanted:
            blocks.append(self._unwanted.popleft())
            self._held -= self.blocks.size(blocks[-1])
        return blocks

    def detach(self) -> None:
        """The connection is gone through which the blocks came: give nothing back any more."""
        self._release = _release_nothing
        self._lock = threading.Lock()  # in a forked child a thread that is not there may hold it

    # -- the file ------------------------------------------------------------------------

    def _spill(
        self, ends: memoryview, payload: bytes, blocks: Sequence[tuple[int, int]]
    ) -> Spilled:
        if blocks:
            ends, payload = self._without_blocks(ends, payload, blocks)
        spilled = Spilled(ends, self._write(payload))
        self._file_frames += 1
        return spilled

    def _write(self, data: bytes | bytearray) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115
                prefix="alamo-results-", buffering=0
            )
            weakref.finalize(self, self._file.close)  # which the collector may find with this
        offset = self._file_size
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file.fileno(), view, self._file_size)
            self._file_size += done
            view = view[done:]
        return offset

    def _read(self, offset: int, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            done = os.preadv(self._file.fileno(), [view], offset)
            if not done:
                raise OSError("the file with results above the budget is too short")
            offset += done
            view = view[done:]
        return data

    def _without_blocks(
        self, ends: memoryview, payload: bytes, blocks: Sequence[tuple[int, int]]
    ) -> tuple[memoryview, bytes]:
        """The same outcomes with the buffers of their blocks copied to the file."""
        pieces = [payload[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        for position, block in blocks:
            record = _decode_record(pieces[position])
            spans: list[int] = []
            for buffer in self.blocks.copy(block, record.spans):
                spans += (self._write(buffer), len(buffer))
            record.block, record.spans = SPILLED, tuple(spans)
            pieces[position] = msgspec.msgpack.encode(record)
        new_ends = array("I")
        at = 0
        for piece in pieces:
            at += len(piece)
            new_ends.append(at)
        return memoryview(new_ends), b"".join(pieces)
