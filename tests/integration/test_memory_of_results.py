"""``get`` keeps the object and drops the bytes, wherever they were."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import _work as work
from alamo import Batch

COUNT = 60


@pytest.fixture(params=["memory", "file"])
def batch(request: pytest.FixtureRequest) -> Iterator[Batch]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "file":
            patch.setenv("ALAMO_RESULT_MEMORY", "10000")
        one = Batch(num_workers=2)
    with one:
        yield one


def held(batch: Batch) -> int:
    """What outcomes take, in memory or in the file."""
    batch.function(work.same, 1).run()  # with what comes in the account is settled
    memory = batch._client.memory
    return memory.held_bytes + memory.spilled_bytes


def tasks_of(batch: Batch, size: int) -> list[Any]:
    tasks = [batch.function(work.same, [i, "x" * size]) for i in range(COUNT)]
    batch.compile(tasks).run()
    return tasks


@pytest.mark.parametrize("size", [5000, 30_000])
def test_bytes_go_when_the_objects_are_kept(batch: Batch, size: int) -> None:
    tasks = tasks_of(batch, size)
    assert held(batch) >= COUNT * size
    values = [task.get() for task in tasks]
    assert values == [[i, "x" * size] for i in range(COUNT)]
    assert held(batch) < 20_000
    assert all(task.get() is value for task, value in zip(tasks, values))
    assert tasks[3].stdout.get() == ""
    del tasks
    gc.collect()
    assert 0 <= held(batch) < 20_000


def test_a_frame_stays_while_one_of_it_is_wanted(batch: Batch) -> None:
    tasks = tasks_of(batch, 5000)
    for task in tasks[1:]:
        task.get()
    assert held(batch) >= 5000
    assert tasks[0].get() == [0, "x" * 5000]
    assert held(batch) < 20_000


def test_output_stays_when_the_bytes_go(batch: Batch) -> None:
    def speak(i: int) -> list[str]:
        print("out", i)
        return ["x" * 20_000]

    tasks = [batch.function(speak, i) for i in range(COUNT)]
    batch.compile(tasks).run()
    assert tasks[0].stdout.get() == "out 0\n"
    assert all(task.get() == ["x" * 20_000] for task in tasks)
    assert held(batch) < 20_000
    assert [task.stdout.get() for task in tasks] == [f"out {i}\n" for i in range(COUNT)]
    assert {task.stderr.get() for task in tasks} == {""}


def test_mixed_outcomes_stay_readable(batch: Batch) -> None:
    def mixed(i: int) -> Any:
        match i % 6:
            case 0:
                return None
            case 1:
                return i
            case 2:
                return "y" * 20_000
            case 3:
                raise ValueError(i)
            case 4:
                return np.full(20_000, i)
        return [i] * 5000

    tasks = [batch.function(mixed, i) for i in range(COUNT)]
    batch.compile(tasks).start()
    for _ in range(2):
        for i, task in enumerate(tasks):
            if i % 6 == 3:
                with pytest.raises(ValueError, match=str(i)):
                    task.get()
                continue
            value = task.get()
            expected = [None, i, "y" * 20_000, None, i, [i] * 5000][i % 6]
            assert (value == expected) if i % 6 != 4 else (value == i).all()
    gc.collect()


def test_many_threads_ask_for_the_same(batch: Batch) -> None:
    tasks = tasks_of(batch, 10_000)
    seen: list[list[Any]] = []

    def read() -> None:
        seen.append([task.get() for task in tasks])
        assert all(task.stdout.get() == "" for task in tasks)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert all(a is b for values in seen for a, b in zip(values, seen[0]))
    assert 0 <= held(batch) < 20_000


def test_the_bytes_are_freed() -> None:
    """Counted by what was allocated and not freed: the size of the process depends on gaps too."""
    count, size = 1000, 50_000
    with Batch(num_workers=1) as one:
        one.function(work.nothing).run()
        tracemalloc.start()
        try:
            tasks = [one.function(work.same, [bytes(size)]) for _ in range(count)]
            one.compile(tasks).run()
            one.function(work.nothing).run()
            assert count * size < traced() < 1.15 * count * size  # bytes, and no arguments
            values = [task.get() for task in tasks]
            one.function(work.nothing).run()
            assert count * size < traced() < 1.15 * count * size  # objects, and no bytes
            del tasks, values
            assert traced() < 0.15 * count * size
        finally:
            tracemalloc.stop()


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
