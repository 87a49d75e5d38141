"""What tests of MPI jobs share: functions that run as ranks, and whether there is a launcher."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from alamo.batch import launchers
from alamo.errors import UsageError

try:
    LAUNCHER = launchers.find(python=True)
    WHY_NOT = ""
except UsageError as error:
    WHY_NOT = str(error)

needs_launcher = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is a launcher")
needs_mpi4py = pytest.mark.skipif(
    bool(WHY_NOT) or importlib.util.find_spec("mpi4py") is None,
    reason=WHY_NOT or "mpi4py is not installed",
)

WAIT_S = 60.0


def rank_of_environment() -> int:
    """This rank's number without MPI."""
    names = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
    return int(next(os.environ[name] for name in names if name in os.environ))


def together(value: Any) -> tuple[int, int, Any]:
    """Sum of all ranks' numbers, how many there are, and the argument."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    print(f"rank {world.rank} speaks")
    return world.allreduce(world.rank), world.size, value


def own(base: int) -> int:
    """A value that differs by rank, without MPI."""
    return base + rank_of_environment()


def fail_in_rank(bad: int, how: str) -> None:
    """One rank fails after all have met; the others wait for it for ever."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    print(f"rank {world.rank} was here")
    world.Barrier()
    if world.rank != bad:
        world.recv(source=bad)
    if how == "raise":
        raise LookupError("nothing there", bad)
    if how == "exit":
        os._exit(3)
    if how == "leave":
        os._exit(0)
    os.kill(os.getpid(), getattr(signal, how))


def fail_before_mpi(bad: int) -> None:
    """One rank raises without MPI; the others sleep."""
    if rank_of_environment() == bad:
        raise KeyError("early", bad)
    time.sleep(WAIT_S)


def all_fail() -> None:
    """Every rank raises an error of its own."""
    raise ValueError(rank_of_environment())


def note_and_sleep(directory: Path) -> None:
    """Leaves this rank's pid and sleeps under MPI."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()
    (directory / f"pid.{MPI.COMM_WORLD.rank}").write_text(str(os.getpid()))
    time.sleep(WAIT_S)


def environment() -> dict[str, str]:
    """What a rank or a task sees."""
    return dict(os.environ)
