"""Binding a process to what it has been given: threads, GPUs, CPUs.

What libraries read while they load has to be in the environment before they do, so a worker is
bound before it unpickles anything, and an executable before it starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from alamo.protocol.bindings import Binding

__all__ = ["apply", "environment_of", "own"]

#: What this process has been bound to.
own: Binding | None = None

#: How many threads a library uses.  Those that look at OMP_NUM_THREADS when theirs is not set:
_FOLLOWERS_OF_OMP = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
#: And those that do not.
_OTHERS = ("NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_OMP = "OMP_NUM_THREADS"
#: The number that we have set them to: a task may start a Batch of its own, or an executable
#: that does, and that one should not take our number for its user's.
_OURS = "ALAMO_NUM_THREADS"


def apply(binding: Binding) -> None:
    """Bind this process.  To be called in a fresh worker, before it loads what tasks use.

    Raises:
        OSError: none of the CPUs may be used.
    """
    global own
    own = binding
    os.environ.update(_changes(binding, os.environ))
    if binding.cpus:
        try:
            os.sched_setaffinity(0, binding.cpus)
        except OSError as error:
            numbers = ", ".join(map(str, binding.cpus))
            raise OSError(
                error.errno,
                f"this process cannot be pinned to CPU {numbers}, of those that it may use "
                f"({_numbers_of(os.sched_getaffinity(0))}): {error.strerror}",
            ) from None


def environment_of(binding: Binding, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of an executable.

    A user's own thread counts stay; GPUs that were given replace those that ``base`` names, as
    others are somebody else's.

    Args:
        base: the environment that it would have had.
    """
    return {**base, **_changes(binding, base)}


def _changes(binding: Binding, base: Mapping[str, str]) -> dict[str, str]:
    changes = dict.fromkeys(_thread_variables(base), str(binding.threads))
    if changes:
        changes[_OURS] = str(binding.threads)
    if binding.gpus is not None:
        changes["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which they were counted
        changes["CUDA_VISIBLE_DEVICES"] = ",".join(binding.gpus)
    return changes


def _thread_variables(base: Mapping[str, str]) -> list[str]:
    """Those that the user has not set, nor said by OMP_NUM_THREADS what they are to be."""
    ours = base.get(_OURS)
    names = [_OMP, *_FOLLOWERS_OF_OMP, *_OTHERS]
    if base.get(_OMP, ours) != ours:
        names = list(_OTHERS)
    return [name for name in names if base.get(name, ours) == ours]


def _numbers_of(cpus: set[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))
