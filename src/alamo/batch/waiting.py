"""Deadlines: one place turns a timeout into waits that the system accepts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from alamo.errors import UsageError

#: Seconds; the documented default of every wait, in effect for ever.
default_timeout: float = 1e9

#: Seconds between two looks at a wait that is shown.
TICK_S = 0.1

#: Called now and then by the thread that waits.
Tick = Callable[[], None]


def deadline_of(timeout_s: Any) -> float | None:
    """The monotonic time when a timeout is over; ``None`` for no timeout.

    Raises:
        UsageError: it is no number.
    """
    if timeout_s is None:
        return None
    try:
        if isinstance(timeout_s, (bool, str, bytes)):
            raise TypeError
        seconds = float(timeout_s)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds):
        raise UsageError(f"a timeout is a number of seconds or None, not {timeout_s!r}")
    return time.monotonic() + seconds


def left_until(deadline_s: float | None) -> float | None:
    """Seconds left, as many as the system accepts; ``None`` without a deadline."""
    if deadline_s is None:
        return None
    return min(max(deadline_s - time.monotonic(), 0.0), threading.TIMEOUT_MAX)


def acquire_until(lock: Any, deadline_s: float | None, tick: Tick | None = None) -> bool:
    """Acquire a lock before the deadline; ``False`` when that is over."""

    def acquire(left: float | None) -> bool:
        return bool(lock.acquire() if left is None else lock.acquire(timeout=left))

    return in_slices(acquire, deadline_s, tick)


def in_slices(
    wait: Callable[[float | None], bool], deadline_s: float | None, tick: Tick | None
) -> bool:
    """Call ``wait(seconds)`` until it gives true or the deadline is over, and ``tick`` between.

    Without a tick it is called once.
    """
    while True:
        until_s = deadline_s
        if tick is not None:
            tick()
            slice_s = time.monotonic() + TICK_S
            until_s = slice_s if deadline_s is None else min(slice_s, deadline_s)
        if wait(left_until(until_s)):
            return True
        if until_s == deadline_s:
            return False
