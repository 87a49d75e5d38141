"""How much memory a task takes: it, and all that it has started.

What is counted is anonymous memory, in RAM and swap: what programs allocate.  Files that are
mapped, shared memory and tmpfs are not: the system can take the first back, and who of those that
have the others open should answer for them is anybody's guess; the blocks in which arguments and
results lie are such memory too, and not the task's.

Control groups would count more exactly and could stop a task in the act.  But to make one for each
worker takes a right that users rarely have (a delegated subtree of version 2, or root); what a
task starts through a daemon or a container runtime lies in other groups all the same; the kernel
kills one process of the group without a word to say which task it was for; and memory stays with
the group that touched it first, so one worker's tasks would have to be told apart by looking again.
"""

from __future__ import annotations

import os
import time

from alamo import linux

__all__ = ["MemoryWatch"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Looking at a task may take this share of the time.
_SHARE = 0.02
#: The same for the exact figure, which only a task above its limit asks for.
_EXACT_SHARE = 0.05


class MemoryWatch:
    """The memory of a worker and its descendants, above what they had when a task began.

    Looking twice within fifty times what the last look took gives the same again: what a task
    with a thousand processes costs its manager is bounded too.  Cost of a look: 20 us a process
    and 10 a thread, on an idle machine.

    Attributes:
        peak_bytes: the most that was seen since ``begin``.
    """

    def __init__(self, pid: int) -> None:
        """Args: pid: the worker."""
        self._pid = pid
        self._start_bytes = 0
        self._used_bytes = 0
        self._largest_bytes = 0  # of the largest process
        self._next_s = 0.0
        self._exact_next_s = 0.0
        self.peak_bytes = 0

    def begin(self) -> None:
        """A task is about to begin.  Before it is given to the worker: what it takes until then
        does not count as its own.

        Memory that an earlier task has freed and the allocator kept, up to 64 MiB, is taken again
        unseen.
        """
        self._start_bytes = 0
        self._look()
        self._start_bytes = self._used_bytes
        self._used_bytes = self.peak_bytes = 0
        self._next_s = self._exact_next_s = 0.0

    def used_bytes(self) -> int:
        """Bytes that the task takes now, or a moment ago; 0 when its processes are gone.

        Pages that a fork shares with its parent count for both: it may be less, never more.
        """
        if time.monotonic() >= self._next_s:
            self._look()
        return self._used_bytes

    def exceeds(self, limit_bytes: int) -> int:
        """The bytes that a task takes when they are more than ``limit_bytes``, else 0.

        Before a task is blamed that has forked, what its processes share is counted once, to the
        few megabytes that every worker shares with the process it was forked from.  Cost: 20 ms a
        GiB then, at most 5 % of the time.
        """
        used_bytes = self.used_bytes()
        if used_bytes <= limit_bytes:
            return 0
        if self._largest_bytes > limit_bytes:  # one process alone: nothing is counted twice
            return used_bytes
        began_s = time.monotonic()
        if began_s < self._exact_next_s:
            return 0
        exact_bytes = sum(map(_exact_bytes, linux.tree_of(self._pid))) - self._start_bytes
        ended_s = time.monotonic()
        self._exact_next_s = ended_s + (ended_s - began_s) / _EXACT_SHARE
        return exact_bytes if exact_bytes > limit_bytes else 0

    def _look(self) -> None:
        began_s = time.monotonic()
        found = list(map(_anonymous_bytes, linux.tree_of(self._pid)))
        self._largest_bytes = max(0, max(found) - self._start_bytes)
        self._used_bytes = max(0, sum(found) - self._start_bytes)
        self.peak_bytes = max(self.peak_bytes, self._used_bytes)
        ended_s = time.monotonic()
        self._next_s = ended_s + (ended_s - began_s) / _SHARE


def _anonymous_bytes(pid: int) -> int:
    """Anonymous memory of one process; 0 when it is gone."""
    if _HAS_SWAP:
        return sum(_fields(pid, "status", (b"RssAnon:", b"VmSwap:")))
    # A third of the cost: all its pages in RAM without those of files and shared memory.
    _, resident, shared = linux.read_file(f"/proc/{pid}/statm").split()[:3] or (0, 0, 0)
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _exact_bytes(pid: int) -> int:
    """The same, but of each page its share among those that have it."""
    found = _fields(pid, "smaps_rollup", (b"Pss_Anon:", b"SwapPss:"))
    return sum(found) if found else _anonymous_bytes(pid)


def _fields(pid: int, name: str, wanted: tuple[bytes, ...]) -> list[int]:
    """Bytes in the lines that begin with these words."""
    return [
        int(line.split()[1]) * 1024
        for line in linux.read_file(f"/proc/{pid}/{name}").splitlines()
        if line.startswith(wanted)
    ]


def _has_swap() -> bool:
    """Whether memory may be swapped out, when this begins."""
    try:
        with open("/proc/swaps") as file:
            return len(file.readlines()) > 1
    except OSError:
        return False


_HAS_SWAP = _has_swap()
