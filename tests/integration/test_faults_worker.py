"""Workers that die: whom it hits, what is said of it, and that everything else goes on."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _faults as f
import pytest
from _victims import noted_by, victim, where_noted

from alamo import Batch, UpstreamFailed, WorkerLost

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def batch() -> Iterator[Batch]:
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        yield batch


HOWS = {
    "SIGKILL": (signal.SIGKILL, -1),
    "SIGTERM": (signal.SIGTERM, -1),
    "segfault": (signal.SIGSEGV, -1),
    "abort": (signal.SIGABRT, -1),
    "exit:0": (0, 0),
    "exit:3": (0, 3),
}


def test_error_tells_all_and_others_complete(batch: Batch, tmp_path: Path) -> None:
    """Every way to die, one after the other in one program of innocent tasks."""
    log = str(tmp_path / "log")
    tasks, fatal = [], {}
    for k, how in enumerate(HOWS):
        tasks += [batch.function(f.noted, log, 100 * k + i) for i in range(40)]
        task = batch.function(f.print_then_die, f"out {how}", f"err {how}", how, name=f"by {how}")
        fatal[how] = task
        tasks.append(task)
    tasks += [batch.function(f.noted, log, 1000 + i) for i in range(40)]
    program = batch.compile(tasks)
    program.start()
    program.wait(timeout=60)
    for how, (number, status) in HOWS.items():
        task = fatal[how]
        with pytest.raises(WorkerLost) as caught:
            task.result.get()
        error = caught.value
        assert (error.signal, error.exit_status) == (number, status), how
        assert error.uid == task.uid
        assert error.host == socket.gethostname()
        assert error.pid > 1
        text = str(error)
        for part in (f"task {task.uid} (by {how})", error.host, str(error.pid), "likely cause"):
            assert part in text
        assert (signal.Signals(number).name if number else f"status {status}") in text
        assert f"err {how}" in text
        assert task.stdout.get() == f"out {how}\n"
        assert task.stderr.get().startswith(f"err {how}\n")
    innocent = [t for t in tasks if t not in fatal.values()]
    assert [t.result.get() for t in innocent] == [
        *(100 * k + i for k in range(len(HOWS)) for i in range(40)),
        *(1000 + i for i in range(40)),
    ]
    assert not f.repeated(log)
    assert len(f.notes(log)) == len(innocent)


def test_chain_with_fused_chunks(batch: Batch, tmp_path: Path) -> None:
    """A RAW chain behind the dead task is skipped, what finished before it counts."""
    log = str(tmp_path / "log")
    data = str(tmp_path / "data")
    tasks = []
    for i in range(300):
        reads, writes = [batch.read(data)], [batch.write(data)]
        if i == 200:
            tasks.append(batch.function(f.noted_then_die, log, i, reads=reads, writes=writes))
        else:
            tasks.append(batch.function(f.noted, log, i, reads=reads, writes=writes))
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks[:200]] == list(range(200))
    with pytest.raises(WorkerLost):
        tasks[200].result.get()
    for task in tasks[201:]:
        with pytest.raises(UpstreamFailed) as caught:
            task.result.get()
        assert caught.value.root_uid == tasks[200].uid
    assert f.notes(log) == [str(i) for i in range(201)]


def test_order_only_successors_of_the_dead_run(batch: Batch, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    data = str(tmp_path / "data")
    tasks = [batch.function(f.noted_then_die, log, 0, reads=[batch.read(data)])]
    tasks += [batch.function(f.noted, log, i, writes=[batch.write(data)]) for i in range(1, 30)]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks[1:]] == list(range(1, 30))
    assert f.notes(log) == [str(i) for i in range(30)]


def random_dag(batch: Batch, log: str, tmp_path: Path, seed: int) -> tuple[list[Any], list[int]]:
    """Tasks over few files, of which some die; and the indices of those."""
    draw = random.Random(seed)
    tasks, fatal = [], []
    for i in range(400):
        files = draw.sample(range(12), 3)
        reads = [batch.read(str(tmp_path), f"file{k}") for k in files[:2]]
        writes = [batch.write(str(tmp_path), f"file{files[2]}")] if draw.random() < 0.5 else []
        if draw.random() < 0.02:
            fatal.append(i)
            how = draw.choice(["SIGKILL", "exit:1", "segfault"])
            tasks.append(batch.function(f.noted_then_die, log, i, how, reads=reads, writes=writes))
        else:
            tasks.append(batch.function(f.noted, log, i, reads=reads, writes=writes))
    return tasks, fatal


@pytest.mark.parametrize("seed", [1, 2])
def test_dag_with_deaths(batch: Batch, tmp_path: Path, seed: int) -> None:
    log = str(tmp_path / "log")
    tasks, fatal = random_dag(batch, log, tmp_path, seed)
    program = batch.compile(tasks)
    program.run(timeout=60)
    ran, lost, skipped = set(), set(), set()
    named, roots = set(), set()
    for i, task in enumerate(tasks):
        try:
            assert task.result.get() == i
            ran.add(i)
        except WorkerLost as error:
            lost.add(i)
            named.add(error.uid - task.uid)
        except UpstreamFailed as error:
            skipped.add(i)
            roots.add(error.root_uid)
    assert named <= {0}
    assert roots <= {tasks[k].uid for k in fatal}
    assert lost <= set(fatal)
    assert set(fatal) <= lost | skipped
    assert sorted(map(int, f.notes(log))) == sorted(ran | lost)


def test_killed_from_outside_at_random_moments(batch: Batch, tmp_path: Path) -> None:
    """Each kill costs at most the task that ran there, and no finished task runs again."""
    log = str(tmp_path / "log")
    count, kills = 3000, 15
    tasks = [batch.function(noted_by, log, i) for i in range(count)]
    program = batch.compile(tasks)
    draw = random.Random(4)
    killed = 0
    program.start()
    while killed < kills:
        found = victim(batch, program, lambda: where_noted(log), draw)
        if not found:
            break
        killed += f.kill(*found)
        moment = time.monotonic() + draw.random() * 0.03
        while time.monotonic() < moment:
            pass
    program.wait(timeout=60)
    signals = []
    for i, task in enumerate(tasks):
        try:
            assert task.result.get() == i
        except WorkerLost as error:
            signals.append(error.signal)
    assert len(signals) <= killed
    assert set(signals) <= {signal.SIGKILL}
    assert not f.repeated(log)


def test_killed_as_soon_as_a_result_is_there(batch: Batch, tmp_path: Path) -> None:
    """The task behind the one that has just ended has not begun: it is not to blame.

    A kill may hit the moment after a task has begun and before it has said so; not often,
    though more often where a loaded machine makes it longer.
    """
    log = str(tmp_path / "log")
    wrong = []
    for round_ in range(10):
        tasks = [batch.function(f.noted, log, 10 * round_ + i, 0.006) for i in range(4)]
        batch.compile(tasks).start()
        tasks[0].result.get(timeout=60)
        f.kill(*f.workers_of(batch))
        for i, task in enumerate(tasks):
            try:
                task.result.get(timeout=60)
            except WorkerLost:
                if str(10 * round_ + i) not in f.notes(log):
                    wrong.append((round_, i))
    assert not f.repeated(log)
    assert len(wrong) <= 7, f"blamed without having begun: {wrong}"


def test_killed_with_large_results_recorded(batch: Batch, tmp_path: Path) -> None:
    """Results that lie in shared blocks survive their worker too."""
    log = str(tmp_path / "log")
    tasks = [batch.function(large, log, i) for i in range(12)]
    fatal = batch.function(f.die, "SIGKILL")
    more = [batch.function(large, log, i) for i in range(12, 24)]
    batch.compile([*tasks, fatal, *more]).run(timeout=60)
    for i, task in enumerate([*tasks, *more]):
        assert task.result.get() == bytes([i]) * 200_000
    with pytest.raises(WorkerLost):
        fatal.result.get()
    assert not f.repeated(log)


def large(log: str, n: int) -> bytes:
    f.note(log, n)
    return bytes([n]) * 200_000


def test_killed_while_idle(batch: Batch) -> None:
    for _ in range(5):
        assert batch.function(f.double, 4).run(timeout=60) == 8
        f.kill(*f.until(lambda: f.workers_of(batch)))
        assert batch.function(f.double, 5).run(timeout=60) == 10


def test_killed_while_starting(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with Batch(num_workers=2, log_level="CRITICAL") as batch:
        task = batch.compile([batch.function(f.noted, log, i) for i in range(50)])
        task.start()
        for _ in range(3):
            pids = f.until(lambda: f.workers_of(batch))
            f.kill(pids[-1])
        task.wait(timeout=60)
        assert not f.repeated(log)


def test_all_tasks_die(batch: Batch) -> None:
    """Workers that die again and again: each task gets its own error, the service goes on."""
    tasks = [batch.function(f.die, "exit:7", name=f"t{i}") for i in range(30)]
    batch.compile(tasks).run(timeout=60)
    pids = set()
    for task in tasks:
        with pytest.raises(WorkerLost) as caught:
            task.result.get()
        assert caught.value.uid == task.uid
        assert caught.value.exit_status == 7
        pids.add(caught.value.pid)
    assert len(pids) == len(tasks)
    assert batch.function(f.double, 4).run(timeout=60) == 8


def test_single_tasks(batch: Batch) -> None:
    fatal = [batch.function(f.die, "SIGKILL") for _ in range(3)]
    others = [batch.function(f.double, i) for i in range(100)]
    for task in [*fatal, *others]:
        task.start()
    assert [t.result.get(timeout=60) for t in others] == [2 * i for i in range(100)]
    for task in fatal:
        with pytest.raises(WorkerLost):
            task.result.get(timeout=60)
        with pytest.raises(WorkerLost):
            task.result.get()


def test_tasks_behind_run_elsewhere_at_once(batch: Batch, tmp_path: Path) -> None:
    """Tasks dealt to a worker that is killed in a long task do not wait for anything else."""
    log, first = str(tmp_path / "log"), str(tmp_path / "first")
    tasks = [batch.function(f.noted_pid_then_sleep, first)]
    tasks += [batch.function(f.noted, log, i) for i in range(60)]
    batch.compile(tasks).start()
    pid = int(f.wait_note(first))
    assert [t.result.get(timeout=60) for t in tasks[1:]] == list(range(60))
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLost) as caught:
        tasks[0].result.get(timeout=f.WAIT_S)
    assert time.monotonic() - begin < f.WAIT_S
    assert caught.value.pid == pid


def test_stopped_worker_holds_nothing_up(batch: Batch, tmp_path: Path) -> None:
    log, first = str(tmp_path / "log"), str(tmp_path / "first")
    gate = tmp_path / "gate"
    tasks = [batch.function(noted_pid_then_wait, first, str(gate))]
    tasks += [batch.function(f.noted, log, i) for i in range(200)]
    batch.compile(tasks).start()
    pid = int(f.wait_note(first))
    os.kill(pid, signal.SIGSTOP)
    assert [t.result.get(timeout=60) for t in tasks[1:]] == list(range(200))
    gate.touch()
    os.kill(pid, signal.SIGCONT)
    assert tasks[0].result.get(timeout=60) is None
    assert not f.repeated(log)


def noted_pid_then_wait(log: str, gate: str) -> None:
    f.note(log, os.getpid())
    f.until(lambda: os.path.exists(gate))


def test_terminate_with_stopped_and_running_workers(tmp_path: Path) -> None:
    first = str(tmp_path / "first")
    batch = Batch(num_workers=2, log_level="ERROR")
    tasks = [batch.function(f.noted_pid_then_sleep, first) for _ in range(2)]
    batch.compile(tasks).start()
    f.until(lambda: len(f.notes(first)) == 2)
    processes = [f.manager_of(batch), *f.descendants(f.manager_of(batch))]
    os.kill(int(f.notes(first)[0]), signal.SIGSTOP)
    begin = time.monotonic()
    batch.terminate()
    assert time.monotonic() - begin < f.WAIT_S
    f.wait_gone(processes)


def test_nested_tasks_while_workers_die(batch: Batch, tmp_path: Path) -> None:
    """Parents that wait for children that kill their workers get the children's errors."""
    log = str(tmp_path / "log")
    parents = [batch.function(parent_of_fatal, batch, log, i) for i in range(6)]
    for task in parents:
        task.start()
    for i, task in enumerate(parents):
        assert task.result.get(timeout=60) == (i, [3, 3])
    assert not f.repeated(log)


def parent_of_fatal(batch: Batch, log: str, n: int) -> tuple[int, list[int]]:
    f.note(log, n)
    children = [batch.function(f.die, "exit:3") for _ in range(2)]
    for child in children:
        child.start()
    found = []
    for child in children:
        try:
            child.result.get()
        except WorkerLost as error:
            found.append(error.exit_status)
    return n, found


def test_blocked_parent_killed(batch: Batch, tmp_path: Path) -> None:
    """A parent that waits for its child dies: its slot comes back, its error is told."""
    log = str(tmp_path / "log")
    parents = [batch.function(parent_of_sleeper, batch, log) for _ in range(3)]
    for task in parents:
        task.start()
    f.until(lambda: sum(line.startswith("child") for line in f.notes(log)) >= 2)
    lines = f.notes(log)
    for line in lines:
        kind, pid = line.split()
        if kind == "parent":
            os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(WorkerLost):
        parents[0].result.get(timeout=60)
    f.note(str(tmp_path / "go"), "")
    f.until(lambda: f.notes(log).count("done") >= 2)
    quick = [batch.function(f.double, i) for i in range(20)]
    for task in quick:
        task.start()
    assert [t.result.get(timeout=60) for t in quick] == [2 * i for i in range(20)]
    batch.terminate()


def parent_of_sleeper(batch: Batch, log: str) -> None:
    f.note(log, f"parent {os.getpid()}")
    batch.function(until_go, log).run()


def until_go(log: str) -> None:
    f.note(log, f"child {os.getpid()}")
    f.until(lambda: os.path.exists(Path(log).parent / "go"), timeout_s=60)
    f.note(log, "done")
