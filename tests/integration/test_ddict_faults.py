"""Processes that are killed while they use an embedded DDict, and those that go on."""

from __future__ import annotations

import itertools
import mmap
import os
import pickle
import random
import time
from collections.abc import Iterator
from typing import Any

import _data_children as children
import numpy as np
import pytest
from _data_children import Mark

import _work as work
from alamo import DDict
from alamo.data import home

KILLS = [20, pytest.param(200, marks=pytest.mark.soak)]
LARGE = 50_000  # numbers of 8 bytes, so that the array lies apart


@pytest.fixture
def d() -> Iterator[DDict[Any, Any]]:
    with DDict() as one:
        yield one
        one.destroy()


def write_on(d: DDict[Any, Any], number: int, told: Mark) -> None:
    """Write the same number under several keys, in order, and tell which one is through."""
    for i in itertools.count(d.get((number, "done"), 0) + 1):
        d[number, "small"] = i
        d[number, "large"] = np.full(LARGE, i)
        with d.transaction():
            d[number, "one"] = i
            d[number, "array"] = np.full(LARGE, i)
            d[number, "other"] = i
        d[number, "done"] = i
        told.value = i


def check(d: DDict[Any, Any], number: int, told: int) -> None:
    done = d.get((number, "done"), 0)
    assert told <= done <= told + 1
    for key in ("small", "large", "one", "array", "other"):
        value = d.get((number, key), 0)
        if isinstance(value, np.ndarray):
            assert len(value) == LARGE
            assert value.min() == value.max()
            value = value[0]
        assert done <= value <= done + 1, key
    assert d.get((number, "one"), 0) == d.get((number, "other"), 0)


@pytest.mark.parametrize("kills", KILLS)
def test_writers_that_are_killed_lose_nothing(d: DDict[Any, Any], kills: int) -> None:
    draw = random.Random(5)
    told = [Mark(), Mark()]
    pids = [children.fork(write_on, d, number, told[number]) for number in range(2)]
    try:
        for kill in range(kills):
            victim = kill % 2
            told[victim].wait(told[victim].value + 1)
            time.sleep(draw.random() * 0.005)  # anywhere in what it does
            children.kill(pids[victim])
            before_s = time.monotonic()
            d["survivor"] = kill
            assert time.monotonic() - before_s < 5
            check(d, victim, told[victim].value)
            assert d["survivor"] == kill
            pids[victim] = children.fork(write_on, d, victim, told[victim])
    finally:
        for pid in pids:
            children.kill(pid)
    for number in range(2):
        check(d, number, told[number].value)
    assert len(d) == 13
    d._store._dict.buffers.sweep()
    assert pieces(d) == 4


def pieces(d: DDict[Any, Any]) -> int:
    """Buffers of large values that there are."""
    buffers = d._store._dict.buffers
    return sum(
        buffers.environment(shard).read(lambda txn: txn.stat()["entries"])
        for shard in range(buffers.shards)
    )


def stay_inside(d: DDict[Any, Any], inside: Mark) -> None:
    with d.transaction():
        d["a"] = "lost"
        d["large"] = np.zeros(LARGE)
        del d["b"]
        inside.value += 1
        time.sleep(work.PATIENCE_S)


@pytest.mark.parametrize("kills", KILLS)
def test_writers_killed_inside_a_transaction(d: DDict[Any, Any], kills: int) -> None:
    d.update(a=0, b=0)
    inside = Mark()
    for kill in range(kills):
        pid = children.fork(stay_inside, d, inside)
        inside.wait(kill + 1)
        with children.child(d.__setitem__, "waiting", kill):  # perhaps in the lock already
            children.kill(pid)
        before_s = time.monotonic()
        d["survivor"] = kill
        assert time.monotonic() - before_s < 5
        assert d == {"a": 0, "b": 0, "survivor": kill, "waiting": kill}


def forget_who_waits(lock_file: str) -> None:
    """Free the lock of writers as its owner would who is killed with a wake-up on its way."""
    with open(lock_file, "r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
        work.wait_until(lambda: memory[67] & 0x80)  # somebody sleeps
        memory[64:68] = bytes(4)


def test_a_writer_whom_a_wake_up_has_missed_goes_on(d: DDict[Any, Any]) -> None:
    d.update(a=0, b=0)
    lock_file = f"{d.stats()['place']}/records-lock"
    inside = Mark()
    owner = children.fork(stay_inside, d, inside)
    inside.wait(1)
    with children.child(d.__setitem__, "late", 1):
        with children.child(forget_who_waits, lock_file):
            pass
        children.kill(owner)
        for i in range(1000):
            d["other"] = i
    assert d["late"] == 1


def test_orphans_are_swept_while_others_write(d: DDict[Any, Any]) -> None:
    """What writers leave that are killed between their two commits does not pile up."""
    buffers = d._store._dict.buffers
    shard = d.which_shard("x")
    d["kept"] = np.arange(LARGE)

    def leave() -> None:
        for _ in range(100):
            buffers.store(shard, [bytes(400_000)], None)

    with children.child(leave):
        pass
    assert pieces(d) == 101
    work.wait_until(lambda: [d.update(x=np.ones(LARGE)), pieces(d) == 2][1])
    assert (d["kept"] == np.arange(LARGE)).all()


def test_a_sweep_spares_what_is_on_its_way(d: DDict[Any, Any]) -> None:
    told = Mark()
    pid = children.fork(write_on, d, 0, told)
    try:
        for _ in range(20):
            d._store._dict.buffers.sweep()
            told.wait(told.value + 1)
            for value in d.values():
                assert value is not None
    finally:
        children.kill(pid)
    check(d, 0, told.value)


def hold(d: DDict[Any, Any], holding: Mark) -> None:
    with d.borrow("large"):
        holding.value += 1
        time.sleep(work.PATIENCE_S)


def test_dead_readers_hold_no_space(d: DDict[Any, Any]) -> None:
    d["large"] = np.zeros(LARGE)
    marks = [Mark() for _ in range(3)]
    pids = [children.fork(hold, d, mark) for mark in marks]
    for mark in marks:
        mark.wait(1)
    for pid in pids:
        children.kill(pid)
    for i in range(300):
        d["large"] = np.full(LARGE, i)
    assert d.stats()["bytes_allocated"] < 40 * 8 * LARGE


@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_churn_takes_bounded_space(d: DDict[Any, Any], times: int) -> None:
    draw = random.Random(7)
    largest = 0
    for i in range(times):
        d[draw.randrange(20)] = bytes(draw.randrange(100_000, 4_000_000))
        if i % 50 == 0:
            largest = max(largest, d.stats()["bytes_allocated"])
    assert largest < 4 * 20 * 4_000_000


def open_and_close(handle: bytes, rounds: int) -> None:

    for i in range(rounds):
        with pickle.loads(handle) as d:
            d[os.getpid()] = i
            assert d["there"] == "always"


@pytest.mark.parametrize("times", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_opens_and_closes(d: DDict[Any, Any], times: int) -> None:

    d["there"] = "always"
    handle = pickle.dumps(d)
    pids = [children.fork(_apart, handle, times // 4) for _ in range(4)]
    assert [children.end_of(pid) for pid in pids] == [0] * 4
    assert len(d) == 5


def _apart(handle: bytes, rounds: int) -> None:
    """In a child that has let go of all it had inherited."""

    home._leave_all()
    open_and_close(handle, rounds)


@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_dictionaries_that_are_forgotten_leave_nothing(times: int) -> None:
    first = None
    for i in range(times):
        d = DDict({"a": i})
        assert d["a"] == i
        if i == 10:
            first = len(os.listdir("/proc/self/fd"))
    assert first is not None
    assert len(os.listdir("/proc/self/fd")) <= first + 5
