"""``retries=``: what is run again, when, and what is kept of the attempts before."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import _work as work
from alamo import (
    Attempt,
    Batch,
    ProcessFailed,
    Retry,
    TaskTimeout,
    UpstreamFailed,
    UsageError,
    WorkerLost,
)


class Flaky(OSError):
    """Of a class that a subclass of another is."""


def fail_until(path: str, number: int, error: type[Exception] = Flaky) -> int:
    """Fails until it is run for so many times; notes when."""
    print(f"attempt at {path}")
    work.append_line(path, repr(time.time()))
    made = len(Path(path).read_text().split())
    if made < number:
        raise error(f"attempt {made} of {number}")
    return made


def die_until(path: str, number: int, how: int) -> int:
    made = len(Path(path).read_text().split()) if os.path.exists(path) else 0
    work.append_line(path, "x")
    if made + 1 < number:
        if how:
            os.kill(os.getpid(), how)
        os._exit(3)
    return made + 1


def nap_until(path: str, number: int) -> int:
    work.append_line(path, "x")
    made = len(Path(path).read_text().split())
    if made < number:
        time.sleep(work.PATIENCE_S)
    return made


def fail_odd_once(directory: str, n: int) -> int:
    path = Path(directory, str(n))
    if n % 2 and not path.exists():
        path.touch()
        raise ValueError(f"no {n}")
    return n


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def count(log: str) -> int:
    return len(Path(log).read_text().split())


# -- success at last ---------------------------------------------------------------------------


def test_success_at_the_third_attempt(batch: Batch, log: str) -> None:
    called: list[int] = []
    task = batch.function(fail_until, log, 3, retries=2, callback_func=called.append)
    assert task.attempts == []
    assert task.run(timeout=work.PATIENCE_S) == 3
    assert called == [3]
    assert task.state == "done"
    assert [attempt.number for attempt in task.attempts] == [1, 2, 3]
    first, second, last = task.attempts
    assert isinstance(first, Attempt)
    assert isinstance(first.error, Flaky)
    assert str(second.error) == "attempt 2 of 3"
    assert last.error is None
    assert (first.delay_s, last.delay_s) == (0.0, None)
    assert first.stdout == f"attempt at {log}\n" == last.stdout
    assert first.stderr == ""
    assert task.stats.attempts == 3


def test_dependants_of_what_succeeds_late_run(batch: Batch, log: str) -> None:
    first = batch.function(fail_until, log, 2, retries=1)
    second = batch.function(work.add, first.result, 10)
    compiled = batch.compile([first, second])
    compiled.run(timeout=work.PATIENCE_S)
    assert second.get() == 12
    assert len(compiled.attempts[first.uid]) == 2
    assert len(compiled.attempts[second.uid]) == 1
    assert list(compiled.attempts) == [first.uid, second.uid]
    assert "1 retried" in repr(compiled)


def test_elements_of_an_array(batch: Batch, tmp_path: Path) -> None:
    array = batch.map(fail_odd_once, [str(tmp_path)] * 10, range(10), retries=1)
    assert array.run(timeout=work.PATIENCE_S) == list(range(10))
    assert [len(attempts) for attempts in array.attempts] == [1, 2] * 5
    assert str(array.attempts[3][0].error) == "no 3"
    assert [a[-1].error for a in array.attempts[1:3]] == [None, None]


# -- and not -----------------------------------------------------------------------------------


def test_the_last_error_tells_of_the_others(batch: Batch, log: str) -> None:
    task = batch.function(fail_until, log, 10, name="hopeless", retries=2)
    after = batch.function(work.same, task.result)
    compiled = batch.compile([task, after])
    with pytest.warns(RuntimeWarning, match="1 of 2"):
        compiled.run(timeout=work.PATIENCE_S)
    with pytest.raises(Flaky, match="attempt 3 of 10") as caught:
        task.get()
    notes = "\n".join(caught.value.__notes__)
    assert "hopeless" in notes
    assert "failed in 3 attempts" in notes
    assert "attempt 1: " in notes
    assert "attempt 2 of 10" in notes
    assert count(log) == 3
    assert [type(attempt.error) for attempt in task.attempts] == [Flaky] * 3
    with pytest.raises(UpstreamFailed, match="hopeless"):
        after.get()
    assert "attempt 3" in repr(task)


def test_without_retries_there_is_one_attempt(batch: Batch, log: str) -> None:
    task = batch.function(fail_until, log, 2)
    with pytest.raises(Flaky) as caught:
        task.run(timeout=work.PATIENCE_S)
    assert "attempts" not in "".join(caught.value.__notes__)
    assert [type(attempt.error) for attempt in task.attempts] == [Flaky]
    assert count(log) == 1


def test_what_did_not_run_has_no_attempts(batch: Batch, log: str) -> None:
    first = batch.function(fail_until, log, 2)
    second = batch.function(work.same, first.result, retries=4)
    batch.compile([first, second]).start()
    with pytest.raises(UpstreamFailed):
        second.get(timeout=work.PATIENCE_S)
    assert second.attempts == []


# -- on what -----------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [Flaky, OSError, (KeyError, OSError), Exception])
def test_on_classes_and_their_bases(batch: Batch, log: str, on: Any) -> None:
    task = batch.function(fail_until, log, 2, retries=Retry(3, on=on))
    assert task.run(timeout=work.PATIENCE_S) == 2


@pytest.mark.parametrize("on", [KeyError, (ValueError, 1), "worker lost"])
def test_not_on_others(batch: Batch, log: str, on: Any) -> None:
    task = batch.function(fail_until, log, 2, retries=Retry(3, on=on))
    with pytest.raises(Flaky):
        task.run(timeout=work.PATIENCE_S)
    assert count(log) == 1


@pytest.mark.parametrize(("on", "runs"), [((3, 4), 2), (4, 1), ((), 2), (ProcessFailed, 2)])
def test_on_exit_codes(batch: Batch, log: str, on: Any, runs: int) -> None:
    line = f"echo x >> {log}; test $(wc -l < {log}) -gt 1 || exit 3"
    task = batch.process(("sh", "-c", line), retries=Retry(1, on=on))
    task.start()
    if runs == 1:
        with pytest.raises(ProcessFailed):
            task.get(timeout=work.PATIENCE_S)
    else:
        assert task.get(timeout=work.PATIENCE_S) == 0
        error = task.attempts[0].error
        assert isinstance(error, ProcessFailed)
        assert error.returncode == 3
    assert count(log) == runs


@pytest.mark.needs("kills")
@pytest.mark.parametrize("how", [0, signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("on", ["worker lost", (), WorkerLost])
def test_on_a_worker_that_died(batch: Batch, log: str, how: int, on: Any) -> None:
    task = batch.function(die_until, log, 3, how, retries=Retry(2, on=on))
    assert task.run(timeout=work.PATIENCE_S) == 3
    errors = [attempt.error for attempt in task.attempts]
    assert [type(error) for error in errors] == [WorkerLost, WorkerLost, type(None)]
    assert isinstance(errors[0], WorkerLost)
    assert errors[0].signal == how
    assert errors[0].uid == task.uid


@pytest.mark.needs("kills")
def test_a_dead_worker_is_not_what_was_asked_for(batch: Batch, log: str) -> None:
    task = batch.function(die_until, log, 2, signal.SIGKILL, retries=Retry(2, on=ValueError))
    with pytest.raises(WorkerLost):
        task.run(timeout=work.PATIENCE_S)
    assert count(log) == 1


@pytest.mark.needs("kills")
def test_on_a_timeout(batch: Batch, log: str) -> None:
    task = batch.function(nap_until, log, 2, timeout=2, retries=Retry(1, on=TaskTimeout))
    assert task.run(timeout=work.PATIENCE_S) == 2
    assert isinstance(task.attempts[0].error, TaskTimeout)


# -- when --------------------------------------------------------------------------------------


@pytest.mark.needs("background")
def test_pauses_grow(batch: Batch, log: str) -> None:
    task = batch.function(fail_until, log, 4, retries=Retry(3, backoff_s=0.1, factor=2))
    others = [batch.function(work.same, n) for n in range(20)]
    task.start()
    for other in others:
        other.start()
    assert task.get(timeout=work.PATIENCE_S) == 4
    times = [float(line) for line in Path(log).read_text().split()]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert [attempt.delay_s for attempt in task.attempts] == pytest.approx([0.1, 0.2, 0.4, None])
    for pause, wanted in zip(pauses, [0.1, 0.2, 0.4], strict=True):
        assert pause > wanted - 0.01
    assert [other.get() for other in others] == list(range(20))


def test_pauses_vary(batch: Batch, tmp_path: Path) -> None:
    retry = Retry(1, backoff_s=0.01, jitter=0.5)
    tasks = [
        batch.function(fail_until, str(tmp_path / str(n)), 2, retries=retry) for n in range(10)
    ]
    batch.compile(tasks).run(timeout=work.PATIENCE_S)
    delays = [task.attempts[0].delay_s for task in tasks]
    assert all(0.005 <= delay <= 0.015 for delay in delays)
    assert len(set(delays)) > 1


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [-1, 1.5, "3", True, int, [1]])
def test_no_number_of_retries(batch: Batch, retries: Any) -> None:
    with pytest.raises(UsageError, match="retries"):
        batch.function(work.nothing, retries=retries)
    with pytest.raises(UsageError, match="retries"):
        batch.map(work.same, [1], retries=retries)


@pytest.mark.parametrize(
    "given",
    [
        {"times": -1},
        {"times": 1, "backoff_s": -1},
        {"times": 1, "factor": 0.5},
        {"times": 1, "jitter": 2},
        {"times": 1, "on": "worker"},
        {"times": 1, "on": 1.5},
        {"times": 1, "on": int},
    ],
)
def test_no_retry(given: Any) -> None:
    with pytest.raises(UsageError, match="Retry"):
        Retry(**given)
