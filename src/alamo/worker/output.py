"""Capture of what a task prints, at descriptor level.

Descriptors 1 and 2 of a worker are memfds, so what C code and child processes write is
caught too.  A silent task costs one ``lseek`` a stream.  After a task that wrote, its
bytes are taken out and the file is emptied.
"""

from __future__ import annotations

import io
import os
import sys

from alamo import linux

_streams: dict[int, io.TextIOWrapper] = {}

#: Bytes of each stream that are kept: this much of the head and as much of the tail.
KEPT_BYTES = 512 * 1024
_TRIM_BYTES = 16 * KEPT_BYTES


def install(stdout_fd: int, stderr_fd: int) -> None:
    """Make the memfds descriptors 1 and 2, with nothing buffered above them."""
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    for fd in (stdout_fd, stderr_fd):
        if fd > 2:
            os.close(fd)
    put_streams_back()
    linux.unbuffer_c_stdout()


def put_streams_back() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` ours again, if a task replaced or closed them."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = _streams.get(fd)
        if stream is None or stream.closed:
            stream = _streams[fd] = _stream(fd)
        if getattr(sys, name) is not stream:
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class _Stream(io.TextIOWrapper):
    """Stays open: a task that closes it must not silence the next one."""

    def close(self) -> None:
        self.flush()


def _stream(fd: int) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    return _Stream(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def take(fd: int) -> bytes:
    """What was written to the descriptor since the last call; at most head and tail of it."""
    data = read(fd)
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    return data


def read(fd: int) -> bytes:
    """The file's content, its middle replaced by a mark when it is too long."""
    size = os.fstat(fd).st_size
    if size <= 2 * KEPT_BYTES:
        return os.pread(fd, size, 0)
    head = os.pread(fd, KEPT_BYTES, 0)
    tail = os.pread(fd, KEPT_BYTES, size - KEPT_BYTES)
    return head + f"\n[... {size - 2 * KEPT_BYTES} bytes left out ...]\n".encode() + tail


def trim(fd: int) -> None:
    """Free the memory of a middle that will not be kept, while the task goes on writing."""
    size = os.fstat(fd).st_size
    if size > _TRIM_BYTES:
        linux.punch_hole(fd, KEPT_BYTES, size - 2 * KEPT_BYTES)
