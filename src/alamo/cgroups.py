"""What the control groups of this process leave of the machine: CPUs and memory.

Limits stand in the group of the process and in every group above it; the least counts.  Both
versions are read, also side by side.  In a container the groups above are out of sight and its own
may be mounted as the root, so a group that is not there is passed over on the way up.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

__all__ = ["cpu_quota", "memory_limit_bytes"]

_ROOT = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"


def cpu_quota() -> float | None:
    """CPUs' worth of time that this process may use; ``None``: no limit.  Cost: 50 us."""
    quotas = []
    for text in _files("cpu.max"):
        quota, _, period = text.partition(" ")
        if quota != "max":
            quotas.append(_number(quota) / max(1, _number(period)))
    periods = _files("cpu.cfs_period_us", "cpu")
    for quota, period in zip(_files("cpu.cfs_quota_us", "cpu"), periods):
        if _number(quota) > 0:  # -1: none
            quotas.append(_number(quota) / max(1, _number(period)))
    return min((quota for quota in quotas if quota > 0), default=None)


def memory_limit_bytes() -> int | None:
    """Memory beyond which the system kills; ``None``: no limit.  Cost: 50 us.

    Version 1 says with a number beyond all memory that there is none.
    """
    limits = [*_files("memory.max"), *_files("memory.limit_in_bytes", "memory")]
    return min((_number(limit) for limit in limits if _number(limit) > 0), default=None)


def _files(name: str, controller: str = "") -> Iterator[str]:
    """The contents of a file in every group of this process, from its own upwards.

    Args:
        controller: of version 1; empty: version 2.
    """
    own = _own_group(controller)
    if own is None:
        return
    mounts = (f"{_ROOT}/{controller}",) if controller else (_ROOT, f"{_ROOT}/unified")
    for mount in mounts:
        group = own
        while True:
            try:
                with open(posixpath.join(mount, group.lstrip("/"), name)) as file:
                    yield file.read().strip()
            except (OSError, ValueError):  # not there, or not to be read: others may be
                pass
            if group in ("", "/"):
                break
            group = posixpath.dirname(group)


def _own_group(controller: str) -> str | None:
    """The group of this process by one controller, or by version 2."""
    try:
        with open(_OWN, errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:  # a kernel without control groups
        return None
    for line in lines:
        _number_of_hierarchy, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            return posixpath.normpath(group)
    return None


def _number(text: str) -> int:
    """0 for what is none."""
    return int(text) if text.lstrip("-").isdigit() else 0
