"""Waits for locks until a deadline, in slices when something is shown meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from alamo.deadlines import deadline_of, left_until

__all__ = [
    "TICK_S",
    "Tick",
    "acquire_until",
    "deadline_of",
    "default_timeout",
    "in_slices",
    "left_until",
]

#: Seconds; the documented default of every wait, in effect for ever.
default_timeout: float = 1e9

#: Seconds between two looks at a wait that is shown.
TICK_S = 0.1

#: Called now and then by the thread that waits.
Tick = Callable[[], None]


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
