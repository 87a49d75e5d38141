"""Workers that a test may kill again and again.

Whoever kills just any may hit five in a row that are not up yet, and the Batch gives up.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from typing import Any

import _faults as f


def noted_by(path: str, n: int, sleep_s: float = 0.0) -> int:
    """A task: ``noted``, and where."""
    f.note(f"{path}.pids", os.getpid())
    return f.noted(path, n, sleep_s)


def where_noted(path: str) -> list[int]:
    """Workers in which ``noted_by`` has run."""
    return [int(line) for line in f.notes(f"{path}.pids")]


def victim(
    batch: Any, task: Any, ran: Callable[[], Iterable[int]], draw: random.Random
) -> list[int]:
    """One worker that has run something, as soon as there is one; none if the task has ended."""
    from alamo import wait

    def look() -> list[int] | None:
        ended = wait([task], timeout=0).done
        known = set(ran())
        found = [pid for pid in f.workers_of(batch) if pid in known]
        return [draw.choice(found)] if found else ([0] if ended else None)

    return [pid for pid in f.until(look, "a worker that has run something") if pid]
