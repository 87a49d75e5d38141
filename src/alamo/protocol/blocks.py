"""Shared memory blocks for large buffers, made by one process and mapped by others.

A block holds the out-of-band buffers of one value at a time.  When nobody needs that
value any more its maker fills the block again: copying a megabyte into pages that are
mapped and warm takes 25 us, into fresh ones 300-700.  Blocks are memfds, so nothing
has a name that could be left behind.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pickle import PickleBuffer

#: Buffers from this size on travel in blocks; smaller ones are cheaper inside the pickle.
BUFFER_MIN_BYTES = 64 * 1024
#: Free blocks are kept for reuse up to this sum.
FREE_MAX_BYTES = 256 * 1024 * 1024
_ALIGN = 64


class BlockMaker:
    """The blocks that this process makes and fills.

    Args:
        origin: a number of this process that no other has; block numbers contain it.
    """

    def __init__(self, origin: int) -> None:
        self._next = origin << 32
        self._maps: dict[int, mmap.mmap] = {}
        self._free: dict[int, list[int]] = {}
        self._free_bytes = 0

    def fill(self, buffers: Sequence[bytes | memoryview]) -> tuple[int, tuple[int, ...], int, int]:
        """Copy buffers into a block.

        Returns:
            Block number, spans (offset, size, offset, size, ...), the block's size, and the
            descriptor to pass on when the block is new (the caller closes it), else -1.

        Raises:
            MemoryError: no shared memory left.
        """
        spans: list[int] = []
        at = 0
        for buffer in buffers:
            spans += (at, len(buffer))
            at += -(-len(buffer) // _ALIGN) * _ALIGN
        size = max(BUFFER_MIN_BYTES, 1 << (max(at, 1) - 1).bit_length())
        block, fd = self._take(size)
        target = self._maps[block]
        for buffer, offset, length in zip(buffers, spans[::2], spans[1::2], strict=True):
            target[offset : offset + length] = buffer
        return block, tuple(spans), size, fd

    def _take(self, size: int) -> tuple[int, int]:
        free = self._free.get(size)
        if free:
            self._free_bytes -= size
            return free.pop(), -1
        fd = os.memfd_create("alamo-block", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            os.posix_fallocate(fd, 0, size)  # an error here, not a SIGBUS later
            mapped = mmap.mmap(fd, size)
        except OSError as error:
            os.close(fd)
            raise MemoryError(f"no shared memory for a block of {size} bytes: {error}") from error
        block = self._next
        self._next += 1
        self._maps[block] = mapped
        return block, fd

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

    def close(self) -> None:
        """Unmap all."""
        for mapped in self._maps.values():
            mapped.close()
        self._maps.clear()
        self._free.clear()


class BlockReader:
    """Blocks of other processes, mapped here."""

    def __init__(self) -> None:
        self._maps: dict[int, mmap.mmap] = {}

    def add(self, block: int, size: int, fd: int) -> None:
        """Map a block; takes the descriptor."""
        try:
            self._maps[block] = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        finally:
            os.close(fd)

    def copy(self, block: int, spans: Sequence[int]) -> list[bytearray]:
        """Fresh, writable copies of the buffers at ``spans``."""
        source = memoryview(self._maps[block])
        return [
            bytearray(source[at : at + n]) for at, n in zip(spans[::2], spans[1::2], strict=True)
        ]

    def gone(self, blocks: Sequence[int]) -> None:
        """Unmap blocks that will not be used again."""
        for block in blocks:
            mapped = self._maps.pop(block, None)
            if mapped is not None:
                mapped.close()

    def close(self) -> None:
        """Unmap all."""
        self.gone(list(self._maps))


def raw_views(buffers: Sequence[PickleBuffer]) -> list[memoryview]:
    """Pickle buffers as flat byte views."""
    return [b.raw() for b in buffers]
