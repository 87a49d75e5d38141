"""Waits that show how far they are."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
from _terminal import Gone, Screen, on_screen
from alamo import Batch, UsageError, WaitTimeout


@pytest.fixture
def screen() -> Screen:
    return Screen()


def numbers(count: int) -> Iterator[int]:
    """Of a length that nobody knows beforehand."""
    yield from range(count)


@on_screen
def test_a_single_task(batch: Batch, screen: Screen) -> None:
    task = batch.function(work.add, 2, 3, name="sum\nof two")
    assert task.run(progress=True) == 5
    assert f"task {task.uid} (sum of two): 100%" in screen.drawn[-1]
    assert "1/1" in screen.drawn[-1]
    assert "1 done" in screen.drawn[-1]
    assert screen.getvalue().endswith("\n")  # the cursor is below
    assert "\x1b[?25l" not in screen.getvalue()  # and was never hidden


@on_screen
def test_a_single_task_that_fails(batch: Batch, screen: Screen) -> None:
    with pytest.raises(KeyError, match="mine"):
        batch.function(work.fail, KeyError("mine")).run(progress=True)
    assert "1 failed" in screen.drawn[-1]


@on_screen
def test_a_compiled_task_counts_by_state(batch: Batch, screen: Screen) -> None:
    bad = batch.function(work.fail, ValueError("no"))
    needs = [batch.function(work.same, bad.result) for _ in range(3)]
    good = [batch.function(work.same, i) for i in range(6)]
    with pytest.warns(RuntimeWarning):
        handles = batch.compile([bad, *needs, *good], name="all").run(progress=True)
    assert len(handles) == 10
    assert "100%" in screen.drawn[-1]
    assert "10/10" in screen.drawn[-1]
    assert "6 done, 1 failed, 3 skipped" in screen.drawn[-1]


@on_screen
def test_an_array(batch: Batch, screen: Screen) -> None:
    assert batch.map(abs, range(-500, 500)).run(progress=True) == [abs(i) for i in range(-500, 500)]
    assert "1000/1000" in screen.drawn[-1]
    assert "1000 done" in screen.drawn[-1]


@on_screen
def test_an_array_with_failures(batch: Batch, screen: Screen) -> None:
    with pytest.raises(ExceptionGroup):
        batch.map(work.fail, [ValueError(str(i)) for i in range(5)]).run(progress=True)
    assert "5 failed" in screen.drawn[-1]


@on_screen
def test_an_array_of_unknown_length_gets_its_total(batch: Batch, screen: Screen) -> None:
    assert batch.map(work.same, numbers(50)).run(progress=True) == list(range(50))
    assert "100%" in screen.drawn[-1]
    assert "50/50" in screen.drawn[-1]


@pytest.mark.needs("background")
@on_screen
def test_a_length_that_is_not_known_is_not_shown(batch: Batch, screen: Screen) -> None:
    go_on = threading.Event()

    def some() -> Iterator[int]:
        yield from range(7)
        go_on.wait(work.PATIENCE_S)
        yield 7

    task = batch.map(work.same, some())
    task.start()
    waiter = threading.Thread(target=lambda: task.wait(work.PATIENCE_S, progress=True))
    waiter.start()
    work.wait_until(lambda: any(": 7task [" in line for line in screen.drawn))
    assert not any("%" in line for line in screen.drawn)
    go_on.set()
    waiter.join()
    assert "8/8" in screen.drawn[-1]


@on_screen
def test_arrays_in_a_compiled_task_count_by_element(batch: Batch, screen: Screen) -> None:
    array = batch.map(work.same, range(40))
    total = batch.function(sum, array.result)
    batch.compile([array, total]).run(progress=True)
    assert total.result.get() == sum(range(40))
    assert "41/41" in screen.drawn[-1]
    assert "41 done" in screen.drawn[-1]


@on_screen
def test_a_skipped_array_counts_by_element(batch: Batch, screen: Screen) -> None:
    bad = batch.function(work.fail, ValueError("no"), writes=batch.write("/nowhere", "x"))
    array = batch.map(work.same, range(40), reads=batch.read("/nowhere", "x"))
    with pytest.warns(RuntimeWarning):
        batch.compile([bad, array]).run(progress=True)
    assert "1 failed, 40 skipped" in screen.drawn[-1]


@on_screen
def test_elements_with_accesses_of_their_own(batch: Batch, screen: Screen) -> None:
    task = batch.map(work.same, range(9), writes=lambda i: batch.write("/nowhere", str(i)))
    assert task.run(progress=True) == list(range(9))
    assert "9/9" in screen.drawn[-1]


@on_screen
def test_join(make_batch: MakeBatch, screen: Screen) -> None:
    one = make_batch(num_workers=2)
    tasks = [one.function(work.same, i) for i in range(10)]
    for task in tasks:
        task.start()
    one.close()
    one.join(progress=True)
    assert [task.result.get() for task in tasks] == list(range(10))
    assert screen.getvalue().endswith("\n")
    one.join(progress=True)  # there is nothing to show


@pytest.mark.needs("background")
@on_screen
def test_join_counts_what_has_not_ended(
    make_batch: MakeBatch, screen: Screen, tmp_path: Path
) -> None:
    one = make_batch(num_workers=2)
    one.compile([one.function(work.nothing)]).run()
    gate = tmp_path / "gate"
    array = one.map(work.same, range(20))
    waits = one.function(work.wait_for_file, str(gate))
    one.compile([array, waits]).start()
    one.function(work.wait_for_file, str(gate)).start()
    one.close()
    with pytest.raises(WaitTimeout):
        one.join(0.3, progress=True)
    assert "/22 " in screen.drawn[-1]
    gate.touch()
    one.join(work.PATIENCE_S, progress=True)
    assert "100%" in screen.drawn[-1]


@pytest.mark.needs("background")
@pytest.mark.parametrize("shape", ["single", "compiled", "array"])
@on_screen
def test_timeouts(batch: Batch, screen: Screen, tmp_path: Path, shape: str) -> None:
    gate = str(tmp_path / "gate")
    task = batch.function(work.wait_for_file, gate)
    if shape == "compiled":
        task = batch.compile([task])
    elif shape == "array":
        task = batch.map(work.wait_for_file, [gate])
    with work.quick(), pytest.raises(WaitTimeout):
        task.run(0.35, progress=True)
    assert "1 waiting" in screen.drawn[-1]
    assert screen.getvalue().endswith("\n")
    assert 2 <= len(screen.drawn) <= 10  # some times a second
    Path(gate).touch()
    task.wait(work.PATIENCE_S, progress=True)
    assert "1/1" in screen.drawn[-1]


@on_screen
def test_no_thread_draws(batch: Batch, screen: Screen) -> None:
    batch.function(work.nothing).run()
    before = set(threading.enumerate())
    batch.function(work.nothing).run(progress=True)
    assert set(threading.enumerate()) <= before


def test_a_terminal_that_goes_does_not_end_the_wait(batch: Batch) -> None:
    for stderr in (Gone(), None):
        with redirect_stderr(stderr):
            assert batch.map(work.same, range(10)).run(progress=True) == list(range(10))


def test_elsewhere_a_short_wait_is_silent(batch: Batch) -> None:
    with redirect_stderr(io.StringIO()) as out:
        batch.map(work.same, range(10)).run(progress=True)
    assert out.getvalue() == ""


def run_in_sight(batch: Batch) -> Any:
    """A task's own wait."""
    return batch.function(work.same, 5).run(progress=True)


@pytest.mark.needs("nesting")
def test_nested_it_is_the_stderr_of_the_task_that_counts(batch: Batch) -> None:
    task = batch.function(run_in_sight, batch)
    with redirect_stderr(Screen()) as screen:
        assert task.run(work.PATIENCE_S) == 5
    assert screen.getvalue() == ""
    assert task.stderr.get() == ""  # where it is no terminal, a short wait is silent


def test_without_tqdm_the_error_names_the_extra(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    task = batch.function(work.same, 1)
    with pytest.raises(UsageError, match=r"pip install alamo\[progress\]"):
        task.run(progress=True)
    assert task.run() == 1  # it had not been started
    with pytest.raises(UsageError, match=r"pip install alamo\[progress\]"):
        task.wait(progress=True)
    task.wait()
