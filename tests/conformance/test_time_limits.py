"""``timeout=`` of tasks and of elements of arrays."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch, TaskTimeout, UpstreamFailed, UsageError

#: Longer than any test waits.
LONG_S = 10 * work.PATIENCE_S


def nap(seconds: float) -> float:
    print("asleep", flush=True)
    time.sleep(seconds)
    return seconds


def count_in_c() -> int:
    return sum(itertools.repeat(1, 10**13))


def spin() -> None:
    while True:
        pass


def swallow() -> None:
    """Catches all that can be caught."""
    while True:
        try:
            time.sleep(LONG_S)
        except BaseException:
            continue


def spawn_stubborn(path: str) -> None:
    """A child in a session of its own, which ignores SIGTERM."""
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open(sys.argv[1] + '.new', 'w').write(str(os.getpid())); "
        "os.rename(sys.argv[1] + '.new', sys.argv[1]); time.sleep(10000)"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", code, path], start_new_session=True)
    child.wait()


def block_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    time.sleep(LONG_S)


def sleep_if(n: int, which: int) -> int:
    if n == which:
        time.sleep(LONG_S)
    return n


@pytest.mark.needs("kills")
@pytest.mark.parametrize("function", [count_in_c, spin, swallow, block_sigterm])
def test_a_function_is_stopped(batch: Batch, function: Any) -> None:
    task = batch.function(function, name="endless", timeout=0.3)
    task.start()
    with pytest.raises(TaskTimeout, match=r"endless.* longer than its timeout of 0.3 s") as caught:
        task.get(timeout=work.PATIENCE_S)
    assert caught.value.uid == task.uid
    assert isinstance(caught.value, TimeoutError)
    assert task.state == "failed"
    assert batch.function(work.same, 1).run(timeout=work.PATIENCE_S) == 1


@pytest.mark.needs("kills")
def test_in_a_sleep_and_what_was_printed_is_kept(batch: Batch) -> None:
    task = batch.function(nap, LONG_S, timeout=1.5)
    after = batch.function(work.same, task.result)
    beside = batch.function(work.same, 2)
    batch.compile([task, after, beside]).start()
    with pytest.raises(TaskTimeout):
        task.get(timeout=work.PATIENCE_S)
    assert task.stdout.get() == "asleep\n"
    with pytest.raises(UpstreamFailed, match="TaskTimeout"):
        after.get(timeout=work.PATIENCE_S)
    assert beside.get(timeout=work.PATIENCE_S) == 2


@pytest.mark.needs("kills", "processes")
def test_children_that_do_not_listen_end(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    task = batch.function(spawn_stubborn, str(path), timeout=5)
    task.start()
    work.wait_until(path.exists)
    with pytest.raises(TaskTimeout):
        task.get(timeout=work.PATIENCE_S)
    work.wait_until(lambda: not work.alive(int(path.read_text())))


@pytest.mark.needs("kills")
def test_an_executable(batch: Batch) -> None:
    task = batch.process(("sleep", str(LONG_S)), timeout=0.3, check=False)
    task.start()
    with pytest.raises(TaskTimeout):
        task.get(timeout=work.PATIENCE_S)


@pytest.mark.needs("kills")
def test_one_element_of_an_array(batch: Batch) -> None:
    array = batch.map(sleep_if, range(1000), [500] * 1000, timeout=3)
    array.start()
    outcomes = array.result.get(partial=True, timeout=work.PATIENCE_S)
    errors = {n: o.error for n, o in enumerate(outcomes) if o.error is not None}
    assert list(errors) == [500]
    assert isinstance(errors[500], TaskTimeout)
    assert "element 500 of" in str(errors[500])
    assert [o.value for n, o in enumerate(outcomes) if n != 500] == [
        n for n in range(1000) if n != 500
    ]
    assert array.state == "failed"


@pytest.mark.needs("kills")
def test_one_element_of_a_million(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=2) as batch:
        size = 1_000_000
        array = batch.map(sleep_if, range(size), itertools.repeat(700_000, size), timeout=5)
        array.start()
        array.wait(timeout=4 * work.PATIENCE_S)
        with pytest.raises(TaskTimeout, match="element 700000 of"):
            array.result[700_000]
        assert array.result[size - 1] == size - 1
        with pytest.raises(ExceptionGroup, match="1 of 1000000 elements"):
            array.get()


def test_what_is_in_time_is_left_alone(batch: Batch) -> None:
    task = batch.function(work.same, 5, timeout=work.PATIENCE_S)
    assert task.run() == 5
    assert batch.map(work.same, range(100), timeout=LONG_S).run() == list(range(100))


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan"), [1]])
def test_no_time(batch: Batch, timeout: Any) -> None:
    with pytest.raises(UsageError, match="timeout="):
        batch.function(work.nothing, timeout=timeout)
    with pytest.raises(UsageError, match="timeout="):
        batch.map(work.same, [1], timeout=timeout)


@pytest.mark.parametrize("timeout", [1e9, 1e300, float("inf"), None])
def test_no_limit(batch: Batch, timeout: Any) -> None:
    assert batch.function(work.same, 1, timeout=timeout).run() == 1
