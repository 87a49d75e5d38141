"""Processes that are killed or stopped while they use an embedded Queue, and what is left."""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _data_children as children
import _queue_children as qc
import pytest
from _data_children import Mark
from _queue_children import Notes

import _work as work
from alamo import Batch, Queue, QueueFullError, TaskTimeout

KILLS = [20, pytest.param(200, marks=pytest.mark.soak)]


@pytest.fixture
def q() -> Iterator[Queue[Any]]:
    one: Queue[Any] = Queue()
    yield one
    one.destroy()


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path)


def check_order(found: dict[str, list[tuple[int, int]]]) -> Counter[tuple[int, int]]:
    """Each consumer got what a producer put in its order; returns all."""
    for messages in found.values():
        for producer in {producer for producer, _ in messages}:
            numbers = [number for by, number in messages if by == producer]
            assert numbers == sorted(numbers)
    return Counter(message for messages in found.values() for message in messages)


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize("large_every", [0, 20])
def test_killed_consumers_lose_what_they_were_taking(
    q: Queue[Any], notes: Notes, kills: int, consumers: int, large_every: int
) -> None:
    draw = random.Random(kills)
    count, producers = 100 * kills, 2
    makers = [
        children.fork(qc.produce_some, q, producer, count, large_every)
        for producer in range(producers)
    ]
    running = [children.fork(qc.consume, q, notes) for _ in range(consumers)]
    try:
        for kill in range(kills):
            wanted = producers * count * kill // (2 * kills)
            work.wait_until(lambda: notes.count() >= wanted)  # noqa: B023
            time.sleep(draw.random() * 0.005)  # anywhere in what it does
            children.kill(running.pop(draw.randrange(consumers)))
            running.append(children.fork(qc.consume, q, notes))
        assert [children.end_of(pid) for pid in makers] == [0] * producers
        makers.clear()
        q.put(None)
        while running:
            assert children.end_of(running.pop()) == 0
    finally:
        for pid in makers + running:
            children.kill(pid)
    got = check_order(notes.read())
    assert set(got.values()) == {1}, "a message came twice"
    lost = producers * count - len(got)
    assert 0 <= lost <= kills
    assert q.get() is None
    assert q.empty()


@pytest.mark.parametrize("kills", KILLS)
def test_killed_producers_lose_nothing(q: Queue[Any], tmp_path: Path, kills: int) -> None:
    draw = random.Random(kills)
    put, got = Notes(tmp_path / "put"), Notes(tmp_path / "got")
    (tmp_path / "put").mkdir()
    (tmp_path / "got").mkdir()
    consumer = children.fork(qc.consume, q, got)
    try:
        for kill in range(kills):
            before = put.count()
            pids = [children.fork(qc.produce, q, put, 2 * kill + i, 0, 7) for i in range(2)]
            work.wait_until(lambda: put.count() >= before + 20)  # noqa: B023
            time.sleep(draw.random() * 0.005)
            for pid in pids:
                children.kill(pid)
        q.put(None)
        assert children.end_of(consumer) == 0
    except BaseException:
        children.kill(consumer)
        raise
    noted = check_order(put.read())
    came = check_order(got.read())
    assert set(came.values()) == {1}
    assert noted.keys() <= came.keys()
    # What was put and not yet noted by the one that was killed then.
    assert len(came) <= len(noted) + 2 * kills


def _ends_soon(pid: int) -> bool:
    """Whether a child ends within some seconds; it is not waited for as ``end_of`` does."""
    deadline_s = time.monotonic() + 3
    while time.monotonic() < deadline_s:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_what_is_leased_goes_to_others(q: Queue[Any], end: signal.Signals, notes: Notes) -> None:
    """A consumer that was alone and fast is stopped for good, or killed: others get the rest."""
    count = 3_000
    consumer = children.fork(qc.consume, q, notes)
    try:
        maker = children.fork(qc.produce_some, q, 0, count, 0)
        work.wait_until(lambda: notes.count() > count // 4)
        os.kill(consumer, end)
        while end == signal.SIGSTOP and not _ends_soon(maker):  # it was stopped with the lock held
            os.kill(consumer, signal.SIGCONT)
            os.kill(consumer, end)
        assert children.end_of(maker) == 0
        work.wait_until(lambda: _is_still(notes))
        rest = [q.get_nowait() for _ in range(q.qsize())]
        numbers = [number for _, number, _ in rest]
        assert numbers == list(range(numbers[0], count))
        assert q.empty()
        if end == signal.SIGSTOP:
            q.put(None)
            os.kill(consumer, signal.SIGCONT)
            assert children.end_of(consumer) == 0
        else:
            assert children.end_of(consumer) == -end
        consumer = 0
    finally:
        if consumer:
            os.kill(consumer, signal.SIGCONT)
            children.kill(consumer)
    got = check_order(notes.read())
    assert set(got.values()) == {1}
    assert not got.keys() & {(0, number) for number in numbers}
    assert len(got) + len(numbers) >= count - (end == signal.SIGKILL)


def _is_still(notes: Notes) -> bool:
    before = notes.count()
    time.sleep(0.05)
    return notes.count() == before


def test_an_idle_consumer_keeps_nothing(q: Queue[Any]) -> None:
    """It has taken one of many messages and does something else for ever."""
    told = Mark()
    q.put_many(range(200))
    pid = children.fork(qc.get_some, q, told, 30)
    try:
        told.wait(1)
        assert q.qsize() == 170
        assert [q.get_nowait() for _ in range(170)] == list(range(30, 200))
    finally:
        children.kill(pid)


def test_a_dead_waiter_keeps_none_from_others(q: Queue[Any]) -> None:
    marks = [Mark() for _ in range(4)]
    pids = [children.fork(qc.get_and_mark, q, mark) for mark in marks]
    for mark in marks:
        mark.wait(1)
    time.sleep(0.2)
    for pid in pids[:3]:
        children.kill(pid)
    q.put("for the last one")
    begin_s = time.monotonic()
    assert children.end_of(pids[3]) == 0
    assert time.monotonic() - begin_s < 10
    assert marks[3].value == 2


@pytest.mark.parametrize("kills", KILLS)
def test_buffers_of_the_killed_are_swept(kills: int) -> None:
    """Consumers and producers of large messages are killed; their space is used again."""
    draw = random.Random(3)
    q: Queue[Any] = Queue(total_mem=30 * qc.LARGE_BYTES)
    size = qc.LARGE_BYTES // 8
    try:
        for _ in range(kills):
            told = Mark()
            pids = [
                children.fork(qc.put_large, q, told, size),
                children.fork(qc.get_large, q),
            ]
            told.wait(3)
            time.sleep(draw.random() * 0.005)
            for pid in pids:
                children.kill(pid)
            while not q.empty():
                assert len(q.get()) == size
        for _ in range(10):
            q.put(bytes(qc.LARGE_BYTES))
        assert len(q.get_many(10)) == 10
    finally:
        q.destroy()


# -- full ----------------------------------------------------------------------------------


def test_full() -> None:
    q: Queue[Any] = Queue(total_mem=2 << 20)
    try:
        put = qc.fill(q)
        assert q.qsize() == put
        with pytest.raises(QueueFullError):
            q.put(bytes(3 << 20))
        assert [q.get()[0] for _ in range(put)] == list(range(put))
        for _ in range(3):
            for i in range(put // 4):
                q.put((i, b"x" * 1_000))
            assert len(q.get_many(put)) == put // 4
    finally:
        q.destroy()


# -- waits that end ------------------------------------------------------------------------


def test_ctrl_c_ends_a_wait() -> None:
    script = """
        import sys
        from alamo import Queue
        q = Queue()
        print("waits", flush=True)
        try:
            q.get()
        except KeyboardInterrupt:
            q.put("still works")
            print(q.get(), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "still works\n"
    assert process.returncode == 0


def test_a_time_limit_ends_a_wait(q: Queue[Any]) -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(qc.get_one, q, timeout=1.0)
        task.start()
        with pytest.raises(TaskTimeout):
            task.result.get()
        assert batch.function(work.same, "next").run() == "next"


def test_a_wait_burns_no_cpu(q: Queue[Any]) -> None:
    q.put(1)
    q.get()
    before_s = time.process_time()
    with pytest.raises(queue.Empty):
        q.get(timeout=2)
    assert time.process_time() - before_s < 0.5
