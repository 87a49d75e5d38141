"""Shared memory blocks for large buffers, made by one process and mapped by others.

A block holds the out-of-band buffers of one value at a time.  When nobody needs that
value any more its maker fills the block again: copying a megabyte into pages that are
mapped and warm takes 25 us, into fresh ones 300-700.  Blocks are memfds, so nothing
has a name that could be left behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from alamo import linux

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

#: Buffers from this size on travel in blocks; smaller ones are cheaper inside the pickle.
BUFFER_MIN_BYTES = 64 * 1024
#: Free blocks are kept for reuse up to this sum.
FREE_MAX_BYTES = 256 * 1024 * 1024
_ALIGN = 64
#: New blocks from this size on are worth handing to a helper thread, and so many at once.
_HELPED_MIN_BYTES = 256 * 1024
_HELPED_MAX = 2


class BlockMaker:
    """The blocks that this process makes and fills.

    Args:
        origin: a number of this process that no other has; block numbers contain it.
        blocks_max: blocks in use at once; each is an open file in the manager.
    """

    def __init__(self, origin: int, blocks_max: int) -> None:
        self._next = origin << 32
        self._max = blocks_max
        self._helper: ThreadPoolExecutor | None = None
        self._local = threading.local()  # .writes: handed to the helper by this thread
        self._lock = threading.Lock()
        self._maps: dict[int, memoryview] = {}
        self._cold: dict[int, int] = {}  # block, written by system call only -> its address
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

        Cost: a megabyte takes 400 us into a new block and into one that is filled for the
        second time, whose pages are then mapped; 25 us from the third time on.
        """
        spans, size = _laid_out(buffers)
        with self._lock:
            free = self._free.get(size)
            block = free.pop() if free else -1
            if block >= 0:
                self._free_bytes -= size
                target = self._maps[block]
                cold = self._cold.pop(block, 0)
        if block >= 0:
            if cold:
                linux.populate(cold, size)
            _copy_in(target, buffers, spans)
            return block, spans, size, -1
        if len(self._maps) >= self._max:
            return None
        return self._make(buffers, spans, size)

    def copy(self, block: int, spans: Sequence[int]) -> list[bytearray] | None:
        """Copies out of a block that this process made; ``None`` if it did not."""
        mapped = self._maps.get(block)
        if mapped is None:
            return None
        return [bytearray(mapped[a : a + n]) for a, n in _pairs(spans)]

    def _make(
        self, buffers: Sequence[bytes | memoryview], spans: tuple[int, ...], size: int
    ) -> tuple[int, tuple[int, ...], int, int] | None:
        """A new block.  Writing it by system call saves the page faults, half of the cost.

        It is mapped without ``mmap.mmap``, which would keep a descriptor a block.
        """
        fd = -1
        try:
            fd = os.memfd_create("alamo-block", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
            address = linux.map_shared(fd, size, populate=False)
            mapped = linux.view_of(address, size, partial(linux.unmap, address, size))
            self._write(fd, buffers, spans)
        except OSError:
            if fd >= 0:
                os.close(fd)
            return None
        with self._lock:
            block = self._next
            self._next += 1
            self._maps[block] = mapped
            self._cold[block] = address
        return block, spans, size, fd

    def _write(self, fd: int, buffers: Sequence[bytes | memoryview], spans: Sequence[int]) -> None:
        """Write now, or have the helper do it while this thread goes on with the next."""
        writes: list[Future[None]] | None = getattr(self._local, "writes", None)
        if self._helper is None or writes is None or sum(map(len, buffers)) < _HELPED_MIN_BYTES:
            _write_all(fd, buffers, spans)
            return
        writes[:] = [write for write in writes if not write.done() or write.exception()]
        if len(writes) >= _HELPED_MAX:
            _write_all(fd, buffers, spans)
            return
        copy_of_fd = os.dup(fd)
        writes.append(self._helper.submit(_write_and_close, copy_of_fd, buffers, spans))

    @contextmanager
    def helped(self) -> Iterator[None]:
        """Have this thread's blocks filled with a helper's help; at the end all are filled.

        Raises:
            MemoryError: no shared memory was left.
        """
        from concurrent.futures import ThreadPoolExecutor, wait  # 15 ms, which workers do without

        if self._helper is None:
            self._helper = ThreadPoolExecutor(1, thread_name_prefix="alamo-copy")
        writes = self._local.writes = []
        try:
            yield
        finally:
            self._local.writes = None
            wait(writes)
        for write in writes:
            if write.exception() is not None:
                raise MemoryError(f"no shared memory for the arguments: {write.exception()}")

    def freed(self, blocks: Sequence[int]) -> list[int]:
        """Nobody uses these blocks now; returns those that are given up for good."""
        gone = []
        for block in blocks:
            mapped = self._maps.get(block)
            if mapped is None:
                continue
            size = len(mapped)
            with self._lock:
                if self._free_bytes + size <= FREE_MAX_BYTES:
                    self._free_bytes += size
                    self._free.setdefault(size, []).append(block)
                    continue
                del self._maps[block]
                self._cold.pop(block, None)
            gone.append(block)
        return gone

    def forget(self, blocks: Sequence[int]) -> None:
        """These blocks, in use until now, are not to be filled again: somebody keeps them."""
        for block in blocks:
            with self._lock:
                self._maps.pop(block, None)
                self._cold.pop(block, None)

    def stop_helper(self) -> None:
        """End the helper thread."""
        if self._helper is not None:
            self._helper.shutdown(wait=False)


def _laid_out(buffers: Sequence[bytes | memoryview]) -> tuple[tuple[int, ...], int]:
    """Where buffers lie in a block, and the size of the block that takes them."""
    spans: list[int] = []
    at = 0
    for buffer in buffers:
        spans += (at, len(buffer))
        at += -(-len(buffer) // _ALIGN) * _ALIGN
    return tuple(spans), max(BUFFER_MIN_BYTES, 1 << (max(at, 1) - 1).bit_length())


def _copy_in(
    target: memoryview, buffers: Sequence[bytes | memoryview], spans: Sequence[int]
) -> None:
    for buffer, (offset, length) in zip(buffers, _pairs(spans), strict=True):
        target[offset : offset + length] = buffer


def _write_all(fd: int, buffers: Sequence[bytes | memoryview], spans: Sequence[int]) -> None:
    for buffer, offset in zip(buffers, spans[::2], strict=True):
        rest = memoryview(buffer)
        while rest:
            done = os.pwrite(fd, rest, offset)
            rest, offset = rest[done:], offset + done


def _write_and_close(fd: int, buffers: Sequence[bytes | memoryview], spans: Sequence[int]) -> None:
    try:
        _write_all(fd, buffers, spans)
    finally:
        os.close(fd)


class BlockReader:
    """Blocks of other processes.

    Args:
        lending: views are lent: the blocks are mapped so that what is written to a view
            stays here.  Otherwise they are copied from, and written when they are given away.
    """

    def __init__(self, lending: bool) -> None:
        self._map = linux.map_private if lending else _map_whole
        self._maps: dict[int, tuple[int, int]] = {}

    def __del__(self) -> None:
        self.gone(list(self._maps))

    @property
    def is_empty(self) -> bool:
        """Whether it has mapped none."""
        return not self._maps

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

    def fill(self, block: int, buffers: Sequence[bytes | memoryview]) -> tuple[int, ...] | None:
        """Copy buffers into a block that its maker has given to this process.

        Returns:
            Their spans; ``None`` when they would lie in a block of another size: a larger
            one would hold memory up for as long as they are needed.

        Cost: a megabyte takes 25 us, for its pages are there and were read just now.
        """
        spans, size = _laid_out(buffers)
        if self.size(block) != size:
            return None
        _copy_in(linux.view_of(*self._maps[block]), buffers, spans)
        return spans

    def lend(
        self, block: int, spans: Sequence[int], returned: Callable[[int], None]
    ) -> list[memoryview]:
        """Writable views of the buffers without a copy.

        The content must stay until ``returned(block)`` is called, from any thread and in
        the middle of anything, when nothing refers to the views any more.
        """
        address, size = self._maps[block]

        def give_back() -> None:  # holds on to this reader, which unmaps when it goes
            linux.forget_private_pages(*self._maps[block])
            returned(block)

        view = linux.view_of(address, size, give_back)
        return [view[a : a + n] for a, n in _pairs(spans)]

    def gone(self, blocks: Sequence[int]) -> None:
        """Unmap blocks that will not be used again."""
        for block in blocks:
            mapped = self._maps.pop(block, None)
            if mapped is not None:
                linux.unmap(*mapped)


def _map_whole(fd: int, size: int) -> int:
    return linux.map_shared(fd, size, populate=True)


def _pairs(spans: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(spans[::2], spans[1::2], strict=True)


def raw_views(buffers: Sequence[PickleBuffer]) -> list[memoryview]:
    """Pickle buffers as flat byte views."""
    return [b.raw() for b in buffers]
