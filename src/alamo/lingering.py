"""What a worker keeps open from task to task.

The arguments of a task are unpickled for it and let go when it ends, so a DDict among them would
be opened anew for each task: 400 us, and its pages have to be mapped again as they are read.  In a
worker a second handle keeps it open for a moment, as the next task probably has the same one.

Nothing lingers in other processes: there ``close`` closes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

__all__ = ["LINGER_S", "begin", "drop", "has_some", "keep", "leave", "tidy"]

#: How long something stays that no task opens again.  What others destroy meanwhile takes its
#: memory for so long, or until the end of the one task that runs then.
LINGER_S: Final = 1.0
#: So many stay at a time; the one that was opened longest ago goes first.
_KEPT_MAX: Final = 8


#: What stays, and when a task has opened it last, in that order; ``None`` outside of workers.
_kept: dict[Hashable, tuple[Any, float]] | None = None
_inherited: object = None
_lock = threading.RLock()


def begin() -> None:
    """Let things linger in this process, which calls ``tidy`` and ``drop``."""
    global _kept
    _kept = {}


def leave() -> None:
    """In a forked child of a task: it is no worker."""
    global _kept, _inherited, _lock
    # Not let go of here, where what they belong to may not know yet that this is a child.
    _inherited = _kept
    _kept = None
    _lock = threading.RLock()  # another thread may have held it


def has_some() -> bool:
    """Whether anything lingers."""
    return bool(_kept)


def keep(key: Hashable, open_again: Callable[[], Any]) -> None:
    """Something has been opened: keep it open if this is a worker.

    Args:
        open_again: gives a second handle, which holds it open for as long as it is referred to.
    """
    if _kept is None:
        return
    with _lock:
        found = _kept.pop(key, None)
        handle = open_again() if found is None else found[0]
        _kept[key] = (handle, time.monotonic())
        if len(_kept) > _KEPT_MAX:
            del _kept[next(iter(_kept))]


def tidy() -> None:
    """Let go of what no task has opened for long."""
    if _kept:
        oldest_s = time.monotonic() - LINGER_S
        with _lock:
            for key in [key for key, (_, used_s) in _kept.items() if used_s < oldest_s]:
                del _kept[key]


def drop() -> None:
    """Let go of all."""
    if _kept:
        with _lock:
            _kept.clear()
