"""Shared memory that MPICH's ranks leave behind in ``/dev/shm`` when they are killed.

Its names say nothing about the job.  But a segment that appeared while the job ran and that no
process has open or mapped can be of no use to anybody: who makes one has it open until it is
mapped, and who joins finds it by name only while its maker lives.
"""

from __future__ import annotations

import os
from pathlib import Path

_DIRECTORY = "/dev/shm"
_PREFIXES = ("mpich_shm_",)


def listed() -> set[str]:
    """The segments that there are.  Cost: 10 us."""
    try:
        names = os.listdir(_DIRECTORY)
    except OSError:
        return set()
    return {f"{_DIRECTORY}/{name}" for name in names if name.startswith(_PREFIXES)}


def remove(segments: set[str]) -> None:
    """Remove those that are this user's and that no process uses.

    Cost: nothing when there are none; else some 50 us a process of this user.
    """
    ours = {path for path in segments if _is_ours(path)}
    if not ours:
        return
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # In this order: what is closed between the two looks has been mapped before.
        ours -= _open_in(pid)
        ours -= _mapped_in(pid, ours)
        if not ours:
            return
    for path in ours:
        try:
            os.unlink(path)
        except FileNotFoundError:  # another job's end was faster
            continue


def _is_ours(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def _open_in(pid: str) -> set[str]:
    found = set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    found.add(os.readlink(entry.path))
                except OSError:  # closed meanwhile
                    continue
    except OSError:  # it has ended, or is another user's
        pass
    return found


def _mapped_in(pid: str, paths: set[str]) -> set[str]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return set()
    return {path for path in paths if path in maps}
