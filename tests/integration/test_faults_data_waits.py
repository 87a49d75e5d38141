"""Waits for shared data on this machine: what ends them, and what is left of one that ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import _faults as f
import pytest

import _work as work
import alamo
from alamo import Batch, BatchBroken, MemoryLimitExceeded, Policy, TaskCancelled, TaskTimeout


def wait_until_it_waits(task: Any) -> None:
    f.until(lambda: "waits for shared data" in alamo.explain(task), "a wait for data")


def runs_something(batch: Batch) -> bool:
    return bool(batch.function(pow, 2, 3).run(timeout=f.PATIENCE_S) == 8)


# -- what ends a wait ------------------------------------------------------------------------------


def test_a_time_limit_ends_a_wait(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(work.await_mail, str(tmp_path / "box"), timeout=0.3)
        with pytest.raises(TaskTimeout):
            task.run(timeout=f.PATIENCE_S)
        assert runs_something(batch)


def test_cancel_ends_a_wait(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(work.await_mail, str(tmp_path / "box"))
        task.start()
        wait_until_it_waits(task)
        task.cancel("not wanted")
        with pytest.raises(TaskCancelled, match="not wanted"):
            task.result.get(timeout=f.PATIENCE_S)
        assert runs_something(batch)


def fill_and_wait(path: str, size: int) -> int:
    filled = bytearray(os.urandom(1)) * size
    work.await_mail(path)
    return len(filled)


def test_a_memory_limit_ends_a_wait(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        path, policy = str(tmp_path / "box"), Policy(memory="50MB")
        task = batch.function(fill_and_wait, path, 200 << 20, policy=policy)
        with pytest.raises(MemoryLimitExceeded):
            task.run(timeout=f.PATIENCE_S)
        assert runs_something(batch)


def test_terminate_ends_a_wait(tmp_path: Path) -> None:
    batch = Batch(num_workers=1)
    task = batch.function(work.await_mail, str(tmp_path / "box"))
    task.start()
    wait_until_it_waits(task)
    pids = f.workers_of(batch)
    batch.terminate()
    with pytest.raises(BatchBroken):
        task.result.get(timeout=f.PATIENCE_S)
    f.wait_gone(pids)


def test_the_end_of_the_manager_ends_a_wait(tmp_path: Path) -> None:
    batch = Batch(num_workers=1)
    try:
        task = batch.function(work.await_mail, str(tmp_path / "box"))
        task.start()
        wait_until_it_waits(task)
        pids = f.workers_of(batch)
        f.kill(f.manager_of(batch))
        with pytest.raises(BatchBroken):
            task.result.get(timeout=f.PATIENCE_S)
        f.wait_gone(pids)
    finally:
        batch.terminate()


def test_the_end_of_a_worker_that_waits_frees_nothing_twice(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        for k in range(3):
            task = batch.function(work.await_mail, str(tmp_path / str(k)))
            task.start()
            wait_until_it_waits(task)
            f.kill(int(alamo.explain(task).partition("pid ")[2].partition(",")[0]))
            with pytest.raises(alamo.WorkerLost):
                task.result.get(timeout=f.PATIENCE_S)
        assert one_at_a_time(batch, tmp_path)


def one_at_a_time(batch: Batch, directory: Path) -> bool:
    """Whether there is one slot again, neither more nor less."""
    path = str(directory / "one")
    tasks = [batch.function(work.alone, path) for _ in range(50)]
    batch.compile(tasks).run(timeout=f.PATIENCE_S)
    return all(task.result.get() for task in tasks)


def wait_for_both(batch: Batch, path: str, gate: str) -> str:
    """A wait for data in a thread, and one for a task that it submits."""
    reader = threading.Thread(target=work.await_mail, args=(path,))
    reader.start()
    child = batch.function(work.wait_for_file, gate)
    child.run(timeout=f.PATIENCE_S)
    reader.join()
    return "both"


def test_explain_tells_what_a_task_waits_for(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        path, gate = str(tmp_path / "box"), tmp_path / "gate"
        task = batch.function(wait_for_both, batch, path, str(gate))
        task.start()
        both = "waits for tasks that it submitted and shared data; others use its slot"
        f.until(lambda: both in alamo.explain(task), both)
        work.send_mail(path, "")
        tasks = "waits for tasks that it submitted; others use its slot"
        f.until(lambda: tasks in alamo.explain(task), tasks)
        gate.touch()
        assert task.result.get(timeout=f.PATIENCE_S) == "both"


# -- what is left of a wait ------------------------------------------------------------------------


def leave_a_thread(path: str, gate: str) -> int:
    """A task that ends when it may, with a thread that goes on waiting."""
    threading.Thread(target=work.await_mail, args=(path,), daemon=True).start()
    work.wait_for_file(gate)
    return os.getpid()


def meet(directory: str, name: str, other: str) -> int:
    work.meet(directory, name, other)
    return os.getpid()


def test_a_thread_that_outlives_its_task_blocks_no_worker(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        path, gate = str(tmp_path / "box"), tmp_path / "gate"
        task = batch.function(leave_a_thread, path, str(gate))
        task.start()
        wait_until_it_waits(task)
        gate.touch()
        pid = task.result.get(timeout=f.PATIENCE_S)
        batch.scale(2)
        tasks = [
            batch.function(meet, str(tmp_path), name, other)
            for name, other in (("a", "b"), ("b", "a"))
        ]
        batch.compile(tasks).run(timeout=f.PATIENCE_S)
        assert pid in [task.result.get() for task in tasks]
        batch.scale(1)
        work.send_mail(path, "")  # the wait ends within another task, or within none
        assert one_at_a_time(batch, tmp_path)


def wait_in_a_child(path: str) -> int:
    pid = os.fork()
    if not pid:
        work.await_mail(path)
        os._exit(7)
    work.send_mail(path, "data")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_of_a_task_waits_in_silence(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(wait_in_a_child, str(tmp_path / "box"))
        assert task.run(timeout=f.PATIENCE_S) == 7
        assert one_at_a_time(batch, tmp_path)


def test_an_executable_waits_in_silence(tmp_path: Path) -> None:
    code = "from alamo.blocking import while_blocked\nwith while_blocked(): print('went on')"
    with Batch(num_workers=1) as batch:
        task = batch.process([sys.executable, "-c", code])
        task.run(timeout=f.PATIENCE_S)
        assert task.stdout.get() == "went on\n"


def wait_often(path: str, count: int) -> int:
    for k in range(count):
        sender = threading.Thread(target=work.send_mail, args=(f"{path}{k}", ""))
        sender.start()
        work.await_mail(f"{path}{k}")
        sender.join()
        logging.getLogger("alamo.test").info("%d", k)
    return count


def test_waits_log_records_and_results_at_once(tmp_path: Path) -> None:
    with Batch(num_workers=2, log_level="INFO") as batch:
        tasks = [batch.function(wait_often, str(tmp_path / f"{k}-"), 30) for k in range(8)]
        batch.compile(tasks).run(timeout=f.PATIENCE_S)
        assert [task.result.get() for task in tasks] == [30] * 8


# -- many waits ------------------------------------------------------------------------------------


def test_more_waits_than_workers_may_be_lent_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is 1000 processes; here is a Batch with a lower one.  A client may bring the
    data, so it is no end."""
    count = 12
    batch = f.changed_batch("import alamo.core.workers as w; w.LENT_MAX = 3", "WARNING")
    try:
        boxes = [str(tmp_path / str(k)) for k in range(count)]
        with caplog.at_level(logging.WARNING, logger="alamo"):
            tasks = [batch.function(work.await_mail, box) for box in boxes]
            program = batch.compile(tasks)
            program.start()
            f.until(lambda: "no worker is left" in caplog.text, "a warning")
        assert "5 tasks stand still in a wait, 5 of them for shared data" in caplog.text
        for box in boxes:
            work.send_mail(box, Path(box).name)
        program.wait(timeout=f.PATIENCE_S)
        assert [task.result.get() for task in tasks] == list(map(str, range(count)))
    finally:
        batch.terminate()


def wait_through_signals(path: str) -> int:
    """Signals are handled as usual while the task waits."""
    seen: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(TimeoutError):
            work.await_mail(path, 0.5)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
    return len(seen)


def test_signals_are_handled_in_a_wait(tmp_path: Path) -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(wait_through_signals, str(tmp_path / "box"))
        assert task.run(timeout=f.PATIENCE_S) == 1
