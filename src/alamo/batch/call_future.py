"""The Future of a call."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alamo.batch.client import Client

#: Held while a Future without a Condition changes, or gets one.  Reentrant: a finalizer may run
#: meanwhile in the same thread, and cancel another.
_changing = threading.RLock()


class CallFuture(Future[Any]):
    """A Future that makes its Condition when somebody has to wait, or to cancel it.

    A Condition is nearly all that a Future costs (3 of 4 us), and most are asked for their
    result when that is there.

    Attributes:
        sent_s: when the call went to the manager.
    """

    sent_s: float

    def __init__(self, client: Client) -> None:
        # What Future.__init__ does, but for the Condition.
        self._client = client
        self._state = PENDING
        self._result = None
        self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name != "_condition":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        made = threading.Condition()
        with _changing:
            return self.__dict__.setdefault(name, made)

    def begin(self) -> bool:
        """``set_running_or_notify_cancel``."""
        with _changing:
            if "_condition" not in self.__dict__:  # so nobody has cancelled it
                self._state = RUNNING
                return True
        return self.set_running_or_notify_cancel()

    def finish(self, value: Any) -> None:
        """``set_result``."""
        with _changing:
            if "_condition" not in self.__dict__:  # so nobody waits, and nobody is to be called
                self._result = value
                self._state = FINISHED
                return
        self.set_result(value)

    def done(self) -> bool:
        """Whether it was cancelled or has ended."""
        return self._state not in (PENDING, RUNNING)

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned or raises; inside a task the slot is lent meanwhile.

        Raises:
            TimeoutError: it has not ended in so many seconds.
            CancelledError: it was cancelled.
        """
        if self._state == FINISHED:
            if self._exception is None:
                return self._result
            return super().result()
        with self._client.waits.lending_slot():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised; otherwise as ``result``."""
        if self._state == FINISHED:
            return self._exception
        with self._client.waits.lending_slot():
            return super().exception(timeout)
