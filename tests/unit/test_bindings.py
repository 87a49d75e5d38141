"""What a process is bound to: threads, GPUs, CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from alamo.protocol.bindings import Binding
from alamo.worker.bindings import environment_of

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def threads_of(environment: dict[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in THREADS if name in environment}


def test_threads() -> None:
    base = {"PATH": "/bin"}
    made = environment_of(Binding(threads=3), base)
    assert threads_of(made) == dict.fromkeys(THREADS, "3")
    assert made["PATH"] == "/bin"
    assert "CUDA_VISIBLE_DEVICES" not in made
    assert base == {"PATH": "/bin"}


def test_users_own_threads_stay() -> None:
    made = environment_of(Binding(threads=3), {"MKL_NUM_THREADS": "7"})
    assert threads_of(made) == dict.fromkeys(THREADS, "3") | {"MKL_NUM_THREADS": "7"}
    # Most libraries take it from there, so theirs are not set over it.
    made = environment_of(Binding(threads=3), {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "2"})
    assert threads_of(made) == {
        "OMP_NUM_THREADS": "7",
        "MKL_NUM_THREADS": "2",
        "NUMBA_NUM_THREADS": "3",
        "VECLIB_MAXIMUM_THREADS": "3",
    }


def test_a_number_of_ours_is_not_the_users() -> None:
    """An executable of a worker, and a Batch that a task starts."""
    worker = environment_of(Binding(threads=1), {"MKL_NUM_THREADS": "7"})
    child = environment_of(Binding(threads=4), worker)
    assert threads_of(child) == dict.fromkeys(THREADS, "4") | {"MKL_NUM_THREADS": "7"}
    child = environment_of(Binding(threads=4), worker | {"OMP_NUM_THREADS": "2"})
    assert child["OMP_NUM_THREADS"] == "2"


def test_gpus() -> None:
    base = {"CUDA_VISIBLE_DEVICES": "0,1,2", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    made = environment_of(Binding(gpus=("2", "GPU-a")), base)
    assert made["CUDA_VISIBLE_DEVICES"] == "2,GPU-a"
    assert made["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment_of(Binding(gpus=()), base)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment_of(Binding(), base)["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def applied(binding: Binding) -> Any:
    """What a process that applies it finds; a child gets its environment from C code's."""
    code = (
        "import json, os, subprocess, sys\n"
        "from alamo.protocol.bindings import Binding\n"
        "from alamo.worker.bindings import apply\n"
        f"apply({binding!r})\n"
        "said = subprocess.run(['env', '-0'], stdout=subprocess.PIPE).stdout.decode()\n"
        "environment = dict(line.split('=', 1) for line in said.split('\\0') if line)\n"
        "print(json.dumps([environment, sorted(os.sched_getaffinity(0))]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in THREADS},
    )
    if done.returncode:
        raise OSError(done.stderr.splitlines()[-1])
    return json.loads(done.stdout)


def test_apply() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    environment, cpus = applied(Binding(threads=2))
    assert environment["OMP_NUM_THREADS"] == "2"
    assert cpus == allowed
    environment, cpus = applied(Binding(gpus=("1",), cpus=(allowed[-1],)))
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert cpus == [allowed[-1]]


def test_cpus_that_are_not_there() -> None:
    with pytest.raises(OSError, match="cannot be pinned to CPU 1000000, of those that it may use"):
        applied(Binding(cpus=(1_000_000,)))
