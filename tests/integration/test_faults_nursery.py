"""The process that starts workers dies: nobody notices but the log."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import _faults as f
import pytest

from alamo import Batch, BatchBroken, WorkerLost

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def batch() -> Iterator[Batch]:
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        yield batch


def kill_nursery(batch: Batch, number: int = signal.SIGKILL) -> int:
    """Kill it; returns the pid of the next."""
    old = f.nursery_of(batch)
    os.kill(old, number)
    return int(f.until(lambda: (new := f.nursery_of(batch)) != old and new))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_running_tasks_go_on_and_new_workers_start(
    batch: Batch, tmp_path: Path, number: int
) -> None:
    log = str(tmp_path / "log")
    running = [batch.function(f.noted, log, i, 0.4) for i in range(2)]
    batch.compile(running).start()
    f.until(lambda: len(f.notes(log)) == 2)
    before = set(f.workers_of(batch))
    kill_nursery(batch, number)
    assert [t.result.get(timeout=60) for t in running] == [0, 1]
    assert set(f.workers_of(batch)) == before
    # A worker that dies now is a child of the manager.
    fatal = batch.function(f.print_then_die, "out", "err", "exit:5")
    fatal.start()
    with pytest.raises(WorkerLost) as caught:
        fatal.result.get(timeout=f.WAIT_S)
    assert (caught.value.signal, caught.value.exit_status) == (0, 5)
    assert caught.value.pid in before
    assert "err" in str(caught.value)
    tasks = [batch.function(f.noted, log, i) for i in range(100, 300)]
    batch.compile(tasks).run(timeout=60)
    assert not f.repeated(log)
    f.until(lambda: len(f.workers_of(batch)) == 2)


def test_again_and_again(batch: Batch, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    tasks = [batch.function(f.noted, log, i, 0.01) for i in range(150)]
    program = batch.compile(tasks)
    program.start()
    for _ in range(6):
        kill_nursery(batch)
    program.wait(timeout=60)
    assert [t.result.get() for t in tasks] == list(range(150))
    assert not f.repeated(log)


def test_nursery_and_worker_at_once(batch: Batch, tmp_path: Path) -> None:
    """In either order, and both stopped first so that they die in the same moment."""
    log = str(tmp_path / "log")
    draw = random.Random(5)
    for round_ in range(6):
        first = str(tmp_path / f"first{round_}")
        victim = batch.function(f.noted_pid_then_sleep, first)
        others = [batch.function(f.noted, log, 1000 * round_ + i) for i in range(100)]
        victim.start()
        pid = int(f.wait_note(first))
        program = batch.compile(others)
        program.start()
        both = [pid, f.nursery_of(batch)]
        draw.shuffle(both)
        f.kill_at_once(*both)
        with pytest.raises(WorkerLost) as caught:
            victim.result.get(timeout=f.WAIT_S)
        assert caught.value.pid == pid
        program.wait(timeout=60)
    assert not f.repeated(log)


def test_nursery_and_all_workers_at_once(batch: Batch, tmp_path: Path) -> None:
    first = str(tmp_path / "first")
    victims = [batch.function(f.noted_pid_then_sleep, first) for _ in range(2)]
    batch.compile(victims).start()
    f.until(lambda: len(f.notes(first)) == 2)
    f.kill_at_once(f.nursery_of(batch), *map(int, f.notes(first)))
    for task in victims:
        with pytest.raises(WorkerLost):
            task.result.get(timeout=f.WAIT_S)
    assert batch.function(f.double, 4).run(timeout=60) == 8


def test_killed_while_workers_start() -> None:
    """Workers that go down with their nursery say nothing against workers."""
    with f.ended(Batch(num_workers=8, log_level="CRITICAL")) as batch:
        for _ in range(3):
            kill_nursery(batch)
        assert batch.function(f.double, 4).run(timeout=60) == 8


def test_stopped_nursery(batch: Batch) -> None:
    """A worker's death is told even when the nursery cannot tell it; the end comes in time."""
    nursery = f.nursery_of(batch)
    assert batch.function(f.double, 4).run(timeout=60) == 8
    os.kill(nursery, signal.SIGSTOP)
    task = batch.function(f.die, "SIGKILL")
    task.start()
    with pytest.raises(WorkerLost):
        task.result.get(timeout=f.WAIT_S)
    assert batch.function(f.double, 5).run(timeout=60) == 10  # on the other worker
    begin = time.monotonic()
    batch.terminate()
    assert time.monotonic() - begin < f.WAIT_S


def test_stopped_nursery_is_replaced() -> None:
    """When no worker is left to run anything, the wait for a new one has an end."""
    batch = f.changed_batch("import alamo.manager.pool as p; p._BIRTH_MAX_S = 3.0")
    with f.ended(batch):
        f.until(lambda: len(f.workers_of(batch)) == 2)
        nursery = f.nursery_of(batch)
        os.kill(nursery, signal.SIGSTOP)
        tasks = [batch.function(f.die, "SIGKILL") for _ in range(2)]
        batch.compile(tasks).run(timeout=60)
        assert batch.function(f.double, 5).run(timeout=60) == 10
        assert f.nursery_of(batch) != nursery


def test_task_kills_its_parent(batch: Batch) -> None:
    nursery = f.nursery_of(batch)
    assert batch.function(kill_parent).run(timeout=60) == nursery
    f.until(lambda: f.nursery_of(batch) != nursery)
    tasks = [batch.function(f.double, i) for i in range(50)]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks] == [2 * i for i in range(50)]


def kill_parent() -> int:
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    return parent


def test_children_of_dead_workers_end_without_their_nursery(batch: Batch, tmp_path: Path) -> None:
    """Worker and nursery die; the task's children, also in sessions of their own, do too."""
    log = str(tmp_path / "log")
    task = batch.function(start_sessions, log)
    task.start()
    f.until(lambda: len(f.notes(log)) == 3)
    worker, *children = map(int, f.notes(log))
    f.kill_at_once(f.nursery_of(batch), worker)
    with pytest.raises(WorkerLost):
        task.result.get(timeout=f.WAIT_S)
    f.wait_gone(children)


def start_sessions(log: str) -> None:
    """Two children: one in a session of its own, one forked twice."""
    f.note(log, os.getpid())
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    f.note(log, child.pid)
    code = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        f"import sys; sys.path.insert(0, {str(f.HERE)!r})\n"
        f"import _faults; _faults.note({log!r}, os.getpid())\n"
        "time.sleep(600)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    time.sleep(600)


def limit_files(batch: Batch, files: int) -> tuple[int, int]:
    """Set the manager's limit; returns what it was."""
    manager = f.manager_of(batch)
    old = resource.prlimit(manager, resource.RLIMIT_NOFILE)
    resource.prlimit(manager, resource.RLIMIT_NOFILE, (files, old[1]))
    return old


def test_no_room_for_another_nursery_for_a_while(batch: Batch, tmp_path: Path) -> None:
    """What runs goes on and ends; when there is room again, new workers start."""
    log = str(tmp_path / "log")
    running = [batch.function(f.noted, log, i, 0.6) for i in range(2)]
    batch.compile(running).start()
    f.until(lambda: len(f.notes(log)) == 2)
    files, _ = limit_files(batch, 3)
    nursery = f.nursery_of(batch)
    os.kill(nursery, signal.SIGKILL)
    assert [t.result.get(timeout=60) for t in running] == [0, 1]
    assert batch.function(f.double, 3).run(timeout=60) == 6
    fatal = batch.function(f.die, "SIGKILL")
    fatal.start()
    with pytest.raises(WorkerLost):
        fatal.result.get(timeout=60)
    assert batch.function(f.double, 4).run(timeout=60) == 8, "there is another worker"
    limit_files(batch, files)
    f.until(lambda: len(f.workers_of(batch)) == 2)
    assert f.nursery_of(batch) != nursery


def test_no_room_for_another_nursery_at_all() -> None:
    """The service ends when nothing runs any more and nothing can."""
    batch = Batch(num_workers=1, log_level="CRITICAL")
    try:
        assert batch.function(f.double, 3).run(timeout=60) == 6
        limit_files(batch, 3)
        os.kill(f.nursery_of(batch), signal.SIGKILL)
        batch.function(f.die, "SIGKILL").start()
        with pytest.raises(BatchBroken, match=r"cannot start|could not be started"):
            batch.function(f.double, 4).run(timeout=60)
    finally:
        batch.terminate()
        with Batch(num_workers=1):  # it sweeps what the manager had no descriptor to remove with
            pass
