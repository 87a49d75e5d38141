"""Many threads of a client use one Batch at once, and a Batch is used beside another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import AsyncDict, Batch


def test_many_threads_submit_at_once(batch: Batch) -> None:
    """Each thread with functions of its own: a mix-up of function numbers would show."""

    def client(k: int) -> None:
        offset = k * 1000
        mine = lambda x, offset=offset: x + offset  # noqa: E731
        other = lambda x, offset=offset: x - offset  # noqa: E731
        for turn in range(5):
            tasks = [batch.function((mine, other)[i % 2], i) for i in range(40)]
            batch.compile(tasks).run(timeout=work.PATIENCE_S)
            wanted = [i - offset if i % 2 else i + offset for i in range(40)]
            assert [t.result.get() for t in tasks] == wanted
            assert batch.function(mine, turn).run(timeout=work.PATIENCE_S) == turn + offset
            assert batch.function(work.add, turn, k).run(timeout=work.PATIENCE_S) == turn + k

    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(client, k) for k in range(16)]:
            done.result()


@pytest.mark.needs("background")
def test_many_threads_wait_for_one_task(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    with ThreadPoolExecutor(20) as threads:
        waits = [threads.submit(task.result.get) for _ in range(10)]
        waits += [threads.submit(task.wait) for _ in range(10)]
        gate.touch()
        for wait in waits:
            wait.result(timeout=work.PATIENCE_S)


def test_many_threads_take_one_large_result(batch: Batch) -> None:
    for _ in range(5):
        task = batch.function(np.arange, 100_000)
        task.start()
        task.wait()
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(AsyncDict.get, [task.result] * 8))
        assert all(r is results[0] for r in results)
        again = batch.function(np.ones, 100_000).run()
        assert (results[0] == np.arange(100_000)).all()
        assert (again == 1).all()


def test_async_code_waits_in_threads(batch: Batch) -> None:
    async def main() -> list[Any]:
        tasks = [batch.function(work.same, i) for i in range(8)]
        handles = [t.start()[0] for t in tasks]
        return await asyncio.gather(*(asyncio.to_thread(h.get) for h in handles))

    assert asyncio.run(main()) == list(range(8))


def test_two_batches_in_one_process(make_batch: MakeBatch, batch: Batch) -> None:
    with make_batch(num_workers=np.int64(1)) as other:
        with pytest.raises(alamo.GraphError, match="another Batch"):
            batch.compile([other.function(work.nothing)])
        task = other.function(work.same, "other")
        mine = batch.function(work.same, "mine")
        task.start()
        mine.start()
        assert (task.result.get(), mine.result.get()) == ("other", "mine")
    assert batch.function(work.same, 1).run() == 1


def test_many_threads_send_large_arguments(batch: Batch) -> None:
    def client(k: int) -> None:
        for i in range(4):
            arrays = [np.full(60_000, 100 * k + 10 * i + j) for j in range(5)]
            tasks = [batch.function(work.same, a) for a in arrays]
            batch.compile(tasks).run(timeout=work.PATIENCE_S)
            for task, array in zip(tasks, arrays):
                assert (task.result.get() == array).all()
            alone = batch.function(work.add, arrays[0], arrays[1]).run(timeout=work.PATIENCE_S)
            assert (alone == arrays[0] + arrays[1]).all()

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(client, k) for k in range(6)]:
            done.result()
