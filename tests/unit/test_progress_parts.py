"""Waits in slices, when lines are written, and what is counted."""

from __future__ import annotations

import io
import threading
import time
from types import SimpleNamespace

import pytest

from alamo.batch import display, progress
from alamo.batch.counts import Counts, Unfinished, of_program
from alamo.batch.waiting import TICK_S, acquire_until, in_slices
from alamo.testing import InlineBatch


def test_a_wait_without_a_tick_is_one_wait() -> None:
    waits: list[float | None] = []

    def wait(left: float | None) -> bool:
        waits.append(left)
        return False

    assert not in_slices(wait, None, None)
    assert waits == [None]


def test_a_wait_in_slices_ends_at_once_and_ticks_before_each() -> None:
    waits: list[float | None] = []
    ticks: list[int] = []

    def wait(left: float | None) -> bool:
        waits.append(left)
        return len(waits) == 3

    assert in_slices(wait, None, lambda: ticks.append(len(waits)))
    assert ticks == [0, 1, 2]
    assert all(left is not None and 0 < left <= TICK_S for left in waits)


def test_the_last_slice_ends_at_the_deadline() -> None:
    waits: list[float | None] = []

    def wait(left: float | None) -> bool:
        waits.append(left)
        return False

    assert not in_slices(wait, time.monotonic() - 1.0, lambda: None)
    assert waits == [0.0]


def test_a_lock_that_is_free_is_taken_without_waiting() -> None:
    lock = threading.Lock()
    assert acquire_until(lock, None, lambda: None)
    assert not acquire_until(lock, time.monotonic(), lambda: None)


def test_lines_grow_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    out = io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=out, modules={}))
    lines = progress._Lines(progress._bars(), "task 1", 0, 0.0)
    written = []
    for second in range(301):
        now_s = 1000.0 + second
        before = out.getvalue()
        lines.draw(Counts(done=second, waiting=300 - second, total=300))
        if out.getvalue() != before:
            written.append(second)
    assert written == [5, 15, 35, 75, 135, 195, 255]
    lines.close()
    last = out.getvalue().splitlines()[-1]
    assert last == "task 1: 100% 300/300 [05:00<00:00,  1.00task/s, 300 done]"


def test_lines_of_an_unknown_length(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=out, modules={}))
    lines = progress._Lines(progress._bars(), "task 1", 0, 10.0)
    lines.draw(Counts(done=20, waiting=1, total=None))
    assert out.getvalue() == "task 1: 20task [00:10,  2.00task/s, 20 done, 1 waiting]\n"


def test_counts() -> None:
    one = Counts(done=1, waiting=2, total=3)
    assert one.plus(Counts(failed=1, skipped=1, total=2)) == Counts(1, 1, 1, 0, 2, 5)
    assert one.plus(Counts(total=None)).total is None
    assert str(Counts()) == "none yet"


def test_programs_that_have_ended_are_let_go() -> None:
    with InlineBatch(num_workers=1) as batch:
        go_on = iter(range(10))
        array = batch.map(abs, (next(go_on) for _ in range(10)))
        array.start()
        count = Unfinished(batch._client)
        assert count() == Counts(total=None)
        array.wait()
        assert count() == Counts(done=10, total=10)
        assert count._programs == []
        assert count() == Counts(done=10, total=10)


def test_looking_costs_no_more_when_there_is_more() -> None:
    """No element of an array is looked at, nor a failure that is not shown."""
    with InlineBatch(num_workers=1) as batch:
        array = batch.map(int, ["no"] * 2000)
        array.start()
        array.wait()
        program = array.program
        assert program is not None
        read = 0
        data = program._data

        def counted(element: int) -> bytes:
            nonlocal read
            read += 1
            return data(element)

        program._data = counted  # type: ignore[method-assign]
        assert "2000 failed" in repr(array)
        assert "and 1995 more" in array._repr_html_()
        assert read == 10
        assert of_program(program) == Counts(failed=2000, total=2000)


def test_durations() -> None:
    shown = [display._duration(seconds) for seconds in (0.01234, 59.9, 61, 7260)]
    assert shown == ["0.0123 s", "59.9 s", "1 min 1 s", "2 h 1 min"]
