"""Compiled tasks that nobody starts: gone, here and in the manager, when nobody refers to them."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

import _work as work
from alamo import Batch, UsageError
from alamo.protocol import messages as msg

MIB = 1 << 20


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=1) as one:
        yield one


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the programs of which the manager was told that they will not be started."""
    import alamo.batch.outlet as module

    told: list[int] = []
    original = module.encode_all

    def noting(messages: Any) -> bytes:
        messages = list(messages)
        told.extend(m.program for m in messages if isinstance(m, msg.Dropped))
        return original(messages)

    monkeypatch.setattr(module, "encode_all", noting)
    return told


def test_they_go_with_the_next_message(batch: Batch, dropped: list[int]) -> None:
    whole = batch.compile([batch.function(work.same, i) for i in range(10)])
    program = weakref.ref(whole.program)
    number = whole.program.number
    del whole
    assert not dropped  # a finalizer sends nothing
    batch.function(work.nothing).run()
    assert dropped == [number]
    assert program() is None
    batch.function(work.nothing).run()
    assert dropped == [number]


def test_subtasks_do_not_keep_them(batch: Batch, dropped: list[int]) -> None:
    task = batch.function(work.same, 1)
    whole = batch.compile([task])
    handle = task.result
    del whole
    batch.function(work.nothing).run()
    assert len(dropped) == 1
    with pytest.raises(UsageError, match="has not been started"):
        handle.get()
    with pytest.raises(UsageError, match="subtask"):
        task.start()


def test_started_ones_stay(batch: Batch, dropped: list[int]) -> None:
    tasks = [batch.function(work.same, i) for i in range(10)]
    handles = batch.compile(tasks).start()
    waiting = batch.compile([batch.function(time.sleep, 0.2)])
    waiting.start()
    del waiting
    batch.function(work.nothing).run()
    assert [h[0].get() for h in handles.values()] == list(range(10))
    assert not dropped


def test_memory_of_the_client_and_the_manager() -> None:
    with Batch(num_workers=1) as one:
        manager = psutil.Process(one._client.manager_pid)

        def compile_some() -> None:
            for _ in range(5):
                whole = one.compile([one.function(work.same, "x" * 20_000) for _ in range(500)])
                assert whole.program is not None
            one.function(work.nothing).run()

        compile_some()
        before = manager.memory_info().rss
        tracemalloc.start()
        try:
            for _ in range(3):
                compile_some()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 20 * MIB
        finally:
            tracemalloc.stop()
        assert manager.memory_info().rss - before < 100 * MIB  # it was sent 150
        assert len(one._client._programs) <= 2


def test_finalizers_in_the_middle_of_sends() -> None:
    """Tasks in cycles are found by the collector, whatever it interrupts."""
    with Batch(num_workers=2) as one:
        stop = threading.Event()

        class Node:
            def __init__(self) -> None:
                self.me = self
                self.whole = one.compile([one.function(work.same, i) for i in range(3)])

        def churn() -> None:
            while not stop.is_set():
                Node()

        threads = [threading.Thread(target=churn) for _ in range(2)]
        old = gc.get_threshold()
        gc.set_threshold(20)
        try:
            for thread in threads:
                thread.start()
            for i in range(100):
                assert one.function(work.same, i).run() == i
        finally:
            stop.set()
            gc.set_threshold(*old)
            for thread in threads:
                thread.join()
        gc.collect()
        assert one.function(work.same, 5).run() == 5
        assert len(one._client._programs) <= 4


def test_of_another_connection_it_drops_nothing(dropped: list[int]) -> None:
    """Numbers begin anew with a connection."""
    with Batch(num_workers=1) as one:
        whole = one.compile([one.function(work.same, 1)])
        client = one._client
        right, whole.start_right = whole.start_right, None
        old = client._programs.pop(whole.program.number)
        new = one.compile([one.function(work.same, 2)])
        client._programs[old.number] = new.program
        del right
        new.run()
        assert not dropped
