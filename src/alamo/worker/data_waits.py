"""The running task's waits for shared data, of which the manager is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from alamo.protocol.framing import encode
from alamo.protocol.layout import SINCE
from alamo.protocol.messages import Blocked
from alamo.worker.outbox import Outbox

#: A wait of which nobody is told.
_UNTOLD = -1


class DataWaits:
    """Counts waits; the manager learns when the first begins and when the last is over.

    Threads of the task may wait too, and one that outlives its task may go on waiting: the end of
    the task ends all waits that began in it, and what waits between two tasks is no task's.

    Args:
        cells: shared with the manager; they tell whether a task is running.
        look: called when the running task is to be looked after at its end.
    """

    def __init__(self, outbox: Outbox, cells: memoryview, look: Callable[[], None]) -> None:
        self._outbox = outbox
        self._cells = cells
        self._look = look
        # Re-entrant: a signal handler may wait too.
        self._lock = threading.RLock()
        self._open = 0
        self._task = 0
        self._left = False

    def leave(self) -> None:
        """In a forked child of a task: the worker alone speaks to its manager."""
        self._left = True
        self._lock = threading.RLock()  # another thread may have held it

    def begin(self, timeout_s: float | None) -> int:
        """A wait begins, see ``blocking.Listener``."""
        with self._lock:
            if self._left or not self._cells[SINCE]:
                return _UNTOLD
            self._open += 1
            if self._open == 1:
                self._look()
                self._tell(True)
            return self._task

    def end(self, wait: int) -> None:
        """A wait is over; nothing new if its task has ended."""
        with self._lock:
            if self._left or wait != self._task:
                return
            self._open -= 1
            if not self._open:
                self._tell(False)

    def task_ended(self) -> None:
        """The running task has ended.  Cost: 0.1 us."""
        with self._lock:
            if self._open and not self._left:
                self._open = 0
                self._task += 1
                self._tell(False)

    def _tell(self, blocked: bool) -> None:
        self._outbox.post(encode(Blocked(blocked)))
