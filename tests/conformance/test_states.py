"""``task.state`` and ``alamo.explain``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import Batch, BatchBroken, Retry, UsageError


def announce_and_wait(path: str, gate: str) -> None:
    Path(path).touch()
    work.wait_for_file(gate)


def fail(path: str) -> None:
    work.append_line(path, "x")
    raise OSError("disk on fire")


def test_before_and_after(batch: Batch) -> None:
    task = batch.function(work.same, 1, name="one")
    assert task.state == "created"
    assert alamo.explain(task) == f"{task.title()} has not been started: call start() or run()."
    task.run()
    assert task.state == "done"
    assert alamo.explain(task) == f"{task.title()} has succeeded."


def test_failures(batch: Batch, tmp_path: Path) -> None:
    first = batch.function(fail, str(tmp_path / "log"), name="first", retries=1)
    second = batch.function(work.same, first.result)
    compiled = batch.compile([first, second], name="both")
    assert (compiled.state, first.state, second.state) == ("created",) * 3
    assert "not been started" in alamo.explain(compiled)
    assert "not been started" in alamo.explain(second)
    compiled.start()
    compiled.wait(timeout=work.PATIENCE_S)
    assert (compiled.state, first.state, second.state) == ("failed", "failed", "skipped")
    said = alamo.explain(first)
    assert "first" in said
    assert "OSError: disk on fire (attempt 2)" in said
    assert "did not run: it needs the output of" in alamo.explain(second)
    assert "1 failed, 1 skipped" in alamo.explain(compiled)


def test_success_at_a_second_attempt(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "there"
    task = batch.function(make_or_fail, str(path), retries=1)
    task.run(timeout=work.PATIENCE_S)
    assert alamo.explain(task).endswith("has succeeded in attempt 2.")


def make_or_fail(path: str) -> None:
    fd = os.open(path, os.O_CREAT)
    os.close(fd)
    if os.stat(path).st_size == 0:
        work.append_line(path, "x")
        raise OSError("empty")


def test_arrays(batch: Batch) -> None:
    array = batch.map(work.same, range(10))
    assert array.state == "created"
    assert "not been started" in alamo.explain(array)
    array.run()
    assert array.state == "done"
    assert "10 done" in alamo.explain(array)
    empty = batch.map(work.same, [])
    empty.run()
    assert empty.state == "done"
    failing = batch.map(work.fail, [OSError("x")])
    failing.start()
    failing.wait()
    assert failing.state == "failed"


def test_a_cancelled_task(batch: Batch) -> None:
    task = batch.function(work.same, 1)
    task.cancel("no need")
    assert alamo.explain(task).endswith("was cancelled before it began: no need.")


@pytest.mark.needs("background")
def test_while_it_goes_on(make_batch: MakeBatch, tmp_path: Path) -> None:
    with make_batch(num_workers=1) as batch:
        path, gate = tmp_path / "runs", tmp_path / "gate"
        first = batch.function(announce_and_wait, str(path), str(gate), name="first")
        second = batch.function(work.same, first.result, name="second")
        third = batch.function(work.everything, first.result, second.result)
        beside = batch.function(work.same, 1)
        compiled = batch.compile([first, second, third, beside])
        compiled.start()
        work.wait_until(path.exists)
        assert first.state == "running"
        said = alamo.explain(first)
        assert "(first) runs on " in said
        assert "pid" in said
        assert second.state == "waiting"
        assert alamo.explain(second) == f"{second.title()} waits for the end of {first.title()}."
        said = alamo.explain(third)
        assert first.title() in said
        assert second.title() in said
        assert beside.state == "ready"
        assert "is ready" in alamo.explain(beside)
        assert compiled.state == "running"
        assert "4 waiting" in alamo.explain(compiled)
        later = batch.map(work.same, range(3))
        later.start()
        assert later.state == "ready"
        assert "is ready" in alamo.explain(later)
        gate.touch()
        compiled.wait(timeout=work.PATIENCE_S)
        assert compiled.state == "done"
        assert later.get(timeout=work.PATIENCE_S) == [0, 1, 2]


@pytest.mark.needs("background")
def test_between_attempts(batch: Batch, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    task = batch.function(fail, log, retries=Retry(3, backoff_s=1000))
    task.start()
    work.wait_until(lambda: len(task.attempts) == 1)
    assert task.state == "waiting"
    said = alamo.explain(task)
    assert "failed in attempt 1 (OSError: disk on fire) and is tried again in " in said
    task.cancel()
    task.wait(timeout=work.PATIENCE_S)


@pytest.mark.needs("background", "parallel")
def test_what_needs_more_than_is_free(make_batch: MakeBatch, tmp_path: Path) -> None:
    with make_batch(num_workers=2) as batch:
        path, gate = tmp_path / "runs", tmp_path / "gate"
        holder = batch.function(announce_and_wait, str(path), str(gate), name="holder")
        holder.start()
        work.wait_until(path.exists)
        wide = batch.function(work.same, 1, policy=alamo.Policy(cores=2))
        wide.start()
        assert wide.state == "ready"
        said = alamo.explain(wide)
        assert "needs 2 cores where 1 is free" in said
        assert "held by" in said
        assert "holder" in said
        gate.touch()
        assert wide.get(timeout=work.PATIENCE_S) == 1


@pytest.mark.needs("background")
def test_when_the_batch_has_ended(make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(num_workers=1)
    task = batch.function(work.wait_for_file, str(tmp_path / "never"))
    task.start()
    batch.terminate()
    with pytest.raises(BatchBroken):
        _ = task.state
    assert "will get no result" in alamo.explain(task)
    assert not task.cancel()


def test_options_are_told_apart(batch: Batch) -> None:
    """All at once, for every kind of task."""
    options = {"timeout": 60, "retries": 2, "policy": alamo.Policy(), "priority": 5, "name": "all"}
    task = batch.function(work.same, 1, **options)
    array = batch.map(work.same, range(3), **options)
    process = batch.process(("true",), **options)
    compiled = batch.compile([task, array, process], priority=-3)
    compiled.run(timeout=work.PATIENCE_S)
    assert (task.get(), array.get(), process.get()) == (1, [0, 1, 2], 0)


@pytest.mark.parametrize("priority", ["high", 1.5, True, 1 << 40])
def test_no_priority(batch: Batch, priority: object) -> None:
    with pytest.raises(UsageError, match="priority="):
        batch.function(work.same, 1, priority=priority)  # type: ignore[arg-type]


def test_what_can_never_be_had(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=2) as batch:
        with pytest.raises(alamo.PolicyError, match=r"4 cores.*2 slots") as caught:
            batch.function(work.same, 1, policy=alamo.Policy(cores=4))
        assert isinstance(caught.value, ValueError)
        task = batch.function(work.same, 1, policy=alamo.Policy(cores=4, oversubscribe=True))
        assert task.run(timeout=work.PATIENCE_S) == 1


@pytest.mark.needs("background")
def test_the_higher_priority_goes_first(make_batch: MakeBatch, tmp_path: Path) -> None:
    with make_batch(num_workers=1) as batch:
        path, gate, log = tmp_path / "runs", tmp_path / "gate", tmp_path / "log"
        batch.function(announce_and_wait, str(path), str(gate)).start()
        work.wait_until(path.exists)
        tasks = [
            batch.function(work.append_line, str(log), str(n), priority=n) for n in (1, 3, 0, 2)
        ]
        for task in tasks:
            task.start()
        gate.touch()
        batch.fence(timeout=work.PATIENCE_S)
        found = log.read_text().split()
        found.remove("1")  # a worker that is busy may have been given the first already
        assert found == ["3", "2", "0"]
