"""The processes behind a Batch: they begin soon, end with it, and leave nothing open."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import _work as work
from alamo import Batch, UsageError, linux


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


def manager_of(batch: Batch) -> int:
    return int(batch._client.manager_pid)


def closed_and_joined() -> int:
    with Batch(num_workers=1) as one:
        one.function(work.nothing).start()
    return manager_of(one)


def left_by_an_exception() -> int:
    with contextlib.suppress(KeyError), Batch(num_workers=1) as one:
        one.function(time.sleep, 60).start()
        raise KeyError("mine")
    return manager_of(one)


def closed_inside() -> int:
    with Batch(num_workers=1) as one:
        one.close()
    return manager_of(one)


@pytest.mark.parametrize("use", [closed_and_joined, left_by_an_exception, closed_inside])
def test_the_manager_has_ended_when_the_context_is_left(use: Callable[[], int]) -> None:
    with work.quick():
        pid = use()
    assert not work.alive(pid)


def oom_scores() -> tuple[int, int]:
    """Of a worker, and of what its task forks."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, linux.read_file("/proc/self/oom_score_adj"))
        os._exit(0)
    os.waitpid(pid, 0)
    return int(linux.read_file("/proc/self/oom_score_adj")), int(os.read(r, 16))


def test_who_goes_first_when_memory_runs_out(batch: Batch) -> None:
    own = int(linux.read_file("/proc/self/oom_score_adj"))
    manager = int(linux.read_file(f"/proc/{manager_of(batch)}/oom_score_adj"))
    worker, child = batch.function(oom_scores).run()
    assert own == manager
    assert worker == max(own, linux.WORKER_OOM_SCORE)
    assert child == linux.CHILD_OOM_SCORE


def test_the_manager_of_a_dropped_batch_ends() -> None:
    one = Batch(num_workers=1)
    one.function(time.sleep, 60).start()
    pid = manager_of(one)
    del one
    gc.collect()
    work.wait_until(lambda: not work.alive(pid))


def test_two_batches_have_workers_of_their_own(batch: Batch) -> None:
    with Batch(num_workers=1) as other:
        assert other.function(work.pid).run() != batch.function(work.pid).run()


def test_callbacks_run_in_a_daemon_thread_of_a_known_name(batch: Batch) -> None:
    seen: list[threading.Thread] = []
    task = batch.function(
        work.nothing, callback_func=lambda _: seen.append(threading.current_thread())
    )
    task.run()
    assert [(thread.name, thread.daemon) for thread in seen] == [("alamo-callbacks", True)]


def test_many_batches_one_after_the_other_leave_nothing() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use() -> None:
        with Batch(num_workers=1) as one:
            task = one.function(np.ones, 50_000)
            assert task.run().sum() == 50_000
            one.compile([one.function(np.sum, np.ones(50_000))]).run()

    use()
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for _ in range(5):
        use()
    gc.collect()
    work.wait_until(lambda: threading.active_count() <= threads)

    def all_closed() -> bool:  # a block may be freed by a later collection than the first
        gc.collect()
        return descriptors() <= before

    work.wait_until(all_closed)


def test_time_of_start_and_end() -> None:
    def use() -> None:
        with Batch(num_workers=1) as one:
            assert one.function(work.same, 1).run() == 1

    work.in_time(10, use)


def test_a_batch_made_inside_a_task(batch: Batch) -> None:
    def own() -> int:
        with Batch(num_workers=1) as inner:
            return int(inner.function(work.add, 1, 2).run())

    def forgotten() -> int:
        inner = Batch(num_workers=1)
        globals()["kept"] = inner
        inner.function(work.same, 1).start()
        return int(inner._client.manager_pid)

    assert batch.function(own).run(timeout=work.PATIENCE_S) == 3
    pid = batch.function(forgotten).run(timeout=work.PATIENCE_S)
    work.wait_until(lambda: not work.alive(pid))


def run_in_fork(body: Any) -> str:
    """What the body returns in a forked child, which then ends as a process does."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = repr(body())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_end_the_parents_batch(batch: Batch) -> None:
    def drop() -> str:
        client = batch._client
        assert run_in_fork(batch.close) == "None"  # a grandchild
        batch.__del__()
        with pytest.raises(UsageError):
            batch.terminate()
        with pytest.raises(UsageError):
            batch.join()
        return f"{client.closed}"

    def unused() -> None:
        with batch:
            pass

    assert run_in_fork(drop) == "'True'"
    assert run_in_fork(unused) == "None"
    assert batch.function(work.same, 1).run() == 1
    assert work.alive(manager_of(batch))
