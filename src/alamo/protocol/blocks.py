"""Shared memory blocks for large buffers, made by one process and mapped by others.

A block holds the out-of-band buffers of one value at a time.  When nobody needs that
value any more its maker fills the block again: copying a megabyte into pages that are
mapped and warm takes 25 us, into fresh ones 300-700.  Blocks are memfds, so nothing
has a name that could be left behind.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pickle import PickleBuffer

from alamo import linux

#: Buffers from this size on travel in blocks; smaller ones are cheaper inside the pickle.
BUFFER_MIN_BYTES = 64 * 1024
#: Free blocks are kept for reuse up to this sum.
FREE_MAX_BYTES = 256 * 1024 * 1024
_ALIGN = 64


class BlockMaker:
    """The blocks that this process makes and fills.

    Args:
        origin: a number of this process that no other has; block numbers contain it.
        blocks_max: blocks in use at once; each is an open file in the manager.
    """

    def __init__(self, origin: int, blocks_max: int) -> None:
        self._next = origin << 32
        self._max = blocks_max
        self._maps: dict[int, mmap.mmap] = {}
        self._free: dict[int, list[int]] = {}
        self._free_bytes = 0

    def fill(
        self, buffers: Sequence[bytes | memoryview]
    ) -> tuple[int, tuple[int, ...], int, int] | None:
        """Copy buffers into a block.

        Returns:
            Block number, spans (offset, size, offset, size, ...), the block's size, and the
            descriptor to pass on when the block is new (the caller closes it), else -1.
            ``None`` when there is no room for a block: the data must travel in line.

        Cost: a megabyte takes 25 us into a block used before, 400 us into a new one.
        """
        spans: list[int] = []
        at = 0
        for buffer in buffers:
            spans += (at, len(buffer))
            at += -(-len(buffer) // _ALIGN) * _ALIGN
        size = max(BUFFER_MIN_BYTES, 1 << (max(at, 1) - 1).bit_length())
        free = self._free.get(size)
        if free:
            block = free.pop()
            self._free_bytes -= size
            target = self._maps[block]
            for buffer, offset, length in zip(buffers, spans[::2], spans[1::2], strict=True):
                target[offset : offset + length] = buffer
            return block, tuple(spans), size, -1
        if len(self._maps) >= self._max:
            return None
        return self._make(buffers, spans, size)

    def _make(
        self, buffers: Sequence[bytes | memoryview], spans: list[int], size: int
    ) -> tuple[int, tuple[int, ...], int, int] | None:
        """A new block.  Writing it by system call saves the page faults, half of the cost."""
        fd = -1
        try:
            fd = os.memfd_create("alamo-block", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
            for buffer, offset in zip(buffers, spans[::2], strict=True):
                rest = memoryview(buffer)
                while rest:
                    done = os.pwrite(fd, rest, offset)
                    rest, offset = rest[done:], offset + done
            mapped = mmap.mmap(fd, size)
        except OSError:
            if fd >= 0:
                os.close(fd)
            return None
        block = self._next
        self._next += 1
        self._maps[block] = mapped
        return block, tuple(spans), size, fd

    def freed(self, blocks: Sequence[int]) -> list[int]:
        """Nobody uses these blocks now; returns those that are given up for good."""
        gone = []
        for block in blocks:
            mapped = self._maps.get(block)
            if mapped is None:
                continue
            size = len(mapped)
            if self._free_bytes + size > FREE_MAX_BYTES:
                del self._maps[block]
                mapped.close()
                gone.append(block)
            else:
                self._free_bytes += size
                self._free.setdefault(size, []).append(block)
        return gone


class BlockReader:
    """Blocks of other processes.

    Args:
        lending: views are lent: the blocks are mapped so that what is written to a view
            stays here.  Otherwise they are only copied from.
    """

    def __init__(self, lending: bool) -> None:
        self._map = linux.map_private if lending else linux.map_for_reading
        self._maps: dict[int, tuple[int, int]] = {}

    def add(self, block: int, size: int, fd: int) -> None:
        """Map a block; takes the descriptor."""
        try:
            self._maps[block] = (self._map(fd, size), size)
        finally:
            os.close(fd)

    def size(self, block: int) -> int:
        """Bytes of the block."""
        return self._maps[block][1]

    def copy(self, block: int, spans: Sequence[int]) -> list[bytearray]:
        """Fresh, writable copies of the buffers at ``spans``."""
        source = linux.view_of(*self._maps[block])
        return [bytearray(source[a : a + n]) for a, n in _pairs(spans)]

    def lend(
        self, block: int, spans: Sequence[int], returned: Callable[[int], None]
    ) -> list[memoryview]:
        """Writable views of the buffers without a copy.

        The content must stay until ``returned(block)`` is called, from any thread and in
        the middle of anything, when nothing refers to the views any more.
        """
        address, size = self._maps[block]

        def give_back() -> None:
            linux.forget_private_pages(address, size)
            returned(block)

        view = linux.view_of(address, size, give_back)
        return [view[a : a + n] for a, n in _pairs(spans)]

    def gone(self, blocks: Sequence[int]) -> None:
        """Unmap blocks that will not be used again."""
        for block in blocks:
            mapped = self._maps.pop(block, None)
            if mapped is not None:
                linux.unmap(*mapped)


def _pairs(spans: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(spans[::2], spans[1::2], strict=True)


def raw_views(buffers: Sequence[PickleBuffer]) -> list[memoryview]:
    """Pickle buffers as flat byte views."""
    return [b.raw() for b in buffers]
