"""Results that are put where an argument lay: they stay what they are, whatever comes after."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import _faults as f
import numpy as np
import pytest

from alamo import Batch, SerializationError, WorkerLost
from alamo.worker.process import WORKER_ORIGIN

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ITEMS = 1 << 14  # of 8 bytes: a block of 128 KiB


@pytest.fixture
def batch() -> Iterator[Batch]:
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        yield batch


def full(value: float, items: int = ITEMS) -> np.ndarray:
    return np.full(items, value)


def given(batch: Batch) -> int:
    """Results in blocks that the client made, that is, of arguments."""
    maps = batch._client.memory.blocks._maps
    return sum(block >> 32 < WORKER_ORIGIN for block in maps)


def add_one(array: np.ndarray, *_: Any) -> np.ndarray:
    return array + 1


def changed_in_place(array: np.ndarray, by: float) -> np.ndarray:
    array += by
    return array


def check(results: dict[int, np.ndarray]) -> None:
    for value, array in results.items():
        assert (array == value).all(), (value, array.min(), array.max())


def test_held_results_stay_while_new_work_uses_memory_again(batch: Batch) -> None:
    """Wrong by one use of a block, and it is filled with another argument under a result."""
    chance = random.Random(1)
    held: dict[int, np.ndarray] = {}
    for round_ in range(12):
        values = range(100 * round_, 100 * round_ + 30)
        tasks = [batch.function(add_one, full(value)) for value in values]
        batch.compile(tasks).run(timeout=60)
        for value, task in zip(values, tasks, strict=True):
            held[value + 1] = task.result.get()
        check(held)
        del tasks
        for value in chance.sample(sorted(held), len(held) // 2):
            del held[value]
        for value, array in list(held.items())[:5]:  # views are the user's to change
            array += 100_000
            held[value + 100_000] = held.pop(value)
    assert given(batch) >= 30


def test_results_dropped_unread_are_used_again(batch: Batch) -> None:
    for round_ in range(5):
        tasks = [batch.function(add_one, full(round_)) for _ in range(100)]
        batch.compile(tasks).run(timeout=60)
        check({round_ + 1: tasks[round_].result.get()})
        del tasks
    batch.function(f.double, 1).run(timeout=60)
    assert len(batch._client.blocks._maps) <= 300


def test_single_tasks(batch: Batch) -> None:
    held: dict[int, np.ndarray] = {}
    for value in range(0, 200, 2):
        held[value + 1] = batch.function(add_one, full(value)).run(timeout=60)
        if value % 6 == 0:
            del held[value + 1]
    check(held)
    assert given(batch)


def test_arguments_of_what_could_not_be_sent_come_back(batch: Batch) -> None:
    unsendable = threading.Lock()
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        tasks = [batch.function(add_one, full(1)) for _ in range(20)]
        tasks.append(batch.function(add_one, full(2), unsendable))
        with pytest.raises(SerializationError):
            batch.compile(tasks)
        with pytest.raises(SerializationError):
            tasks[-1].start()
        check({4: batch.function(add_one, full(3)).run(timeout=60)})
    assert len(batch._client.blocks._maps) < 100
    assert len(os.listdir("/proc/self/fd")) < files + 10


def test_an_argument_of_others_too_is_left_alone(batch: Batch) -> None:
    shared = full(5)
    tasks = [batch.function(changed_in_place, shared, by) for by in range(40)]
    twice = batch.function(changed_in_place, shared, shared)
    batch.compile([*tasks, twice]).run(timeout=60)
    check({5 + by: task.result.get() for by, task in enumerate(tasks)})
    check({10: twice.result.get()})
    assert (shared == 5).all()


def two_of_one(one: np.ndarray, same: np.ndarray, other: np.ndarray) -> Any:
    assert one is same
    one += 1
    return one, other, same


def test_several_arguments_and_results(batch: Batch) -> None:
    tasks = []
    for i in range(20):
        own = full(i)
        tasks.append(batch.function(two_of_one, own, own, full(-i, ITEMS * 4)))
    batch.compile(tasks).run(timeout=60)
    for i, task in enumerate(tasks):
        one, other, same = task.result.get()
        assert one is same
        check({i + 1: one, -i: other})


@pytest.mark.parametrize("items", [ITEMS // 4, ITEMS // 2 + 1, ITEMS, ITEMS + 1, ITEMS * 4])
def test_results_of_other_sizes(batch: Batch, items: int) -> None:
    tasks = [batch.function(resized, full(i), items) for i in range(20)]
    batch.compile(tasks).run(timeout=60)
    check({i: task.result.get() for i, task in enumerate(tasks)})
    assert all(len(task.result.get()) == items for task in tasks)
    assert (given(batch) > 0) == (ITEMS // 2 < items <= ITEMS)


def resized(array: np.ndarray, items: int) -> np.ndarray:
    return np.resize(array, items)


def test_results_that_are_arguments_of_others(batch: Batch) -> None:
    """Chains in one chunk and across workers, and one result with many readers."""
    chains = []
    for i in range(10):
        chain = [batch.function(add_one, full(100 * i))]
        for _ in range(5):
            chain.append(batch.function(changed_in_place, chain[-1].result, 1))
        chains.append(chain)
    readers = [batch.function(changed_in_place, c[0].result, i) for i in range(4) for c in chains]
    batch.compile([task for chain in chains for task in chain] + readers).run(timeout=60)
    for i, chain in enumerate(chains):
        check({100 * i + k + 1: task.result.get() for k, task in enumerate(chain)})
    check({100 * (k % 10) + 1 + k // 10: task.result.get() for k, task in enumerate(readers)})


def test_above_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", str(20 * ITEMS * 8))
    with f.ended(Batch(num_workers=2)) as batch:
        programs = []
        for round_ in range(4):
            tasks = [batch.function(add_one, full(100 * round_ + i)) for i in range(50)]
            batch.compile(tasks).run(timeout=60)
            programs.append(tasks)
        assert batch._client.memory.spilled_bytes
        for round_, tasks in enumerate(programs):
            check({100 * round_ + i + 1: task.result.get() for i, task in enumerate(tasks)})


# -- forks ---------------------------------------------------------------------------------------


def forked(array: np.ndarray) -> np.ndarray:
    """Returns twice: only the parent's return counts."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return array + 1
    return array - 1_000


def test_a_fork_in_a_task(batch: Batch) -> None:
    tasks = [batch.function(forked, full(i)) for i in range(10)]
    batch.compile(tasks).run(timeout=60)
    check({i + 1: task.result.get() for i, task in enumerate(tasks)})


def test_a_forked_client_keeps_what_it_has(batch: Batch) -> None:
    tasks = [batch.function(add_one, full(i)) for i in range(20)]
    batch.compile(tasks).run(timeout=60)
    results = {i + 1: task.result.get() for i, task in enumerate(tasks)}
    go, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(go, 1)
            check(results)
            os._exit(0)
        finally:
            os._exit(1)
    del tasks
    results.clear()
    for round_ in range(4):
        more = [batch.function(add_one, full(-round_)) for _ in range(40)]
        batch.compile(more).run(timeout=60)
        check({1 - round_: more[7].result.get()})
    os.write(ready, b"x")
    os.close(go)
    os.close(ready)
    assert os.waitpid(child, 0)[1] == 0


# -- deaths --------------------------------------------------------------------------------------


def scribble_and_die(array: np.ndarray) -> None:
    array[:] = -1
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_in_the_task(batch: Batch) -> None:
    held: dict[int, np.ndarray] = {}
    for round_ in range(2):
        base = 1000 * round_
        tasks = [batch.function(add_one, full(base + i)) for i in range(20)]
        fatal = [batch.function(scribble_and_die, full(-2)) for _ in range(2)]
        more = [batch.function(add_one, full(base + i)) for i in range(20, 40)]
        batch.compile([*tasks[:7], fatal[0], *tasks[7:], fatal[1], *more]).run(timeout=60)
        held |= {base + i + 1: task.result.get() for i, task in enumerate([*tasks, *more])}
        for task in fatal:
            with pytest.raises(WorkerLost):
                task.result.get()
        check(held)


def test_killed_with_results_recorded(batch: Batch) -> None:
    """Their blocks are in the client's hand: what the dead worker wrote there is a result."""
    warm = [batch.function(add_one, full(0)) for _ in range(200)]  # chunks are long now
    for round_ in range(3):
        tasks = [batch.function(add_one, full(i)) for i in range(12)]
        fatal = batch.function(f.die, "SIGKILL")
        batch.compile([*warm, *tasks, fatal]).run(timeout=60)
        check({i + 1: task.result.get() for i, task in enumerate(tasks)})
        with pytest.raises(WorkerLost):
            fatal.result.get()
        warm = [batch.function(add_one, full(round_)) for _ in range(200)]


def killed_soon(array: np.ndarray, delay_s: float) -> np.ndarray:
    """SIGKILL comes while the result is made, written, recorded, or in a task behind."""
    if not delay_s:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return array + 1


def test_killed_at_any_moment(batch: Batch) -> None:
    chance = random.Random(3)
    held: dict[int, np.ndarray] = {}
    lost = 0
    for round_ in range(3):
        base = 1000 * round_
        tasks = []
        for i in range(40):
            value = full(base + i, ITEMS * 8)
            if i in (10, 25):
                delay_s = chance.random() * 0.002 * (i != 10)
                tasks.append(batch.function(killed_soon, value, delay_s))
            else:
                tasks.append(batch.function(add_one, value))
        batch.compile(tasks).start()
        for i, task in enumerate(tasks):
            try:
                held[base + i + 1] = task.result.get(timeout=60)
            except WorkerLost:
                lost += 1
        check(held)
        for value in chance.sample(sorted(held), len(held) // 2):
            del held[value]
    assert 3 <= lost < 30


def test_killed_from_outside(batch: Batch) -> None:
    """A task runs once or is blamed, also when its argument has been written over."""
    chance = random.Random(5)
    held: dict[int, np.ndarray] = {}
    for round_ in range(3):
        base = 1000 * round_
        tasks = [batch.function(changed_in_place, full(base + i, ITEMS * 4), 1) for i in range(150)]
        batch.compile(tasks).start()
        for i, task in enumerate(tasks):
            if i in (20, 90):
                time.sleep(chance.random() * 0.005)
                f.kill(*f.workers_of(batch)[:1])
            try:
                held[base + i + 1] = task.result.get(timeout=60)
            except WorkerLost:
                continue
        check(held)
    assert len(held) >= 3 * 140


# -- clients that go -----------------------------------------------------------------------------


def parent(batch: Batch, base: int) -> float:
    """A client in a worker, which leaves its results behind unread."""
    tasks = [batch.function(add_one, full(base + i)) for i in range(10)]
    batch.compile(tasks).start()
    return float(tasks[3].result.get(timeout=60)[0])


def test_nested_clients(batch: Batch) -> None:
    parents = [batch.function(parent, batch, 100 * i) for i in range(10)]
    batch.compile(parents).run(timeout=60)
    assert [task.result.get() for task in parents] == [100 * i + 4 for i in range(10)]
    tasks = [batch.function(add_one, full(i)) for i in range(40)]
    batch.compile(tasks).run(timeout=60)
    check({i + 1: task.result.get() for i, task in enumerate(tasks)})


def test_a_batch_that_has_ended(batch: Batch) -> None:
    """Results stay when the manager, and with it the count of their uses, is gone."""
    tasks = [batch.function(add_one, full(i)) for i in range(20)]
    batch.compile(tasks).run(timeout=60)
    read = {i + 1: task.result.get() for i, task in enumerate(tasks[:10])}
    batch.close()
    batch.join(timeout=60)
    check(read | {i + 11: task.result.get() for i, task in enumerate(tasks[10:])})
    del tasks, read
    gc.collect()
