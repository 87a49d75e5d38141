"""Ending what a job leaves running.

Ranks have sessions or process groups of their own, so no signal to a group reaches all of them.
But a worker is a subreaper: whatever has lost its parent becomes its child.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Set

from alamo import linux

#: How long what is asked to end may take.
GRACE_S = 0.3
#: How long what was killed may take: it may hang in the kernel.
_KILLED_S = 1.0
_PAUSE_S = 0.002


def ask(pid: int) -> None:
    """SIGTERM to a process and all its descendants, parents first."""
    pending = [pid]
    while pending:
        victim = pending.pop()
        pending += linux.children_of(victim)
        try:
            os.kill(victim, signal.SIGTERM)
        except OSError:  # it has ended, or is another user's
            continue


def end(spared: Set[int]) -> None:
    """End the children of this process and what descends from them: first asked, then killed.

    Args:
        spared: children that are left alone.

    Cost: 50 us when there is none.
    """
    asked: set[int] = set()
    begun_s = time.monotonic()
    while True:
        left = [pid for pid in linux.children_of(os.getpid()) if pid not in spared]
        left = [pid for pid in left if not _reaped(pid)]
        waited_s = time.monotonic() - begun_s
        if not left or waited_s > GRACE_S + _KILLED_S:
            return
        for pid in left:
            if waited_s > GRACE_S:
                linux.kill_tree(pid)
            elif pid not in asked:
                ask(pid)
        asked.update(left)
        time.sleep(_PAUSE_S)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
