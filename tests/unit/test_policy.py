"""What a Policy means in the scheduler's terms, and what it refuses."""

from __future__ import annotations

import pickle
import socket
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

import alamo
from alamo.batch import batch
from alamo.core.terms import ONE_CORE, Need
from alamo.errors import UsageError
from alamo.policy import Policy
from alamo.sizes import format_size, parse_size

PLACEMENT = Policy.Placement


def test_where_it_is_imported_from() -> None:
    assert alamo.Policy is batch.Policy is Policy


def test_nothing_asked_for() -> None:
    assert Policy().need() is ONE_CORE
    assert Policy(oversubscribe=True, launcher="mpiexec").need() is ONE_CORE
    assert Policy(memory=None, cpu_affinity=[], gpu_affinity=(), host_name="") == Policy()


@pytest.mark.parametrize(
    ("asked", "need"),
    [
        ({"cores": 4}, Need(cores=4, bound=True)),
        ({"cores": np.int64(4)}, Need(cores=4, bound=True)),
        ({"memory": "1 KiB"}, Need(memory_bytes=1024)),
        ({"memory": 5e3}, Need(memory_bytes=5000)),
        ({"pin": True}, Need(pinned=True, bound=True)),
        ({"cpu_affinity": range(2)}, Need(cores=2, cpus=(0, 1), pinned=True, bound=True)),
        ({"cpu_affinity": [7]}, Need(cpus=(7,), pinned=True, bound=True)),
        ({"gpus": 2}, Need(gpu_parts=2000, bound=True)),
        ({"gpus": 2.0}, Need(gpu_parts=2000, bound=True)),
        ({"gpus": 0.5}, Need(gpu_parts=500, bound=True)),
        ({"gpus": 1 / 3}, Need(gpu_parts=333, bound=True)),
        ({"gpus": np.float32(0.25)}, Need(gpu_parts=250, bound=True)),
        ({"gpus": 0.9999}, Need(gpu_parts=1000, bound=True)),
        ({"gpu_affinity": [3, 1]}, Need(gpu_parts=2000, gpu_choice=(1, 3), bound=True)),
        (
            {"gpus": 1, "gpu_affinity": [3, 1]},
            Need(gpu_parts=1000, gpu_choice=(1, 3), bound=True),
        ),
    ],
    ids=repr,
)
def test_need(asked: dict[str, Any], need: Need) -> None:
    policy = Policy(**asked)
    assert policy.need() == need
    assert not policy.need(own_process=True).bound
    copy = pickle.loads(pickle.dumps(policy))
    assert copy == policy
    assert hash(copy) == hash(policy)
    assert replace(policy) == policy


def test_never_changes() -> None:
    policy: Any = Policy(memory="2k")
    assert policy.memory == policy.memory_bytes == 2000
    assert Policy().memory_bytes == 0
    with pytest.raises(FrozenInstanceError):
        policy.cores = 2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"cores": 0}, "cores=0"),
        ({"cores": 1.5}, "whole number"),
        ({"cores": True}, "cores=True"),
        ({"cores": 1 << 70}, "from 1 to"),
        ({"gpus": -1}, "gpus=-1"),
        ({"gpus": 1.5}, "share of one GPU"),
        ({"gpus": float("nan")}, "gpus=nan"),
        ({"gpus": float("inf")}, "gpus=inf"),
        ({"gpus": 0.0001}, "from 0.001"),
        ({"gpus": "1"}, "gpus='1'"),
        ({"gpus": True}, "gpus=True"),
        ({"gpus": 10**400}, "whole number"),
        ({"memory": 0}, "above 0"),
        ({"memory": -5}, "above 0"),
        ({"memory": 1.5}, "memory=1.5"),
        ({"memory": "much"}, "no amount of memory"),
        ({"memory": "99999999 EiB"}, "memory="),
        ({"memory": [1]}, "memory="),
        ({"cpu_affinity": [0, 0]}, "twice"),
        ({"cpu_affinity": [-1]}, "from 0 on"),
        ({"cpu_affinity": [0.5]}, "from 0 on"),
        ({"cpu_affinity": 3}, "list of numbers"),
        ({"gpu_affinity": "01"}, "list of numbers"),
        ({"cores": 3, "cpu_affinity": [0, 1]}, "names 2 CPUs"),
        ({"gpus": 2, "gpu_affinity": [1]}, "allows only 1"),
        ({"pin": 1}, "True or False"),
        ({"oversubscribe": None}, "True or False"),
        ({"host_name": 7}, "host_name=7"),
        ({"launcher": ["mpiexec"]}, "launcher="),
        ({"placement": "anywhere"}, "Placement.ANYWHERE"),
        ({"distribution": 1}, "Distribution.BLOCK"),
        ({"placement": PLACEMENT.HOST_NAME}, "which host"),
        ({"placement": PLACEMENT.LOCAL, "host_name": "a"}, "another place"),
    ],
    ids=repr,
)
def test_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        Policy(**wrong)
    assert str(caught.value).startswith("Policy(")


def test_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    Policy().check_host("task 1")
    Policy(host_name=socket.gethostname()).check_host("task 1")
    for own in ("node7", "node7.cluster.example"):
        monkeypatch.setattr(socket, "gethostname", lambda own=own: own)
        for name in ("localhost", "NODE7", "node7.cluster.example"):
            Policy(host_name=name, placement=PLACEMENT.HOST_NAME).check_host("task 1")
        for name in ("node8", "node70", "other.cluster.example"):
            with pytest.raises(UsageError, match=f"task 1 asks for host '{name}'.*'{own}'"):
                Policy(host_name=name).check_host("task 1")
    with pytest.raises(UsageError, match=r"node7\.other"):
        Policy(host_name="node7.other.example").check_host("task 1")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("17", 17),
        ("4GiB", 4 << 30),
        ("4 gib", 4 << 30),
        (" 500 MB ", 500_000_000),
        ("500M", 500_000_000),
        ("500Mi", 500 << 20),
        ("0.5k", 500),
        ("1.0005k", 1001),
        (".5 KiB", 512),
        ("2TB", 2 * 10**12),
        ("0.1 PiB", 112_589_990_684_263),
        ("1E", 10**18),
        ("0", 0),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "GiB", "4 GiBs", "4 X", "-1k", "1e3", "1,5 GB", "4 iB", "4 Bi", "٣", "0x10"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_size(text)


def test_sizes_to_be_read() -> None:
    shown = ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1020 KiB", "2 MiB", "3 GiB", "1 TiB"]
    assert [format_size(round(parse_size(text))) for text in shown] == shown
