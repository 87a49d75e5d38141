"""The inline engine: what it promises beyond the conformance suite."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import alamo
from alamo import Batch, UsageError
from alamo.blocking import while_blocked
from alamo.testing import InlineBatch, chain, fan, layers, stencil

ran: list[Any] = []


def note(*what: int) -> tuple[int, ...]:
    ran.append(what)
    return what


def where(_: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


@pytest.fixture(autouse=True)
def clean() -> None:
    ran.clear()


def test_everything_runs_in_the_calling_thread() -> None:
    children = multiprocessing.active_children()
    with InlineBatch() as batch:
        places = {*batch.map(where, range(5)).run(), batch.function(where, 0).run()}
        assert places == {(os.getpid(), threading.get_ident())}
        assert threading.active_count() == 1 or "alamo" not in str(threading.enumerate())
    assert multiprocessing.active_children() == children


def test_there_is_nobody_to_serve_metrics() -> None:
    with pytest.raises(alamo.UsageError, match="no manager"):
        InlineBatch(enable_telem=True)


def test_start_runs_all_that_can_run() -> None:
    with InlineBatch() as batch:
        batch.function(note, 1).start()
        assert ran == [(1,)]
        compiled = batch.compile([batch.function(note, 2), batch.map(note, range(2))])
        assert ran == [(1,)]
        compiled.start()
        assert ran == [(1,), (2,), (0,), (1,)]


def test_the_order_is_the_same_always() -> None:
    orders = set()
    for _ in range(3):
        ran.clear()
        with InlineBatch() as batch:
            batch.compile(layers(batch, note, 6, 7, seed=3)).run()
        orders.add(tuple(ran))
    assert len(orders) == 1


@pytest.mark.parametrize("key", ["second", note, 2])
def test_chosen_failures(key: Any) -> None:
    failures = {key: OSError(28, "disk full")}
    with InlineBatch(failures=failures) as batch:
        first = batch.function(str, 1, name="first")
        second = batch.function(note, 2, name="second")
        third = batch.function(str, second.result)
        assert second.uid == 2
        compiled = batch.compile([first, second, third])
        compiled.start()
        assert first.result.get() == "1"
        with pytest.raises(OSError, match="disk full") as caught:
            second.result.get()
        assert caught.value.errno == 28
        with pytest.raises(alamo.UpstreamFailed):
            third.result.get()
    assert not ran


def test_a_chosen_death_of_the_worker() -> None:
    with InlineBatch(failures={"doomed": alamo.WorkerLost}) as batch:
        doomed = batch.map(note, range(3), name="doomed")
        behind = batch.function(len, doomed.result)
        other = batch.function(note, 7)
        batch.compile([doomed, behind, other]).start()
        assert other.result.get() == (7,)
        with pytest.raises(ExceptionGroup) as caught:
            doomed.result.get()
        assert {type(e) for e in caught.value.exceptions} == {alamo.WorkerLost}
        with pytest.raises(alamo.UpstreamFailed):
            behind.result.get()


def test_an_endless_iterator_is_pulled_from_as_far_as_somebody_waits() -> None:
    pulled = []

    def endless() -> Iterator[int]:
        for i in itertools.count():
            pulled.append(i)
            yield i

    batch = InlineBatch()
    result, _, _ = batch.map(note, endless()).start()
    assert pulled == []
    assert result[3] == (3,)
    assert pulled == [0, 1, 2, 3]
    assert list(itertools.islice(result, 6)) == [(i,) for i in range(6)]
    assert len(pulled) == 6
    batch.terminate()


def test_an_iterator_may_wait_for_results() -> None:
    with InlineBatch() as batch:

        def rising() -> Iterator[int]:
            yield 1
            for i in range(3):
                yield result[i][0] * 2

        result, _, _ = batch.map(note, rising()).start()
        assert [v for (v,) in result] == [1, 2, 4, 8]


def test_it_stays_in_its_process() -> None:
    with InlineBatch() as batch:
        data = pickle.dumps(batch)
        pool = multiprocessing.get_context("fork").Pool(1)
        with pool, pytest.raises(alamo.BatchBroken, match="lives in the process"):
            pool.apply(pickle.loads, (data,))


def test_builders() -> None:
    with InlineBatch() as batch:
        batch.compile(chain(batch, note, 4)).run()
        assert ran == [(0,), (1,), (2,), (3,)]
        ran.clear()
        batch.compile(fan(batch, note, 3)).run()
        assert ran[0] == (0,)
        assert ran[-1] == (4,)
        assert sorted(ran) == [(i,) for i in range(5)]
        ran.clear()
        batch.compile(stencil(batch, note, 3, 4)).run()
        assert [t for t, _ in ran] == sorted(t for t, _ in ran)
        assert len(ran) == 12
        ran.clear()
        tasks = layers(batch, note, 3, 4)
        assert len(tasks) == 12
        batch.compile(tasks).run()
        assert [i // 4 for (i,) in ran] == sorted(i // 4 for (i,) in ran)


# -- waits for shared data -------------------------------------------------------------------------


def wait_for_data(timeout_s: float | None = None) -> str:
    with while_blocked(timeout_s):
        return "waited"


def wait_in_a_thread() -> str:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(wait_for_data).result()


def test_a_wait_without_end_is_refused_at_once() -> None:
    with InlineBatch() as batch:
        task = batch.function(wait_for_data, name="reader")
        with pytest.raises(UsageError, match=r"reader.*nothing else runs while a task waits"):
            task.run()
        assert task.state == "failed"
        with pytest.raises(UsageError, match="nothing else runs"):
            batch.function(wait_for_data, alamo.default_timeout).run()


def test_a_wait_that_may_end_is_let_be() -> None:
    with InlineBatch() as batch:
        assert batch.function(wait_for_data, 0.1).run() == "waited"
        assert batch.function(wait_in_a_thread).run() == "waited"  # the thread is no task
    assert wait_for_data() == "waited"


def test_a_wait_of_a_nested_task_names_that_one() -> None:
    def outer(batch: Batch) -> str:
        with pytest.raises(UsageError, match="inner"):
            batch.function(wait_for_data, name="inner").run()
        with pytest.raises(UsageError, match="outer"):
            wait_for_data()
        return "both"

    with InlineBatch() as batch:
        assert batch.function(outer, batch, name="outer").run() == "both"
