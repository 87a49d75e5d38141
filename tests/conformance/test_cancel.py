"""``cancel``: waiting, ready, running, retried and unstarted tasks of every kind."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import Batch, Retry, TaskCancelled, UpstreamFailed, UsageError


def announce_and_sleep(path: str) -> None:
    Path(path).touch()
    time.sleep(work.PATIENCE_S)


def announce_and_count(path: str) -> int:
    """Sits in C code, where no signal handler of Python runs."""
    Path(path).touch()
    return sum(itertools.repeat(1, 10**13))


def announce_and_spawn(path: str) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({10**4})"])
    Path(path + ".new").write_text(str(child.pid))
    os.rename(path + ".new", path)
    child.wait()
    time.sleep(work.PATIENCE_S)


def fail_and_note(path: str) -> None:
    work.append_line(path, "x")
    raise OSError("not yet")


def await_path(path: Path) -> None:
    work.wait_until(path.exists)


def error_of(task: Any) -> BaseException:
    with pytest.raises(Exception) as caught:
        task.get(timeout=work.PATIENCE_S)
    return caught.value


# -- before the start --------------------------------------------------------------------------


def test_a_task_that_was_not_started(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    task = batch.function(Path.touch, path, name="early")
    assert task.cancel("changed my mind")
    assert task.state == "cancelled"
    assert not task.cancel()
    result, stdout, _ = task.start()
    task.wait(timeout=work.PATIENCE_S)
    assert stdout.get() == ""
    with pytest.raises(TaskCancelled, match=r"early.* cancelled .*: changed my mind") as caught:
        result.get()
    assert caught.value.uid == task.uid
    assert not path.exists()
    with pytest.raises(RuntimeError):
        batch.compile([task])


def test_an_array_that_was_not_started(batch: Batch) -> None:
    array = batch.map(work.same, range(5))
    assert array.cancel("no")
    array.start()
    with pytest.raises(TaskCancelled, match="no"):
        array.get(timeout=work.PATIENCE_S)
    assert array.state == "cancelled"


def test_subtasks_before_the_start(batch: Batch) -> None:
    first = batch.function(work.same, 1)
    second = batch.function(work.same, first.result)
    other = batch.function(work.same, 3)
    compiled = batch.compile([first, second, other])
    assert first.cancel("not needed")
    assert first.state == "cancelled"
    assert compiled.state == "created"
    with pytest.warns(RuntimeWarning, match="1 were cancelled and 1 did not run"):
        compiled.run(timeout=work.PATIENCE_S)
    assert other.get() == 3
    assert isinstance(error_of(first), TaskCancelled)
    error = error_of(second)
    assert isinstance(error, UpstreamFailed)
    assert error.root_uid == first.uid
    assert isinstance(error.__cause__, TaskCancelled)
    assert [task.state for task in (first, second, other)] == ["cancelled", "skipped", "done"]


def test_all_of_a_compiled_task_before_the_start(batch: Batch, tmp_path: Path) -> None:
    called: list[int] = []
    log = tmp_path / "log"
    tasks = [batch.function(work.append_line, str(log), str(n)) for n in range(3)]
    tasks.append(batch.map(work.append_line, [str(log)] * 3, "abc"))
    compiled = batch.compile(tasks, callback_func=lambda: called.append(1))
    assert compiled.cancel()
    assert compiled.state == "cancelled"
    compiled.start()
    compiled.wait(timeout=work.PATIENCE_S)
    assert all(isinstance(error_of(task), TaskCancelled) for task in tasks)
    assert not log.exists()
    assert not called
    with pytest.raises(ExceptionGroup):
        compiled.raise_failures()


def test_what_has_ended_is_left_alone(batch: Batch) -> None:
    task = batch.function(work.same, 1)
    assert task.run() == 1
    assert not task.cancel()
    assert task.get() == 1
    array = batch.map(work.same, range(3))
    array.run()
    assert not array.cancel()
    compiled = batch.compile([batch.function(work.same, 2)])
    compiled.run()
    assert not compiled.cancel()
    assert array.get() == [0, 1, 2]


@pytest.mark.parametrize("reason", [3, b"bytes", ["list"]])
def test_a_reason_is_a_text(batch: Batch, reason: Any) -> None:
    with pytest.raises(UsageError, match="reason="):
        batch.function(work.same).cancel(reason)


# -- while it runs -----------------------------------------------------------------------------


@pytest.mark.needs("background", "kills")
@pytest.mark.parametrize("function", [announce_and_sleep, announce_and_count])
def test_a_running_task(batch: Batch, tmp_path: Path, function: Any) -> None:
    path = tmp_path / "runs"
    task = batch.function(function, str(path), name="long", retries=3)
    task.start()
    await_path(path)
    assert task.cancel("enough")
    error = error_of(task)
    assert isinstance(error, TaskCancelled)
    assert "long" in str(error)
    assert "while it ran" in str(error)
    assert str(error).endswith(": enough")
    assert task.state == "cancelled"
    assert len(task.attempts) == 1
    assert batch.function(work.same, 5).run(timeout=work.PATIENCE_S) == 5


@pytest.mark.needs("background", "kills", "processes")
def test_what_a_running_task_has_started_ends(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    task = batch.function(announce_and_spawn, str(path))
    task.start()
    await_path(path)
    child = int(path.read_text())
    assert task.cancel()
    assert isinstance(error_of(task), TaskCancelled)
    work.wait_until(lambda: not work.alive(child))


@pytest.mark.needs("background", "kills")
def test_output_until_then_is_kept(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    task = batch.function(say_and_sleep, str(path))
    task.start()
    await_path(path)
    task.cancel()
    assert isinstance(error_of(task), TaskCancelled)
    assert task.stdout.get() == "so far\n"


def say_and_sleep(path: str) -> None:
    print("so far", flush=True)
    announce_and_sleep(path)


@pytest.mark.needs("background", "kills")
def test_ready_and_waiting_tasks(make_batch: MakeBatch, tmp_path: Path) -> None:
    with make_batch(num_workers=1) as batch:
        path, log = tmp_path / "runs", tmp_path / "log"
        first = batch.function(announce_and_sleep, str(path), writes=batch.write(("x",), 1))
        waiting = batch.function(work.append_line, str(log), "a", reads=batch.read(("x",), 1))
        ready = batch.function(work.append_line, str(log), "b")
        later = batch.function(work.append_line, str(log), "c", writes=batch.write(("x",), 1))
        compiled = batch.compile([first, waiting, ready, later])
        compiled.start()
        await_path(path)
        assert waiting.cancel("waits")
        assert ready.cancel("is ready")
        for task, why in ((waiting, "waits"), (ready, "is ready")):
            error = error_of(task)
            assert "before it began" in str(error)
            assert str(error).endswith(f": {why}")
        assert first.cancel()
        compiled.wait(timeout=work.PATIENCE_S)
        assert later.state == "done"
        assert log.read_text() == "c\n"


@pytest.mark.needs("background", "kills")
def test_a_diamond(batch: Batch, tmp_path: Path) -> None:
    called: list[int] = []
    path = tmp_path / "runs"
    top = batch.function(work.same, 1)
    left = batch.function(announce_and_sleep, str(path), reads=batch.read(("d",), 0))
    right = batch.function(work.add, top.result, 1)
    bottom = batch.function(work.everything, left.result, right.result)
    compiled = batch.compile([top, left, right, bottom], callback_func=lambda: called.append(1))
    compiled.start()
    await_path(path)
    assert right.get(timeout=work.PATIENCE_S) == 2
    assert compiled.state == "running"
    assert compiled.cancel("all of it")
    compiled.wait(timeout=work.PATIENCE_S)
    assert (top.get(), right.get()) == (1, 2)
    assert isinstance(error_of(left), TaskCancelled)
    assert isinstance(error_of(bottom), TaskCancelled)
    assert compiled.state == "cancelled"
    assert not compiled.cancel()
    assert not called


@pytest.mark.needs("background", "kills")
def test_dependants_of_a_cancelled_one(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first = batch.function(announce_and_sleep, str(path), name="root")
    second = batch.function(work.same, first.result)
    third = batch.function(work.same, second.result)
    compiled = batch.compile([first, second, third])
    compiled.start()
    await_path(path)
    first.cancel("gone")
    error = error_of(third)
    assert isinstance(error, UpstreamFailed)
    assert (error.uid, error.root_uid) == (third.uid, first.uid)
    assert "root" in str(error)
    assert "which was cancelled" in str(error)
    compiled.wait(timeout=work.PATIENCE_S)
    assert "1 cancelled" in repr(compiled)
    assert "2 skipped" in repr(compiled)


@pytest.mark.needs("background")
def test_between_two_attempts(batch: Batch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    task = batch.function(fail_and_note, str(log), retries=Retry(5, backoff_s=1000))
    task.start()
    work.wait_until(lambda: len(task.attempts) == 1)
    assert task.cancel("it will not get better")
    error = error_of(task)
    assert isinstance(error, TaskCancelled)
    assert "OSError: not yet" in "".join(error.__notes__)
    assert log.read_text() == "x\n"
    assert len(task.attempts) == 1


# -- arrays ------------------------------------------------------------------------------------


@pytest.mark.needs("background", "kills")
def test_an_array(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    array = batch.map(work.wait_for_file, [__file__] * 5 + [str(gate)] * 10_000)
    result, _, _ = array.start()
    assert result[4] == __file__
    assert array.state == "running"
    assert array.cancel("halfway")
    with pytest.raises(TaskCancelled, match="halfway"):
        result.get(timeout=work.PATIENCE_S)
    outcomes = result.get(partial=True)
    assert [outcome.value for outcome in outcomes[:5]] == [__file__] * 5
    assert all(isinstance(outcome.error, TaskCancelled) for outcome in outcomes[5:])
    assert len(outcomes) == 10_005
    assert array.state == "cancelled"
    assert not array.cancel()
    assert "10000 cancelled" in repr(array)


@pytest.mark.needs("background", "kills")
def test_an_array_without_end(batch: Batch) -> None:
    array = batch.map(work.same, itertools.count())
    array.start()
    assert array.result[1000] == 1000
    assert array.cancel()
    with pytest.raises(TaskCancelled):
        array.get(timeout=work.PATIENCE_S)
    array.wait(timeout=work.PATIENCE_S)
    assert array.result[0] == 0


@pytest.mark.needs("background", "kills")
def test_an_array_among_other_tasks(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    array = batch.map(work.wait_for_file, [str(gate)] * 50)
    total = batch.function(work.same, array.result)
    beside = batch.function(work.same, 1)
    compiled = batch.compile([array, total, beside])
    compiled.start()
    assert beside.get(timeout=work.PATIENCE_S) == 1
    assert array.cancel("not these")
    compiled.wait(timeout=work.PATIENCE_S)
    with pytest.raises(TaskCancelled, match="not these"):
        array.get()
    error = error_of(total)
    assert isinstance(error, UpstreamFailed)
    assert "not these" in str(error)
    assert (array.state, total.state) == ("cancelled", "skipped")


@pytest.mark.needs("background", "kills")
def test_an_array_of_elements_with_accesses(batch: Batch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    array = batch.map(
        work.wait_for_file, [gate] * 5, writes=lambda path: batch.write(("out",), path)
    )
    array.start()
    assert array.cancel("by element")
    with pytest.raises(TaskCancelled, match="by element"):
        array.get(timeout=work.PATIENCE_S)


# -- everything --------------------------------------------------------------------------------


@pytest.mark.needs("background", "kills")
def test_cancel_all(make_batch: MakeBatch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with make_batch(num_workers=2) as batch:
        done = batch.function(work.same, 1)
        done.run()
        singles = [batch.function(work.wait_for_file, gate) for _ in range(5)]
        singles += [batch.function(work.wait_for_file, gate, priority=3)]
        for task in singles:
            task.start()
        compiled = batch.compile([batch.function(work.wait_for_file, gate) for _ in range(4)])
        compiled.start()
        array = batch.map(work.wait_for_file, [gate] * 100)
        array.start()
        idle = batch.compile([batch.function(work.same, 2)])
        assert batch.cancel_all("going home") >= 110
        batch.fence(timeout=work.PATIENCE_S)
        assert all("going home" in str(error_of(task)) for task in [*singles, array])
        assert compiled.state == "cancelled"
        assert done.get() == 1
        assert batch.cancel_all() == 0
        assert batch.function(work.same, 3).run(timeout=work.PATIENCE_S) == 3
        handles = idle.run(timeout=work.PATIENCE_S)
        assert [result.get() for result, _, _ in handles.values()] == [2]


@pytest.mark.needs("background")
def test_ctrl_c_in_a_wait_cancels_nothing(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    with pytest.raises(KeyboardInterrupt):
        work.interrupted(task.wait)
    assert task.state in ("ready", "running")
    gate.touch()
    assert task.get(timeout=work.PATIENCE_S) == str(gate)


@pytest.mark.needs("background", "kills")
def test_as_completed_and_await_see_it(batch: Batch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    tasks = [batch.function(work.wait_for_file, gate) for _ in range(3)]
    for task in tasks:
        task.start()
        task.cancel()
    assert set(alamo.as_completed(tasks, timeout=work.PATIENCE_S)) == set(tasks)
    found = alamo.wait(tasks, timeout=work.PATIENCE_S, return_when=alamo.FIRST_EXCEPTION)
    assert found.done


def test_fence(batch: Batch) -> None:
    called: list[int] = []
    tasks = [batch.function(work.same, n, callback_func=called.append) for n in range(20)]
    for task in tasks:
        task.start()
    failing = batch.compile([batch.function(work.fail, OSError("x")) for _ in range(3)])
    failing.start()
    array = batch.map(work.same, range(100))
    array.start()
    batch.fence(timeout=work.PATIENCE_S)
    assert sorted(called) == list(range(20))
    assert failing.state == "failed"
    assert array.state == "done"


@pytest.mark.needs("background")
def test_a_fence_in_vain(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    with pytest.raises(alamo.WaitTimeout):
        batch.fence(timeout=0.05)
    gate.touch()
    batch.fence(timeout=work.PATIENCE_S)
    assert task.get() == str(gate)
