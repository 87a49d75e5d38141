"""Waits for shared data where one task runs at a time: what comes has come before."""

from __future__ import annotations

import os
from collections.abc import Callable

from alamo.batch import waiting
from alamo.errors import UsageError


class DataWaits:
    """Refuses waits without end: no other task can bring the data while this one waits.

    A wait with a timeout is let be: that it gets nothing is what it may be meant for.

    Args:
        title: names the running task.
    """

    def __init__(self, title: Callable[[], str]) -> None:
        self._title = title
        self._pid = os.getpid()

    def begin(self, timeout_s: float | None) -> int:
        """A wait begins, see ``blocking.Listener``.

        Raises:
            UsageError: it has no timeout.
        """
        is_endless = timeout_s is None or timeout_s >= waiting.default_timeout
        if is_endless and os.getpid() == self._pid:
            raise UsageError(
                f"{self._title()} waits for data that are not there, and on the inline engine "
                "nothing else runs while a task waits: put what brings the data before it in the "
                "program, give the wait a timeout, or test this with a Batch of processes"
            )
        return 0

    def end(self, wait: int) -> None:
        """A wait is over."""
