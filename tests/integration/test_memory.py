"""Results beyond a memory budget, and memory that is free again when nobody refers to it."""

from __future__ import annotations

import contextlib
import gc
import os
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import _work as work
import alamo
from alamo import Batch

MIB = 1 << 20


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALAMO_RESULT_MEMORY", str(MIB))
        one = Batch(num_workers=2)
    with one:
        yield one


@contextlib.contextmanager
def growing_less_than(limit: int) -> Iterator[None]:
    """What is allocated here and not freed: the size of the process depends on gaps too.

    Mapped blocks are not in it; ``shared_memory_mapped`` counts those.
    """
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        assert grown < limit, f"{grown} bytes more, of {limit}"
    finally:
        tracemalloc.stop()


def memory_of_the_rest(batch: Batch) -> int:
    """Of manager, nursery and workers; shared pages counted once, as a share of each."""
    manager = psutil.Process(batch._client.manager_pid)
    family = [manager, *manager.children(recursive=True)]
    return int(sum(p.memory_full_info().pss for p in family))


def spill_file_bytes(batch: Batch) -> int:
    file = batch._client.memory._file
    return os.fstat(file.fileno()).st_size if file is not None else 0


def test_results_above_the_budget_go_to_a_file(batch: Batch) -> None:
    memory = batch._client.memory
    tasks = [batch.function(work.everything, i, "x" * 100) for i in range(50_000)]
    whole = batch.compile(tasks)
    whole.run()
    assert memory.held_bytes <= MIB
    assert spill_file_bytes(batch) > 4 * MIB
    for i in (0, 1, 777, 25_000, 49_999):
        assert tasks[i].result.get() == (i, "x" * 100)
        assert tasks[i].stdout.get() == ""
    assert sum(t.result.get()[0] for t in tasks) == sum(range(50_000))
    del tasks, whole
    gc.collect()
    batch.function(work.nothing).run()
    assert spill_file_bytes(batch) < MIB  # nobody asks for them any more


def test_results_in_blocks_count_against_the_budget(batch: Batch) -> None:
    tasks = [batch.function(np.full, 50_000, i) for i in range(40)]
    batch.compile(tasks).run()
    arrays = [task.result.get() for task in tasks]
    assert all((array == i).all() for i, array in enumerate(arrays))
    assert batch._client.memory.held_bytes <= 2 * MIB


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_million_results(batch: Batch, tmp_path: Path, count: int) -> None:
    go = tmp_path / "go"
    for _ in range(batch.num_workers):
        batch.function(work.wait_for_file, str(go)).start()
    tasks = [batch.function(work.add, i, 1) for i in range(count)]
    whole = batch.compile(tasks)
    del tasks
    handles = whole.start()
    with growing_less_than(64 * count):  # bytes each
        go.touch()
        whole.wait()
    total = 0
    for uid in list(handles)[::1000]:
        total += handles[uid][0].get()
    assert total == sum(range(1, count + 1, 1000))


def test_values_dropped_one_by_one_do_not_pile_up() -> None:
    """Single tasks share programs; what nobody refers to must not live as long as those."""
    with Batch(num_workers=1) as one:
        one.function(np.ones, 10).run()
        mapped = shared_memory_mapped()
        with growing_less_than(10 * MIB):
            for i in range(40):
                assert one.function(np.full, MIB // 8, float(i)).run()[0] == i  # in a block
                assert one.function(work.same, "t" * MIB).run()[-1] == "t"  # in line
        assert shared_memory_mapped() - mapped < 20
        rest = memory_of_the_rest(one)
        for i in range(80):
            one.function(len, bytes(MIB)).run()
            one.function(np.sum, np.full(MIB // 8, i)).run()
        assert memory_of_the_rest(one) - rest < 80 * MIB  # of the 160 that were sent


def test_dropped_handles_free_what_they_stand_for() -> None:
    with Batch(num_workers=1) as one:
        one.function(work.nothing).run()
        with growing_less_than(10 * MIB):
            for _ in range(5):
                tasks = [one.function(work.same, bytes(200_000)) for _ in range(100)]
                handles = one.compile(tasks).run()
                assert all(len(h[0].get()) == 200_000 for h in handles.values())
                del tasks, handles


def test_a_batch_that_has_ended_frees_its_blocks() -> None:
    def use() -> np.ndarray:
        with Batch(num_workers=1) as one:
            tasks = [one.function(np.full, MIB // 8, i) for i in range(30)]
            one.compile(tasks).run()
            kept = tasks[3].result.get()
            for task in tasks:
                task.result.get()
        return kept

    use()
    before = shared_memory_mapped()
    kept = [use() for _ in range(3)]
    gc.collect()
    assert all((k == 3).all() for k in kept)
    assert shared_memory_mapped() - before < 3 * 40  # of three Batches, not more
    kept.clear()
    gc.collect()
    assert shared_memory_mapped() <= before + 2


def shared_memory_mapped() -> int:
    return sum("alamo-block" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_a_full_disk_keeps_results_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", "1000")
    with Batch(num_workers=1) as one:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        tasks = [one.function(work.same, "x" * 1000) for _ in range(50)]
        one.compile(tasks).run()
        assert {t.result.get() for t in tasks} == {"x" * 1000}
    assert "No space left" in caplog.text


def test_dropping_everything_frees_it() -> None:
    """Also after failures were raised here, whose tracebacks hold frames and so tasks."""

    def use(batch: Batch) -> None:
        task = batch.function(work.fail, ValueError("x"))
        with contextlib.suppress(ValueError):
            task.run()
        after = batch.function(work.same, task)
        with contextlib.suppress(alamo.UsageError):
            after.start()
        first = batch.function(work.fail, ValueError("y"))
        second = batch.function(work.same, first.result)
        whole = batch.compile([first, second])
        whole.start()
        whole.wait()
        for one in (first, second):
            with contextlib.suppress(ValueError, alamo.UpstreamFailed):
                one.result.get()

    batch = Batch(num_workers=1)
    use(batch)
    seen = weakref.ref(batch)
    program = weakref.ref(_last_program(batch))
    batch.close()
    batch.join()
    del batch
    gc.collect()
    assert seen() is None
    assert program() is None


def _last_program(batch: Batch) -> object:
    task = batch.function(work.nothing)
    task.run()
    return task.program
