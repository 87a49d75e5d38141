"""Whether a Batch can ever give what a policy asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alamo.core.terms import GPU_PARTS, Need
from alamo.errors import PolicyError, UsageError
from alamo.sizes import format_size

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.policy import Policy
    from alamo.protocol import messages as msg


def check_fits(client: Client, policy: Policy) -> None:
    """Refuse what can never be given.

    Raises:
        PolicyError: says what is asked for, what there is, and what would fit.

    Cost: nothing for a slot; the first time that more is asked for a round trip.
    """
    try:
        policy.check_host("the task")
    except UsageError as error:
        raise PolicyError(str(error)) from None
    need = policy.need()
    _check_cores(need, client.slots)
    if not (need.gpu_parts or need.memory_bytes or need.pinned):
        return
    machine = client.inquiries.machine()
    _check_cpus(need, machine.cpus, client.host)
    if need.memory_bytes > machine.memory_bytes:
        raise PolicyError(
            f"a task with {_shown(policy)} needs {format_size(need.memory_bytes)} of memory; "
            f"tasks of this Batch may reserve {format_size(machine.memory_bytes)} on "
            f"{client.host}: ask for at most that, or leave memory= out"
        )
    _check_gpus(need, machine, client.host)


def _check_cores(need: Need, slots: int) -> None:
    if need.cores <= slots:
        return
    raise PolicyError(
        f"a task with Policy(cores={need.cores}) needs {need.cores} cores; this Batch has {slots} "
        f"slots (num_workers={slots}): ask for at most {slots} cores, make the Batch with "
        f"num_workers={need.cores} or call batch.scale({need.cores}), or let tasks share slots "
        "with Policy(oversubscribe=True)"
    )


def _check_cpus(need: Need, cpus: tuple[int, ...], host: str) -> None:
    if not need.pinned:
        return
    missing = sorted({*need.cpus}.difference(cpus))
    if missing:
        raise PolicyError(
            f"a task with Policy(cpu_affinity={list(need.cpus)}) needs CPU "
            f"{', '.join(map(str, missing))}; this Batch may use {_listed(cpus)} on {host}: "
            "name some of these, or give pin=True for any"
        )
    if need.cores > len(cpus):
        raise PolicyError(
            f"a task with Policy(cores={need.cores}, pin=True) needs {need.cores} CPUs for itself; "
            f"this Batch may use {len(cpus)} on {host}: ask for at most {len(cpus)} cores, or "
            "leave pin=True out"
        )


def _check_gpus(need: Need, machine: msg.Machine, host: str) -> None:
    if not need.gpu_parts:
        return
    count = len(machine.gpus)
    wanted = -(-need.gpu_parts // GPU_PARTS)
    asked = f"a task with Policy(gpus={need.gpu_parts / GPU_PARTS:g}) needs {_gpus(wanted)}"
    if not count:
        why = f" ({machine.gpu_error})" if machine.gpu_error else ""
        raise PolicyError(
            f"{asked}; this Batch has found none on {host}{why}: leave gpus= out, or make the "
            "Batch on a machine with GPUs"
        )
    missing = [index for index in need.gpu_choice if index >= count]
    if missing:
        raise PolicyError(
            f"a task with Policy(gpu_affinity={list(need.gpu_choice)}) names GPU "
            f"{', '.join(map(str, missing))}; this Batch has {_listed(range(count))} on {host}: "
            "name some of these"
        )
    if wanted > count:
        raise PolicyError(
            f"{asked}; this Batch has {_gpus(count)} on {host}: ask for at most {count}"
        )


def _shown(policy: Policy) -> str:
    return f"Policy(memory={policy.memory})"


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}"


def _listed(numbers: range | tuple[int, ...]) -> str:
    """Runs of neighbours as one: 0-3, 8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs) or "none"
