"""Callbacks: who is called with what, where, when, and what waits for them."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch, WaitTimeout


class Calls(list[Any]):
    """Remembers what it was called with."""

    def __call__(self, *args: Any) -> None:
        self.append(args)


def test_result_first_then_the_users_arguments(batch: Batch) -> None:
    calls = Calls()
    batch.function(work.same, 5, callback_func=calls, callback_args=("a", [1])).run()
    batch.function(work.nothing, callback_func=calls).run()
    task = batch.function(work.same, 6, callback_func=calls, callback_args=(1,))
    batch.compile([task]).run()
    assert calls == [(5, "a", [1]), (None,), (6, 1)]


def test_only_after_success(batch: Batch) -> None:
    calls = Calls()
    bad = batch.function(work.fail, ValueError("x"), callback_func=calls)
    after = batch.function(work.same, bad.result, callback_func=calls)
    good = batch.function(work.same, 1, callback_func=calls)
    whole = batch.compile([bad, after, good], callback_func=calls, callback_args=("whole",))
    with pytest.warns(RuntimeWarning, match="1 of 3"):
        whole.run()
    single = batch.function(work.fail, ValueError("x"), callback_func=calls)
    single.start()
    single.wait()
    assert calls == [(1,)]
    assert single.callback_error is None


def test_a_compiled_tasks_callback_comes_last_with_the_users_arguments_alone(batch: Batch) -> None:
    calls = Calls()
    tasks = [batch.function(work.same, i, callback_func=calls) for i in range(50)]
    batch.compile(tasks, callback_func=calls, callback_args=("whole", 2)).run()
    assert calls[-1] == ("whole", 2)
    assert sorted(calls[:-1]) == [(i,) for i in range(50)]
    calls.clear()
    batch.compile([batch.function(work.nothing)], callback_func=calls).run()
    assert calls == [()]


@pytest.mark.needs("parallel")
def test_in_completion_order(batch: Batch, tmp_path: Path) -> None:
    """Of two that end the other way round; their calls wait behind one that is under way."""
    calls = Calls()
    go_on = threading.Event()
    ahead = batch.function(work.same, 0, callback_func=lambda _: go_on.wait(work.PATIENCE_S))
    first, second = (
        batch.function(work.wait_for_file, str(tmp_path / name), callback_func=calls)
        for name in ("first", "second")
    )
    for task in (ahead, first, second):
        task.start()
    assert ahead.result.get() == 0
    for task, name in ((second, "second"), (first, "first")):
        (tmp_path / name).touch()
        assert task.result.get(timeout=work.PATIENCE_S)
    assert not calls
    go_on.set()
    for task in (first, second):
        task.wait(work.PATIENCE_S)
    assert calls == [(str(tmp_path / "second"),), (str(tmp_path / "first"),)]


@pytest.mark.needs("background")
def test_in_this_process_off_the_receiver_and_the_callers_thread(batch: Batch) -> None:
    seen: list[tuple[int, threading.Thread]] = []

    def look(_: Any) -> None:
        seen.append((os.getpid(), threading.current_thread()))
        # The receiver is free: this call ends although it waits for a result.
        assert batch.function(work.same, 5).run(timeout=work.PATIENCE_S) == 5

    tasks = [batch.function(work.nothing, callback_func=look) for _ in range(3)]
    for task in tasks:
        task.run(timeout=work.PATIENCE_S)
        assert task.callback_error is None
    ((pid, thread),) = set(seen)
    assert pid == os.getpid()
    assert thread is not threading.current_thread()
    assert thread.daemon


def test_waits_return_after_the_callbacks(batch: Batch) -> None:
    calls: list[Any] = []

    def slowly(value: Any) -> None:
        time.sleep(0.05)
        calls.append(value)

    single = batch.function(work.same, 1, callback_func=slowly)
    single.start()
    single.wait()
    assert calls == [1]
    assert batch.function(work.same, 2, callback_func=slowly).run() == 2
    assert calls == [1, 2]
    parts = [batch.function(work.same, i, callback_func=slowly) for i in (3, 4)]
    whole = batch.compile(parts, callback_func=lambda: slowly("whole"))
    whole.start()
    whole.wait()
    assert calls == [1, 2, 3, 4, "whole"] or calls == [1, 2, 4, 3, "whole"]


def test_join_returns_after_the_callbacks(make_batch: MakeBatch) -> None:
    calls: list[Any] = []

    def slowly(value: Any) -> None:
        time.sleep(0.05)
        calls.append(value)

    one = make_batch(num_workers=1)
    one.compile(
        [one.function(work.same, i, callback_func=slowly) for i in range(4)],
        callback_func=slowly,
        callback_args=("whole",),
    ).start()
    one.close()
    one.join()
    assert calls == [0, 1, 2, 3, "whole"]


@pytest.mark.needs("background")
def test_join_with_a_timeout_over_a_long_callback(make_batch: MakeBatch) -> None:
    go_on = threading.Event()
    one = make_batch(num_workers=1)
    one.function(work.nothing, callback_func=lambda _: go_on.wait(work.PATIENCE_S)).start()
    one.close()
    with pytest.raises(WaitTimeout):
        one.join(timeout=0.3)
    go_on.set()
    one.join()


@pytest.mark.needs("background")
def test_get_does_not_wait_for_callbacks(batch: Batch) -> None:
    go_on = threading.Event()
    task = batch.function(work.same, 5, callback_func=lambda _: go_on.wait(work.PATIENCE_S))
    result, stdout, _ = task.start()
    with work.quick():
        assert result.get() == 5
        assert stdout.get() == ""
    with pytest.raises(WaitTimeout, match="callback"):
        task.wait(timeout=0.05)
    whole = batch.compile([batch.function(work.same, 6, callback_func=lambda _: None)])
    whole.start()
    assert whole.result.get() == 6
    with pytest.raises(WaitTimeout):
        whole.wait(timeout=0.05)
    go_on.set()
    task.wait()
    whole.wait()


def test_waits_inside_a_callback_do_not_wait_for_callbacks(batch: Batch) -> None:
    seen: list[Any] = []
    first = batch.function(work.same, 1)
    second = batch.function(work.same, 2, callback_func=lambda _: None)
    both = batch.compile([first, second])

    def inside(_: Any) -> None:
        task.wait(timeout=work.PATIENCE_S)  # its own task
        both.wait(timeout=work.PATIENCE_S)
        seen.append(batch.function(work.same, 3, callback_func=print).run(timeout=work.PATIENCE_S))
        seen.append(task.result.get())

    task = batch.function(work.same, 0, callback_func=inside)
    both.start()
    task.start()
    task.wait(work.PATIENCE_S)
    assert task.callback_error is None
    assert seen == [3, 0]


def test_an_error_is_logged_and_kept(batch: Batch, caplog: pytest.LogCaptureFixture) -> None:
    def bad(*_: Any) -> None:
        raise LookupError("in the callback")

    calls = Calls()
    task = batch.function(work.same, 1, callback_func=bad, name="odd")
    assert task.run() == 1
    assert isinstance(task.callback_error, LookupError)
    assert "in the callback" in str(task.callback_error)
    assert task.callback_error.__traceback__ is not None
    record = caplog.records[-1]
    assert (record.name, record.levelno) == ("alamo", logging.ERROR)
    assert "odd" in record.getMessage()
    assert record.exc_info is not None
    good = batch.function(work.same, 2, callback_func=calls)
    whole = batch.compile(
        [good, batch.function(work.same, 3, callback_func=bad)], callback_func=bad
    )
    whole.run()
    assert calls == [(2,)]
    assert isinstance(whole.callback_error, LookupError)
    for error in (SystemExit(3), KeyboardInterrupt()):
        task = batch.function(work.same, 1, callback_func=lambda _, e=error: work.fail(e))
        task.run()
        assert task.callback_error is error
    assert batch.function(work.same, 1, callback_func=calls).run() == 1  # the thread lives
    assert len(calls) == 2


@pytest.mark.needs("processes")
def test_a_result_that_does_not_load_gives_no_call(batch: Batch) -> None:
    calls = Calls()
    task = batch.function(work.loads_only_there, callback_func=calls)
    task.start()
    task.wait(work.PATIENCE_S)
    assert calls == []
    assert task.callback_error is not None


def test_callbacks_may_submit(batch: Batch) -> None:
    done = threading.Event()
    values: list[int] = []

    def onwards(value: int) -> None:
        values.append(value)
        if value < 20:
            batch.function(work.add, value, 1, callback_func=onwards).start()
        else:
            done.set()

    batch.function(work.same, 0, callback_func=onwards).start()
    assert done.wait(work.PATIENCE_S)
    assert values == list(range(21))


def test_large_results_reach_callbacks(batch: Batch) -> None:
    calls = Calls()
    task = batch.function(np.arange, 50_000, callback_func=calls)
    assert task.run() is calls[0][0]


def test_callbacks_run_once_each(batch: Batch) -> None:
    calls = Calls()
    singles = [batch.function(work.same, i, callback_func=calls) for i in range(300)]
    for task in singles:
        task.start()
    parts = [batch.function(work.same, i, callback_func=calls) for i in range(300, 3000)]
    batch.compile(parts).run()
    for task in singles:
        task.wait()
    assert sorted(calls) == [(i,) for i in range(3000)]
