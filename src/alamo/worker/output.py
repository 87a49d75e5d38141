"""Capture of what a task prints, at descriptor level.

Descriptors 1 and 2 of a worker are memfds, so what C code and child processes write is
caught too.  A silent task costs one ``lseek`` a stream.  After a task that wrote, its
bytes are taken out and the file is emptied.

A task may put something of its own in their place, with ``os.dup2`` or past Python, and not
undo it.  What it writes there is its own affair: nothing but our own files is read or emptied.
"""

from __future__ import annotations

import copyreg
import fcntl
import importlib
import io
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from alamo import linux
from alamo.protocol.shortening import KEPT_BYTES, read
from alamo.worker.alert import alert

_NAMES = frozenset(("stdout", "stderr"))
_streams: dict[int, io.TextIOWrapper] = {}
#: 1 and 2 -> a descriptor of our file that no task knows, and the file's identity.
_own: dict[int, tuple[int, tuple[int, int]]] = {}
_dup2 = os.dup2  # the worker wraps the public one
#: Where the parts of a job's ranks end in what the running task has written: in stdout, in stderr.
splits: tuple[tuple[int, ...], ...] = ()

_TRIM_BYTES = 16 * KEPT_BYTES


def install(stdout_fd: int, stderr_fd: int) -> None:
    """Make the memfds descriptors 1 and 2, with nothing buffered above them."""
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    for fd, own in ((1, stdout_fd), (2, stderr_fd)):
        _own[fd] = fcntl.fcntl(own, fcntl.F_DUPFD_CLOEXEC, 3), _identity(fd)
        if own > 2:
            os.close(own)
    put_streams_back()
    linux.unbuffer_c_stdout()


def put_streams_back() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` ours again, if a task replaced or closed them."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = _streams.get(fd)
        if stream is None or stream.closed:
            stream = _streams[fd] = _stream(fd)
        if getattr(sys, name, None) is not stream:
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class _WatchedSys(ModuleType):
    """The class of ``sys`` in a worker: raises a flag when a task replaces a stream.

    So an innocent task pays nothing, where looking at both streams after each takes 30 ns.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NAMES:
            _replaced()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _NAMES:
            _replaced()
        super().__delattr__(name)


def _reduce_sys(module: ModuleType) -> tuple[Any, ...]:
    """By name; cloudpickle does the same for modules whose class it knows."""
    return importlib.import_module, (module.__name__,)


copyreg.pickle(_WatchedSys, _reduce_sys)


def watch_streams(replaced: Callable[[], None]) -> None:
    """Have this called when ``sys.stdout`` or ``sys.stderr`` is set or deleted."""
    global _replaced
    _replaced = replaced
    sys.__class__ = _WatchedSys


def _replaced() -> None:
    pass


class _Stream(io.TextIOWrapper):
    """Stays open: a task that closes it must not silence the next one."""

    def close(self) -> None:
        self.flush()


class _Raw(io.FileIO):
    def write(self, data: Any) -> int:
        alert.raised = True
        return super().write(data)


def _stream(fd: int) -> io.TextIOWrapper:
    raw = _Raw(fd, "w", closefd=False)
    return _Stream(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def put_descriptors_back() -> bool:
    """Make descriptors 1 and 2 our files again; whether anything has been written to these.

    Cost: 2 us.
    """
    written = False
    for fd, (own, identity) in _own.items():
        try:
            ours = _identity(fd) == identity
        except OSError:  # it was closed
            ours = False
        if not ours:
            _dup2(own, fd)
        written |= os.lseek(fd, 0, os.SEEK_END) > 0
    return written


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def take(fd: int) -> bytes:
    """What was written to the descriptor since the last call; at most head and tail of it."""
    data = read(fd)
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    return data


def take_splits() -> tuple[tuple[int, ...], ...]:
    """``splits``, which then are those of the next task: none."""
    global splits
    taken, splits = splits, ()
    return taken


def trim(fd: int) -> None:
    """Free the memory of a middle that will not be kept, while the task goes on writing."""
    size = os.fstat(fd).st_size
    if size > _TRIM_BYTES:
        linux.punch_hole(fd, KEPT_BYTES, size - 2 * KEPT_BYTES)
