"""Queues between processes: started in every way, as tasks, and unrelated ones."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _queues
import numpy as np
import pytest
from _engines import MakeBatch
from _stores import MakeQueue

from alamo import Queue

pytestmark = pytest.mark.needs("handles")

PATIENCE_S = 60.0
METHODS = ("fork", "spawn")


@contextmanager
def processes(method: str, *calls: tuple[Callable[..., None], Any]) -> Iterator[None]:
    """Run each call in a process of its own; all must end well."""
    context = multiprocessing.get_context(method)
    started = [context.Process(target=call[0], args=call[1:]) for call in calls]
    for process in started:
        process.start()
    try:
        yield
        for process in started:
            process.join(PATIENCE_S)
        assert [process.exitcode for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()
            process.join()


def check_each_once(messages: list[Any], producers: int, count: int) -> None:
    """Each message once, and for each consumer those of a producer in their order."""
    assert sorted(message for _, message in messages) == [
        (producer, number) for producer in range(producers) for number in range(count)
    ]
    numbers = defaultdict(list)
    for consumer, (producer, number) in messages:
        numbers[consumer, producer].append(number)
    for some in numbers.values():
        assert some == sorted(some)


@pytest.mark.parametrize("method", METHODS)
def test_producers_and_consumers(make_queue: MakeQueue, method: str) -> None:
    q, results = make_queue(), make_queue()
    producers, count = 3, 400
    calls = [(_queues.put_numbers, q, producer, count) for producer in range(producers)]
    consumers = [(_queues.put_back_until_none, q, results)] * 2
    with processes(method, *consumers):
        with processes(method, *calls):
            pass
        q.put(None)
    check_each_once(results.get_many(producers * count + 1), producers, count)


def test_a_bounded_queue_between_processes(make_queue: MakeQueue) -> None:
    q, results = make_queue(maxsize=5), make_queue()
    with processes("fork", (_queues.put_back_until_none, q, results)):
        with processes("fork", *[(_queues.put_numbers, q, i, 200) for i in range(2)]):
            pass
        q.put(None)
    check_each_once(results.get_many(1_000), 2, 200)


@pytest.mark.parametrize("method", METHODS)
def test_a_waiter_is_woken(make_queue: MakeQueue, method: str) -> None:
    q, results = make_queue(), make_queue()
    with processes(method, (_queues.get_one, q, results), (_queues.get_one, q, results)):
        with pytest.raises(queue.Empty):
            results.get(timeout=0.3)
        q.put("first")
        assert results.get(timeout=PATIENCE_S) == "first"
        q.put("second")
        assert results.get(timeout=PATIENCE_S) == "second"


def test_a_put_waits_for_another_process(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=1)
    with processes("fork", (_queues.put_numbers, q, 0, 3)):
        assert [q.get(timeout=PATIENCE_S) for _ in range(3)] == [(0, i) for i in range(3)]


def test_join_waits_for_other_processes(make_queue: MakeQueue) -> None:
    q = make_queue(joinable=True)
    with processes("fork", (_queues.do_until_none, q), (_queues.do_until_none, q)):
        q.put_many(range(20))
        q.join(timeout=PATIENCE_S)
        assert q.empty()
        q.put_many([None, None])
        q.join(timeout=PATIENCE_S)


def test_an_unrelated_process(make_queue: MakeQueue) -> None:
    q, results = make_queue(), make_queue()
    q.put("across")
    done = subprocess.run(
        [sys.executable, str(Path(_queues.__file__))],
        input=pickle.dumps((q, results)),
        timeout=PATIENCE_S,
        check=True,
        capture_output=True,
    )
    assert not done.stderr
    assert results.get(timeout=0) == "across"


@pytest.mark.needs("names")
def test_by_name(make_queue: MakeQueue) -> None:
    name = f"test-{os.getpid()}"
    q = make_queue(maxsize=4, name=name)
    again = make_queue(maxsize=4, name=name)
    q.put(1)
    assert again.get() == 1
    with pytest.raises(RuntimeError, match=r"maxsize=4.* open it with these"):
        make_queue(name=name)


@pytest.mark.needs("parallel")
def test_tasks_of_a_batch(make_queue: MakeQueue, make_batch: MakeBatch) -> None:
    """Consumers come first and take all slots; they lend them while they wait."""
    q, results = make_queue(), make_queue()
    batch = make_batch(num_workers=2)
    consumers = [batch.function(_queues.put_back_until_none, q, results) for _ in range(2)]
    producers = [batch.function(_queues.put_numbers, q, i, 100) for i in range(2)]
    end = batch.function(_queues.put_none, q, [producer.result for producer in producers])
    batch.compile([*consumers, *producers, end]).run(timeout=PATIENCE_S)
    check_each_once(results.get_many(1_000), 2, 100)


def test_large_arrays_are_each_process_its_own(make_queue: MakeQueue) -> None:
    q, results = make_queue(), make_queue()
    array = np.arange(1_000_000.0)
    with processes("fork", (_queues.sum_and_change, q, results)):
        q.put(array)
        total, changed = results.get(timeout=PATIENCE_S)
    assert total == array.sum()
    assert (changed == array + 1).all()


# -- fork ----------------------------------------------------------------------------------


def test_a_child_hands_out_nothing_of_its_parent(make_queue: MakeQueue) -> None:
    """Forked while the parent has messages on lease."""
    q, results = make_queue(), make_queue()
    count = 500
    q.put_many((0, i) for i in range(count))
    for _ in range(100):
        results.put((os.getpid(), q.get()))
    with processes("fork", (_queues.put_back_until_none, q, results)):
        for _ in range(100):
            results.put((os.getpid(), q.get()))
        q.put(None)
    check_each_once(results.get_many(count + 1), 1, count)


def test_forks_while_threads_are_at_it(make_queue: MakeQueue) -> None:
    q, results = make_queue(), make_queue()
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            q.put(1)
            q.get(timeout=PATIENCE_S)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(15):
            with processes("fork", (_queues.put_numbers, results, i, 3)):
                pass
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert sorted(results.get_many(100)) == [(i, n) for i in range(15) for n in range(3)]
    assert q.empty()


def test_handles_inside_messages_between_processes(make_queue: MakeQueue) -> None:
    q, inner, results = make_queue(), make_queue(), make_queue()
    inner.put("inside")
    with processes("spawn", (_queues.get_through, q, results)):
        q.put({"handle": inner})
        assert results.get(timeout=PATIENCE_S) == "inside"


def test_a_handle_outlives_its_maker(make_queue: MakeQueue) -> None:
    """A process makes a queue, sends its handle and waits until it is open elsewhere."""
    q = make_queue()
    go_on = make_queue()
    with processes("spawn", (_queues.send_a_queue, q, go_on)):
        made: Queue[Any] = q.get(timeout=PATIENCE_S)
        assert made.get(timeout=PATIENCE_S) == "made elsewhere"
        go_on.put(None)
    made.put("still there")
    assert made.get() == "still there"
