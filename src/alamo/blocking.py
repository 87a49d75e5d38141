"""A task that waits for shared data says so, for whoever brings the data may need its slot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, Protocol

__all__ = ["GRACE_S", "Listener", "listen", "listening_here", "while_blocked"]

#: How long to wait before saying so: what comes within that costs less than to tell of it.
GRACE_S: Final = 0.001


class Listener(Protocol):
    """Who is told of waits.  Several may be under way at once, in several threads."""

    def begin(self, timeout_s: float | None) -> int:
        """A wait begins.

        Args:
            timeout_s: how long it may last; ``None``: until it is over.

        Returns:
            What ``end`` is to be given.
        """

    def end(self, wait: int) -> None:
        """A wait is over."""


_process: Listener | None = None
_here: ContextVar[Listener | None] = ContextVar("alamo_blocking", default=None)
_nothing = nullcontext()


class _Wait:
    """One wait, told to its listener."""

    __slots__ = ("_listener", "_timeout_s", "_wait")

    def __init__(self, listener: Listener, timeout_s: float | None) -> None:
        self._listener = listener
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        self._wait = self._listener.begin(self._timeout_s)

    def __exit__(self, *_: object) -> None:
        self._listener.end(self._wait)


def while_blocked(timeout_s: float | None = None) -> AbstractContextManager[None]:
    """Around a wait for data that another task or client brings.

    In a worker the task's slot serves other tasks meanwhile, so that the data may come even if
    every slot is taken by a task that waits; when the wait is over the task goes on at once.  What
    else the task was given, such as GPUs or memory, stays its own.  In other processes nothing
    happens, also in those that a task starts: while only these wait, their task keeps its slot.

    Args:
        timeout_s: how long the wait may last, in seconds; ``None``: until it is over.

    Raises:
        UsageError: this task runs on an engine where nothing else runs while it waits, and the wait
            has no timeout.

    Cost: below 1 us where nobody is told; in a worker some 30 us, and 80 us of the manager, which
    takes back what the worker was to run next and perhaps starts another: so wait ``GRACE_S``
    first.  Waits in several threads, or one in another, are told as one.

    Example:
        >>> import select, socket
        >>> reader, writer = socket.socketpair()
        >>> _ = writer.send(b"data")
        >>> if not select.select([reader], [], [], GRACE_S)[0]:
        ...     with while_blocked():
        ...         _ = select.select([reader], [], [])
        >>> reader.recv(4)
        b'data'
        >>> reader.close(), writer.close()
        (None, None)
    """
    listener = _here.get() or _process
    return _nothing if listener is None else _Wait(listener, timeout_s)


def listen(listener: Listener | None) -> None:
    """Have all waits of this process told to this listener, or to nobody."""
    global _process
    _process = listener


@contextmanager
def listening_here(listener: Listener) -> Iterator[None]:
    """Have waits of this thread told to this listener instead, for as long as this lasts."""
    token = _here.set(listener)
    try:
        yield
    finally:
        _here.reset(token)
