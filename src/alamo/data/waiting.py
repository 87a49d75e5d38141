"""How a DDict and a Queue wait: one way for both, on every store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from alamo.blocking import while_blocked
from alamo.data.store import Watch
from alamo.deadlines import deadline_of, left_until

__all__ = ["deadline_of", "wait_until"]

#: How long a wait goes on before others are told: the short waits of a busy pipeline tell nobody.
GRACE_S = 0.003

_T = TypeVar("_T")


def wait_until(watch: Watch, look: Callable[[], _T | None], deadline_s: float | None) -> _T | None:
    """Look until there is something, or the deadline is over.

    Args:
        look: gives what was waited for, or ``None`` to wait on; called at least once, also when
            the deadline is over before it begins.
        deadline_s: as :func:`deadline_of` gives it; ``None``: wait for ever.

    Returns:
        What ``look`` gave, ``None`` when the time is over.

    A task that waits lends its slot.  Ctrl-C and a task's time limit end the wait.
    """
    grace_s = time.monotonic() + GRACE_S
    brief_s = grace_s if deadline_s is None else min(grace_s, deadline_s)
    found, is_over = _wait(watch, look, brief_s, deadline_s)
    if found is not None or is_over:
        return found
    with while_blocked(left_until(deadline_s)):
        return _wait(watch, look, deadline_s, deadline_s)[0]


def _wait(
    watch: Watch, look: Callable[[], _T | None], until_s: float | None, deadline_s: float | None
) -> tuple[_T | None, bool]:
    """Wait until then: what was found, and whether the deadline is over."""
    while True:
        found = look()
        if found is not None:
            return found, False
        now_s = time.monotonic()
        if deadline_s is not None and now_s >= deadline_s:
            return None, True
        if until_s is not None and now_s >= until_s:
            return None, False
        watch.wait(until_s)
