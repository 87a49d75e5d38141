"""A Batch as an executor of ``concurrent.futures``."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _engines import MakeBatch

import _work as work
from alamo import (
    AlamoExecutor,
    Batch,
    BatchBroken,
    ExecutorBroken,
    SubmitAfterClose,
    UsageError,
    WorkerLost,
)

MakeExecutor = Callable[..., AlamoExecutor]


@pytest.fixture
def executor(batch: Batch) -> Iterator[AlamoExecutor]:
    with AlamoExecutor(batch=batch) as one:
        yield one


def keywords(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_calls_of_every_form(executor: AlamoExecutor) -> None:
    assert executor.submit(pow, 2, 10).result() == 1024
    assert executor.submit(keywords, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    assert executor.submit([1, 2].index, 2).result() == 1
    assert executor.submit(functools.partial(pow, 3), 2).result() == 9
    assert executor.submit(lambda: 7).result() == 7
    assert executor.submit(complex, "1j").result() == 1j
    seven = 7
    assert [executor.submit(lambda i=i: i + seven).result() for i in range(3)] == [7, 8, 9]
    assert executor.submit(work.nothing).result() is None
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]


def test_results_of_many_kinds_in_any_order(executor: AlamoExecutor) -> None:
    values = [None, 1, "x" * 100_000, np.arange(100_000), {"a": [1]}, b"y" * 3_000_000]
    found = [executor.submit(work.same, value) for value in values * 20]
    for value, future in zip(values * 20, found):
        assert np.array_equal(future.result(), value)
    assert found[4].result() is found[4].result()


def test_many_calls(executor: AlamoExecutor) -> None:
    found = [executor.submit(work.same, i) for i in range(5000)]
    assert [future.result() for future in found] == list(range(5000))
    assert all(future.done() and not future.running() for future in found)


def test_errors_are_those_of_the_calls(executor: AlamoExecutor) -> None:
    future = executor.submit(work.fail_awkwardly, 5)
    with pytest.raises(work.Awkward) as raised:
        future.result()
    assert raised.value is future.exception()
    assert "fail_awkwardly" in "".join(raised.value.__notes__)  # the remote traceback
    assert executor.submit(work.nothing).exception() is None
    unsendable = executor.submit(work.same, work.NeverPickles())
    assert isinstance(unsendable.exception(), TypeError)
    assert isinstance(executor.submit(work.never_pickles).exception(), TypeError)
    assert executor.submit(work.same, 1).result() == 1


@pytest.mark.needs("kills")
def test_a_dead_worker_fails_its_call_alone(executor: AlamoExecutor) -> None:
    found = [executor.submit(work.same, i) for i in range(100)]
    dead = executor.submit(os._exit, 3)
    found += [executor.submit(work.same, i) for i in range(100, 200)]
    with pytest.raises(WorkerLost, match="_exit"):
        dead.result()
    assert [future.result() for future in found] == list(range(200))


@pytest.mark.needs("background")
def test_what_waits_can_be_cancelled(make_batch: MakeBatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with AlamoExecutor(batch=make_batch(num_workers=1)) as executor:
        found = [executor.submit(work.wait_until, go.exists) for _ in range(10)]
        work.wait_until(found[0].running)
        assert not found[0].cancel()
        assert all(future.cancel() for future in found[3:])
        assert found[9].cancelled()
        go.touch()
        _, not_done = futures.wait(found, timeout=work.PATIENCE_S)
        assert not not_done
        assert [future.cancelled() for future in found] == [False] * 3 + [True] * 7
        with pytest.raises(futures.CancelledError):
            found[5].result()


@pytest.mark.needs("background")
def test_shutdown(make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(num_workers=1)
    executor = AlamoExecutor(batch=batch)
    found = [executor.submit(work.wait_until, (tmp_path / "go").exists) for _ in range(10)]
    work.wait_until(found[0].running)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(work.nothing)
    executor.shutdown(wait=False, cancel_futures=True)
    done, _ = futures.wait(found[3:], timeout=work.PATIENCE_S)
    assert all(future.cancelled() for future in done)
    assert not found[0].done()
    (tmp_path / "go").touch()
    executor.shutdown()
    assert found[0].result() is None
    assert batch.function(work.same, 1).run() == 1  # the Batch stays open


def test_map(executor: AlamoExecutor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]
    for chunksize in (1, 3, 100):
        found = executor.map(work.add, range(50), range(50), chunksize=chunksize)
        assert list(found) == list(range(0, 100, 2))
    assert list(executor.map(work.same, [])) == []
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(work.same, [1], chunksize=0)
    broken = executor.map(work.fail, [ValueError("no"), KeyError("k")])
    with pytest.raises(ValueError, match="no"):
        next(broken)


@pytest.mark.needs("background")
def test_the_time_of_map_and_result_ends(executor: AlamoExecutor, tmp_path: Path) -> None:
    in_time = executor.map(work.wait_until, [tmp_path.exists], timeout=work.PATIENCE_S)
    assert list(in_time) == [None]
    found = executor.map(work.wait_until, [(tmp_path / "go").exists], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(found)
    future = executor.submit(work.wait_until, (tmp_path / "go").exists)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.01)
    (tmp_path / "go").touch()
    assert future.result() is None


def test_callbacks_of_futures(executor: AlamoExecutor) -> None:
    called = threading.Event()
    future = executor.submit(work.same, 1)
    more: list[Any] = []

    def submit_more(done: Any) -> None:
        more.append(executor.submit(work.same, done.result() + 1))
        called.set()

    future.add_done_callback(submit_more)
    assert called.wait(work.PATIENCE_S)
    assert more[0].result() == 2
    late: list[Any] = []
    future.add_done_callback(late.append)
    assert late == [future]


def test_futures_with_the_functions_of_the_standard_library(executor: AlamoExecutor) -> None:
    found = {executor.submit(work.same, i): i for i in range(100)}
    assert {f.result() for f in futures.as_completed(found)} == set(range(100))
    assert futures.wait(found).done == set(found)

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, work.same, i) for i in range(100)]
        return list(await asyncio.gather(*calls))

    assert asyncio.run(main()) == list(range(100))


def test_several_threads_submit(executor: AlamoExecutor) -> None:
    with futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: executor.submit(work.same, i), range(2000)))
    assert [future.result() for future in found] == list(range(2000))


def test_nothing_is_kept(executor: AlamoExecutor) -> None:
    argument = work.Bag(1)
    gone = threading.Event()
    kept = weakref.ref(argument, lambda _: gone.set())
    executor.submit(work.same, argument).result()
    del argument
    assert gone.wait(work.PATIENCE_S)
    assert kept() is None
    for value in executor.map(work.Bag, range(5)):
        kept = weakref.ref(value)
        del value
        assert kept() is None


def test_what_calls_print_is_printed(
    executor: AlamoExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.submit(work.say, "to stdout\n", "to stderr\n").result()
    assert isinstance(executor.submit(work.fail_loudly, "text").exception(), ValueError)
    assert capsys.readouterr() == ("to stdout\ntext\n", "to stderr\nTEXT\n")


@pytest.mark.needs("background", "kills")
def test_a_broken_batch_breaks_the_executor(make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(num_workers=1)
    executor = AlamoExecutor(batch=batch)
    done = executor.submit(work.same, 1)
    assert done.result() == 1
    found = [executor.submit(work.wait_until, (tmp_path / "go").exists) for _ in range(10)]
    work.wait_until(found[0].running)
    batch.terminate()
    for future in found:
        assert isinstance(future.exception(work.PATIENCE_S), ExecutorBroken)
    assert issubclass(ExecutorBroken, futures.BrokenExecutor)
    with pytest.raises(BatchBroken):
        executor.submit(work.nothing)
    executor.shutdown()


@pytest.mark.needs("background")
def test_a_closed_batch_makes_no_more_calls(make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(num_workers=1)
    executor = AlamoExecutor(batch=batch)
    found = [executor.submit(work.wait_until, (tmp_path / "go").exists) for _ in range(5)]
    work.wait_until(found[0].running)
    batch.close()
    (tmp_path / "go").touch()
    assert found[0].result(work.PATIENCE_S) is None
    assert isinstance(found[4].exception(work.PATIENCE_S), ExecutorBroken)
    with pytest.raises(SubmitAfterClose):
        executor.submit(work.nothing)
    executor.shutdown()
    batch.join(work.PATIENCE_S)


@pytest.mark.needs("nesting", "clients")
def test_a_call_that_waits_for_others_lends_its_slot(make_batch: MakeBatch) -> None:
    batch = make_batch(num_workers=1)
    with AlamoExecutor(batch=batch) as executor:
        assert executor.submit(sum_in_executor, batch).result(timeout=60) == 10


def sum_in_executor(batch: Batch) -> int:
    with AlamoExecutor(batch=batch) as executor:
        return sum(executor.map(work.same, range(5)))


def test_what_it_refuses(batch: Batch) -> None:
    with pytest.raises(UsageError, match="no initializer"):
        AlamoExecutor(initializer=work.nothing)
    with pytest.raises(UsageError, match="no initializer"):
        AlamoExecutor(batch=batch, initargs=(1,))
    with pytest.raises(ValueError, match="max_workers"):
        AlamoExecutor(0)
    with pytest.raises(UsageError, match="not both"):
        AlamoExecutor(2, batch=batch)
