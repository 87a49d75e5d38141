"""Threads that wait for something in a store, and how they are woken.

A waiter binds a datagram socket in the home and puts its name into the table of waiters, under
what it waits for.  Whoever makes that happen takes the names out in the same transaction and
sends a datagram to each after the commit.  As commit and sending are not one, a writer that is
killed in between wakes nobody: so a waiter looks for itself every half second.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from alamo.data.home import Home
from alamo.data.lmdb.control import ATTENTION, WAITERS
from alamo.data.lmdb.environment import Environment, Transaction

__all__ = ["TABLE", "Waiters"]

#: The name of the table, which the environment must have.
TABLE: Final = "waiters"
RECHECK_S: Final = 0.5
_RING: Final = b"\0"
#: Waiters that a process stays connected with.
_LINES_MAX: Final = 32


class Waiters:
    """Those who wait for something in one home.

    Args:
        environment: the first of its home, with a table :data:`TABLE`.
    """

    def __init__(self, home: Home, environment: Environment) -> None:
        self.home = home
        self.environment = environment
        self._local = threading.local()  # .bell: this thread's
        self._lines: dict[bytes, socket.socket] = {}

    def watch(self, topic: bytes) -> _Watch:
        """A context manager whose :class:`alamo.data.store.Watch` is woken by ``topic``.

        Args:
            topic: at most 511 bytes.
        """
        return _Watch(self, topic)

    def take(self, txn: Transaction, topic: bytes, limit: int | None = None) -> Sequence[bytes]:
        """Take those who wait for ``topic`` out of the table; :meth:`wake` them after the commit.

        Only worth a call when ``control[ATTENTION] & WAITERS``.

        Args:
            txn: a write transaction.
            limit: so many at most; ``None``: all.
        """
        table = self.environment.tables[TABLE]
        cursor = txn.cursor(table)
        names: list[bytes] = []
        if cursor.set_key(topic):
            while limit is None or len(names) < limit:
                names.append(cursor.value())
                if not cursor.delete() or cursor.key() != topic:
                    break
        elif not txn.stat(table)["entries"]:
            self.home.control[ATTENTION] &= ~WAITERS
        cursor.close()
        return names

    def take_all(self, txn: Transaction) -> list[bytes]:
        """Take out all, whatever they wait for."""
        return list(txn.cursor(self.environment.tables[TABLE]).iternext(keys=False, values=True))

    def wake(self, names: Sequence[bytes]) -> None:
        """Ring for those that :meth:`take` gave.  One who is gone is left out."""
        for name in names:
            try:
                (self._lines.get(name) or self._line_to(name)).send(_RING)
            except ConnectionRefusedError:  # its process was killed
                self._lines.pop(name, None)
                try:
                    os.unlink(f"{self.home.path}/{name.decode()}")
                except OSError:
                    pass
            except OSError:  # it has gone, or has not yet heard ten others
                pass

    def _line_to(self, name: bytes) -> socket.socket:
        """A socket connected with a waiter's: to ring costs 10 us less than by its path."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            line.connect(self.home.socket_path(name.decode()))
        except BaseException:
            line.close()
            raise
        if len(self._lines) >= _LINES_MAX:
            self.close()
        self._lines[name] = line
        return line

    def close(self) -> None:
        """Be connected with no waiter any more."""
        while self._lines:
            self._lines.popitem()[1].close()

    def __del__(self) -> None:
        self.close()

    def bell(self) -> _Bell:
        """This thread's."""
        bell: _Bell | None = getattr(self._local, "bell", None)
        if bell is None or bell.pid != os.getpid():
            bell = self._local.bell = _Bell(self.home)
        return bell


class _Watch:
    """A waiter's place in the line."""

    def __init__(self, waiters: Waiters, topic: bytes) -> None:
        self._waiters = waiters
        self._topic = topic
        self._bell = waiters.bell()
        self._is_registered = False

    def __enter__(self) -> _Watch:
        self._register()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_registered:
            self._waiters.environment.write(self._remove, 0, is_removal=True)

    def wait(self, deadline_s: float | None) -> None:
        """As :class:`alamo.data.store.Watch` says."""
        if not self._is_registered:  # something may have come since the ring: look once more
            self._register()
            return
        wait_s = RECHECK_S
        if deadline_s is not None:
            wait_s = min(wait_s, deadline_s - time.monotonic())
            if wait_s <= 0:
                return
        if self._bell.wait(wait_s):
            self._is_registered = False
        elif wait_s == RECHECK_S:  # a writer may have taken the name and been killed
            self._register()

    def _register(self) -> None:
        self._bell.hush()
        self._waiters.environment.write(self._put, 0, is_removal=True)
        self._is_registered = True

    def _put(self, txn: Transaction) -> None:
        txn.put(self._topic, self._bell.name, db=self._waiters.environment.tables[TABLE])
        self._waiters.home.control[ATTENTION] |= WAITERS

    def _remove(self, txn: Transaction) -> None:
        txn.delete(self._topic, self._bell.name, self._waiters.environment.tables[TABLE])


class _Bell:
    """A socket that others ring."""

    def __init__(self, home: Home) -> None:
        self.pid = os.getpid()
        self.name = f"w{secrets.token_hex(6)}".encode()
        self._path = f"{home.path}/{self.name.decode()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(home.socket_path(self.name.decode()))

    def wait(self, wait_s: float) -> bool:
        """Whether it has rung within that time."""
        self._socket.settimeout(wait_s)
        try:
            self._socket.recv(1)  # one is enough: one more that has rung ends the next wait early
        except (TimeoutError, BlockingIOError):
            return False
        return True

    def hush(self) -> bool:
        """Whether it has rung since it was asked last."""
        has_rung = False
        self._socket.settimeout(0)
        while True:
            try:
                self._socket.recv(1)
                has_rung = True
            except BlockingIOError:
                return has_rung

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
            if self.pid == os.getpid():
                try:
                    os.unlink(self._path)
                except OSError:
                    pass
