"""The life of a Batch: context manager, close, join, terminate, dropped."""

from __future__ import annotations

import contextlib
import gc
import queue
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch, BatchBroken, SubmitAfterClose, WaitTimeout


def test_context_manager_closes_and_joins(make_batch: MakeBatch, tmp_path: Path) -> None:
    with make_batch(num_workers=1) as one:
        assert isinstance(one, Batch)
        task = one.function(work.append_line, str(tmp_path / "f"), "ran")
        task.start()
    assert (tmp_path / "f").read_text() == "ran\n"  # all work was done
    assert task.result.get() is None  # results stay
    with pytest.raises(SubmitAfterClose):
        one.function(work.nothing)
    assert "closed" in repr(one)


@pytest.mark.needs("background", "kills")
def test_context_manager_terminates_at_an_exception(make_batch: MakeBatch, tmp_path: Path) -> None:
    with work.quick(), contextlib.suppress(KeyError), make_batch(num_workers=1) as one:
        task = one.function(work.wait_for_file, str(tmp_path / "never"))
        task.start()
        raise KeyError("mine")
    with pytest.raises(BatchBroken, match=f"task {task.uid}"):
        task.result.get()


def test_explicit_end_inside_the_context(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=1) as one:
        one.close()
        one.join()
    with make_batch(num_workers=1) as one:
        one.terminate()
    with make_batch(num_workers=1) as one:
        one.close()


def test_close_join_and_terminate_again_do_nothing(make_batch: MakeBatch) -> None:
    one = make_batch(num_workers=1)
    one.close()
    one.close()
    one.join()
    one.join()
    one.terminate()
    one.close()
    other = make_batch(num_workers=1)
    other.terminate()
    other.terminate()
    other.close()
    other.join()


@pytest.mark.needs("background")
def test_join_with_a_timeout(make_batch: MakeBatch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = make_batch(num_workers=1)
    task = one.function(work.wait_for_file, str(gate))
    task.start()
    one.close()
    before = threading.active_count()
    for timeout in (0.2, 0, -1):

        def join(timeout: float = timeout) -> None:
            with pytest.raises(TimeoutError) as error:
                one.join(timeout=timeout)
            assert isinstance(error.value, WaitTimeout)

        work.in_time(5, join)
    assert threading.active_count() <= before  # others may have ended meanwhile
    gate.touch()
    one.join(timeout=1e9)
    assert task.result.get() == str(gate)


@pytest.mark.needs("background", "kills")
def test_terminate_ends_waits_and_running_tasks(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=2)
    tasks = [one.function(work.wait_for_file, str(tmp_path / "never")) for _ in range(4)]
    handles = [t.start()[0] for t in tasks]
    whole = one.compile([one.function(work.wait_for_file, str(tmp_path / "never"))])
    whole.start()
    errors: queue.Queue[BaseException] = queue.Queue()

    def wait(call: Any) -> None:
        try:
            call()
        except BaseException as error:
            errors.put(error)

    calls = [h.get for h in handles] + [whole.wait, tasks[0].wait, whole.result.get]
    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    with work.quick():
        one.terminate()
        for thread in threads:
            thread.join(work.PATIENCE_S)
    found = [errors.get(timeout=work.PATIENCE_S) for _ in calls]
    assert {type(e) for e in found} == {BatchBroken}
    assert all("terminated" in str(e) and "task" in str(e) for e in found)
    part = tasks[0]
    for submit in (lambda: one.function(work.nothing), lambda: one.compile([part]), handles[0].get):
        with pytest.raises((BatchBroken, SubmitAfterClose)):
            submit()


@pytest.mark.needs("background", "kills")
def test_a_dropped_batch_terminates(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    ended = tmp_path / "ended"
    one.function(work.wait_for_file, str(tmp_path / "never")).start()
    one.function(work.write_text, ended, "").start()
    seen = weakref.ref(one)
    with work.quick():
        del one
        gc.collect()
    assert seen() is None
    assert not ended.exists()


@pytest.mark.needs("background")
def test_interrupted_waits_can_be_taken_up_again(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    with pytest.raises(KeyboardInterrupt):
        work.interrupted(task.wait)
    gate.touch()
    assert task.result.get() == str(gate)
