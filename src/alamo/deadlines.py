"""Deadlines: one place turns a timeout into waits that the system accepts."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from alamo.errors import UsageError

__all__ = ["deadline_of", "left_until"]


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
