"""The lock that LMDB's writers wait for, and those that its wake-ups have missed."""

from __future__ import annotations

import os
from typing import Final

from alamo import linux

__all__ = ["WriteLock"]

#: Where in the lock file the mutex stands: the second line of the cache.
_WRITE_MUTEX_AT: Final = 64


class WriteLock:
    """The mutex in LMDB's lock file that writers wait for.

    A writer who has been woken to take it and is killed before he does takes the wake-up with
    him: if somebody else has taken the mutex meanwhile, the system wakes nobody in his place, and
    the next in the line sleeps on beside a free mutex until two others meet there.  So whoever is
    about has one of the sleepers look again now and then.
    """

    def __init__(self, path: str) -> None:
        self._name = f"{path}-lock"
        self._word = -1

    def wake_one(self) -> None:
        """Have a sleeper look whether it is free.

        Cost: 1 us; the first time 0.1 ms and more, with the number of mappings.
        """
        if self._word < 0:
            # In LMDB's own mapping: to close the file again would end the locks of this process.
            start = _mapping_of(self._name)
            self._word = start + _WRITE_MUTEX_AT if start else 0
        if self._word:
            linux.futex_wake(self._word)


def _mapping_of(path: str) -> int:
    """Where this process has a file mapped; 0: nowhere."""
    name = os.fsencode(path)
    with open("/proc/self/maps", "rb") as lines:
        for line in lines:
            if line.rstrip().endswith(name):
                return int(line.partition(b"-")[0], 16)
    return 0
