"""Functions with data of their own, in a loop: nobody keeps them for ever."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import _faults as f
import pytest

from alamo import Batch

COUNT = 120
SIZE = 1_000_000


def memory_of(pid: int) -> int:
    """Bytes that are its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def holding(number: int) -> Callable[[], int]:
    data = os.urandom(SIZE // 2) * 2
    return lambda: number + len(data)


def run_singles(batch: Batch) -> None:
    for i in range(COUNT):
        assert batch.function(holding(i)).run(timeout=60) == i + SIZE


def run_programs(batch: Batch) -> None:
    for i in range(COUNT // 2):
        tasks = [batch.function(holding(i + k)) for k in range(2)]
        batch.compile(tasks).run(timeout=60)
        assert [t.result.get() for t in tasks] == [i + SIZE, i + 1 + SIZE]


@pytest.mark.parametrize("run", [run_singles, run_programs])
def test_functions_with_data_do_not_pile_up(run: Callable[[Batch], None]) -> None:
    """In the client, the manager and the worker; 120 MB went through each."""
    with f.ended(Batch(num_workers=1)) as batch:
        worker = batch.function(f.pid_of_worker).run(timeout=60)
        pids = [f.manager_of(batch), worker]
        before = [memory_of(pid) for pid in pids]
        tracemalloc.start()
        try:
            run(batch)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 30e6
        finally:
            tracemalloc.stop()
        grown = [memory_of(pid) - old for pid, old in zip(pids, before)]
        assert batch.function(f.pid_of_worker).run(timeout=60) == worker
        assert max(grown) < 80e6, grown


def test_a_function_that_was_forgotten_can_be_used_again() -> None:
    with f.ended(Batch(num_workers=2)) as batch:
        function = holding(7)
        for _ in range(3):
            assert batch.compile([batch.function(function)]).run(timeout=60) is not None
            run_once = [batch.function(holding(k)) for k in range(12)]
            batch.compile(run_once).run(timeout=60)
            again = batch.function(function)
            assert again.run(timeout=60) == 7 + SIZE


def test_equal_functions_of_several_programs_are_loaded_once() -> None:
    """The second program finds what the first has left in the worker."""
    with f.ended(Batch(num_workers=1)) as batch:
        function = _noting()
        tasks = [batch.function(function) for _ in range(3)]
        for task in tasks:
            batch.compile([task]).run(timeout=60)
        assert [t.result.get() for t in tasks] == [1, 2, 3], "its state has stayed"


def _noting() -> Callable[[], int]:
    calls: list[int] = []

    def function() -> int:
        calls.append(1)
        return len(calls)

    return function
