"""Deadlines: one place turns a timeout into waits that the system accepts."""

from __future__ import annotations

import threading
import time
from typing import Any

from alamo.errors import UsageError

#: Seconds; the documented default of every wait, in effect for ever.
default_timeout: float = 1e9


def deadline_of(timeout_s: float | None) -> float | None:
    """The monotonic time when a timeout is over; ``None`` for no timeout.

    Raises:
        UsageError: it is no number.
    """
    if timeout_s is None:
        return None
    given: object = timeout_s
    if isinstance(given, bool) or not isinstance(given, (int, float)) or given != given:
        raise UsageError(f"a timeout is a number of seconds or None, not {timeout_s!r}")
    return time.monotonic() + timeout_s


def acquire_until(lock: Any, deadline_s: float | None) -> bool:
    """Acquire a lock before the deadline; ``False`` when that is over."""
    if deadline_s is None:
        return bool(lock.acquire())
    left = deadline_s - time.monotonic()
    return bool(lock.acquire(timeout=min(max(left, 0.0), threading.TIMEOUT_MAX)))
