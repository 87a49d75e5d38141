"""What this machine has for tasks: cores, CPUs, memory, GPUs."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from alamo import cgroups
from alamo.core import terms
from alamo.protocol.bindings import Binding

if TYPE_CHECKING:
    from alamo.manager.gpus import GPU

__all__ = ["Machine", "granted_cores", "granted_memory_bytes"]


def granted_cores() -> int:
    """Cores that this process may use: affinity, cgroup quota and Slurm, not ``os.cpu_count()``."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroups.cpu_quota()
    if quota is not None:
        cores = min(cores, max(1, int(quota)))
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        granted = _from_environment(variable)
        if granted:
            return min(cores, granted)
    return max(1, cores)


def granted_memory_bytes() -> int:
    """Memory that this process may use: the machine's, the cgroup's limit, and Slurm's grant.

    All of it, not what is free: what other programs use comes and goes.
    """
    found = [_machine_memory_bytes()]
    limit = cgroups.memory_limit_bytes()
    if limit is not None:
        found.append(limit)
    megabytes = _from_environment("SLURM_MEM_PER_NODE") or (
        _from_environment("SLURM_MEM_PER_CPU") * _from_environment("SLURM_CPUS_ON_NODE")
    )
    if megabytes:
        found.append(megabytes << 20)
    return min(found)


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _from_environment(variable: str) -> int:
    """A whole number; 0 where there is none."""
    value = os.environ.get(variable, "")
    return int(value) if value.isascii() and value.isdigit() else 0


class Machine:
    """What there is, as it was when this was made; GPUs are looked for when first asked for.

    Attributes:
        host: its name.
        cpus: numbers of the CPUs that tasks may be pinned to.
        memory_bytes: what may be reserved.
    """

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self.cpus = tuple(sorted(os.sched_getaffinity(0)))
        self.memory_bytes = granted_memory_bytes()
        self._gpus: tuple[GPU, ...] | None = None

    @property
    def gpus(self) -> tuple[GPU, ...]:
        """GPUs by their index; none without a driver.

        Cost: the first time 50 ms, or a second or two where the driver has to wake them up.

        Raises:
            UsageError: there are some, and what it takes to look at them is not installed.
        """
        if self._gpus is None:
            from alamo.manager.gpus import find_gpus  # a client, which counts cores, needs it not

            self._gpus = find_gpus()
        return self._gpus

    def binding(self, binding: terms.Binding) -> Binding:
        """What the scheduler says by index, as processes are told: GPUs by name."""
        names = tuple(self.gpus[index].name for index in binding.gpus)
        return Binding(binding.cores, names or None, binding.cpus)
