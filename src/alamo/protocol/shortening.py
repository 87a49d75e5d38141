"""What is kept of a stream: all of it up to a mebibyte, beyond it head and tail with a mark."""

from __future__ import annotations

import os

#: Bytes of each stream that are kept: this much of the head and as much of the tail.
KEPT_BYTES = 512 * 1024


def read(fd: int) -> bytes:
    """A file's content, its middle replaced by a mark when it is too long."""
    size = os.fstat(fd).st_size
    if size <= 2 * KEPT_BYTES:
        return os.pread(fd, size, 0)
    head = os.pread(fd, KEPT_BYTES, 0)
    tail = os.pread(fd, KEPT_BYTES, size - KEPT_BYTES)
    return head + _mark(size - 2 * KEPT_BYTES) + tail


def shortened(data: bytes) -> bytes:
    """The same of bytes that are at hand."""
    left_out = len(data) - 2 * KEPT_BYTES
    if left_out <= 0:
        return data
    return data[:KEPT_BYTES] + _mark(left_out) + data[-KEPT_BYTES:]


def is_shortened(data: bytes) -> bool:
    """Whether something is missing in what ``read`` gave."""
    return len(data) > 2 * KEPT_BYTES


def pieces(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Head, mark and tail of what was shortened; all of it, and nothing, of what was not."""
    if not is_shortened(data):
        return data, b"", b""
    return data[:KEPT_BYTES], data[KEPT_BYTES:-KEPT_BYTES], data[-KEPT_BYTES:]


def _mark(left_out: int) -> bytes:
    return f"\n[... {left_out} bytes left out ...]\n".encode()
