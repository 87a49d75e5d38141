"""Who waits for the outcomes of a program, and is woken by them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from alamo.batch.spill import ResultMemory
from alamo.batch.values import Values


class Callback(NamedTuple):
    """A function to call with a task's result and these arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


class Watched(Values):
    """Outcomes that can be waited for.

    Attributes:
        remaining: tasks without an outcome yet (joins are not counted).
        broken: why no further outcome will come.
        callbacks: of elements, not called yet.
        callbacks_pending: callbacks queued or running.
    """

    def __init__(self, memory: ResultMemory) -> None:
        super().__init__(memory)
        self._lock = threading.Lock()
        self._waiters: dict[int, list[Any]] = {}
        self._end_waiters: list[Any] = []
        self.remaining = 0
        self.broken: BaseException | None = None
        self.callbacks: dict[int, Callback] = {}
        self.callbacks_pending = 0

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads that are not here."""
        super().after_fork()
        self._lock = threading.Lock()
        self._waiters, self._end_waiters = {}, []
        self.callbacks, self.callbacks_pending = {}, 0  # the parent's

    def _wake(self, elements: Any) -> None:
        if self._waiters:
            if len(self._waiters) < len(elements):
                ready = [e for e in self._waiters if self._where[e]]
            else:
                ready = [e for e in elements if e in self._waiters]
            for element in ready:
                for lock in self._waiters.pop(element):
                    lock.release()
        self._wake_if_ended()

    def _wake_if_ended(self) -> None:
        if self._end_waiters and not self.remaining:
            waiters, self._end_waiters = self._end_waiters, []
            for lock in waiters:
                lock.release()

    def has(self, element: int) -> bool:
        """Whether the element's outcome is known."""
        return self._where[element] != 0

    def waiter(self, element: int) -> Any:
        """A held lock that is released when the element has an outcome; ``None`` if it has."""
        lock = threading.Lock()
        lock.acquire()
        return lock if self.watch(element, lock) else None

    def watch(self, element: int, waiter: Any) -> bool:
        """Have ``waiter.release()`` called when the element has an outcome, or never will.

        It is called in another thread and must not block; ``False``: there is nothing to wait for.
        """
        with self._lock:
            if self._where[element] or self.broken is not None:
                return False
            self._waiters.setdefault(element, []).append(waiter)
            return True

    def end_waiter(self, with_callbacks: bool) -> Any:
        """A held lock that is released when something about the end of the program changes."""
        lock = threading.Lock()
        lock.acquire()
        return lock if self.watch_end(lock, with_callbacks) else None

    def watch_end(self, waiter: Any, with_callbacks: bool) -> bool:
        """Have ``waiter.release()`` called when something about the end changes; as ``watch``."""
        with self._lock:
            if self.has_ended(with_callbacks) or self.broken is not None:
                return False
            self._end_waiters.append(waiter)
            return True

    def callback_waiter(self, element: int) -> Any:
        """A held lock that is released when a callback has run; ``None`` if this one has."""
        with self._lock:
            if element not in self.callbacks:
                return None
            lock = threading.Lock()
            lock.acquire()
            self._end_waiters.append(lock)
            return lock

    def has_ended(self, with_callbacks: bool) -> bool:
        """Whether all outcomes are known and, if asked for, all callbacks have run."""
        return not self.remaining and not (with_callbacks and self.callbacks_pending)

    def forget_waiter(self, element: int, lock: Any) -> None:
        """A wait was given up."""
        with self._lock:
            locks = self._waiters.get(element, [])
            if lock in locks:
                locks.remove(lock)
                if not locks:
                    del self._waiters[element]
            if lock in self._end_waiters:
                self._end_waiters.remove(lock)
