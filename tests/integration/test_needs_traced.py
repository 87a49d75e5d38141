"""A real run, traced: at no instant is more in use than there is."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from alamo import Batch, Policy
from alamo.manager.machine import granted_memory_bytes

SLOTS = 4


def trace(directory: str, need: tuple[int, int, tuple[int, ...]], seconds: float) -> None:
    """Note when this ran, and what it had."""
    begun = time.monotonic()
    time.sleep(seconds)
    with open(Path(directory, str(os.getpid())), "a") as file:
        print(begun, time.monotonic(), *need[:2], *need[2], file=file)


def in_use_at_most(records: list[tuple[float, float, int]]) -> int:
    """The most that was in use at once, by records of begin, end and amount."""
    changes = [(begun, 1, amount) for begun, _, amount in records]
    changes += [(ended, 0, -amount) for _, ended, amount in records]
    used = most = 0
    for _, _, amount in sorted(changes):  # an end before a begin of the same time
        used += amount
        most = max(most, used)
    return most


@pytest.mark.parametrize("seed", range(2))
def test_no_more_than_there_is(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    total = granted_memory_bytes()
    cpus = sorted(os.sched_getaffinity(0))
    tasks: list[Any] = []
    with Batch(num_workers=SLOTS) as batch:
        for _ in range(60):
            seconds = rng.uniform(0.0, 0.01)
            kind = rng.choice(["none", "cores", "memory", "pinned"])
            need: tuple[int, int, tuple[int, ...]] = (1, 0, ())
            policy = None
            if kind == "cores":
                need = (rng.choice([2, 3, SLOTS]), 0, ())
                policy = Policy(cores=need[0])
            elif kind == "memory":
                need = (rng.choice([1, 2]), total // 3 + 1, ())  # two at once
                policy = Policy(cores=need[0], memory=need[1])
            elif kind == "pinned":
                need = (1, 0, (rng.choice(cpus),))
                policy = Policy(cpu_affinity=need[2])
            tasks.append(batch.function(trace, str(tmp_path), need, seconds, policy=policy))
        batch.compile(tasks).run(timeout=100)
        for task in tasks:
            task.result.get()
    rows = [line.split() for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert len(rows) == len(tasks)
    times = [(float(row[0]), float(row[1])) for row in rows]
    cores_used = [(*at, int(row[2])) for at, row in zip(times, rows)]
    assert 2 <= in_use_at_most(cores_used) <= SLOTS
    memory_used = [(*at, int(row[3])) for at, row in zip(times, rows)]
    assert in_use_at_most(memory_used) <= total
    for cpu in cpus:
        pinned_there = [(*at, 1) for at, row in zip(times, rows) if str(cpu) in row[4:]]
        assert in_use_at_most(pinned_there) <= 1
