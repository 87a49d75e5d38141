"""Executables that misbehave: nothing hangs, nothing is left, and the error says what happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _faults as faults
import pytest

import alamo
from alamo import Batch, ProcessFailed
from alamo.protocol.shortening import KEPT_BYTES

PATIENCE_S = 60.0
GIB = 1 << 30


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2, log_level="CRITICAL") as one:
        yield one


def start(batch: Batch, line: str, **options: Any) -> Any:
    task = batch.process(line, shell=True, **options)
    task.start()
    return task


def failure(task: Any) -> Any:
    with pytest.raises(ProcessFailed) as caught:
        task.result.get(timeout=PATIENCE_S)
    return caught.value


def pids_in(path: Path, count: int) -> list[int]:
    faults.until(lambda: len(faults.notes(path)) >= count, f"{count} pids in {path}")
    return [int(line) for line in faults.notes(path)]


# -- what is left behind ------------------------------------------------------------------------


def test_daemons_end_with_the_task(batch: Batch, tmp_path: Path) -> None:
    """In the background, in a session of its own, and twice forked."""
    path, out = tmp_path / "pids", tmp_path / "out"
    daemon = f"echo $$ >>{path}; while :; do echo x; done"
    line = f"setsid sh -c '{daemon}' & (setsid sh -c '{daemon}' &) ; nohup sleep 600 2>/dev/null & "
    line += f"echo $! >>{path}; while [ $(wc -l <{path}) -lt 3 ]; do sleep 0.01; done"
    task = start(batch, line, stdout=out)
    assert task.result.get(timeout=PATIENCE_S) == 0
    pids = pids_in(path, 3)
    assert not any(map(faults.alive, pids))
    size = out.stat().st_size
    assert batch.process(["true"]).run(timeout=PATIENCE_S) == 0
    assert out.stat().st_size == size


@pytest.mark.parametrize("how", ["worker", "manager", "terminate"])
def test_a_child_that_ignores_signals_ends_with_those_above(tmp_path: Path, how: str) -> None:
    path = tmp_path / "pids"
    ignore = "trap '' TERM INT HUP QUIT"
    with faults.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        child = f"{ignore}; echo $$ >>{path}; while :; do sleep 600; done"
        line = f"printf 'a\\377'; setsid sh -c '{child}' & {child}"
        task = start(batch, line, text=False)
        pids = pids_in(path, 2)
        if how == "worker":
            faults.kill(*faults.workers_of(batch))
            with pytest.raises(alamo.WorkerLost):
                task.result.get(timeout=PATIENCE_S)
            assert task.stdout.get() == b"a\xff"
            assert batch.process(["true"]).run(timeout=PATIENCE_S) == 0
        elif how == "manager":
            faults.kill(faults.manager_of(batch))
            with pytest.raises(alamo.BatchBroken):
                task.result.get(timeout=PATIENCE_S)
            batch.terminate()
        else:
            batch.terminate()
        faults.wait_gone(pids, PATIENCE_S)
        if how != "worker":
            return


def test_sigterm_to_a_child_that_does_not_care(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    line = (
        f"trap 'echo no' TERM; echo $$ >{path}; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    )
    task = start(batch, line)
    (pid,) = pids_in(path, 1)
    os.kill(pid, signal.SIGTERM)
    faults.until(lambda: not task.program.has(task.index))
    (tmp_path / "go").touch()
    assert task.result.get(timeout=PATIENCE_S) == 0
    assert task.stdout.get() == "no\n"
    killed = start(batch, f"echo $$ >{path}2; exec sleep 600")
    (pid,) = pids_in(tmp_path / "pid2", 1)
    os.kill(pid, signal.SIGKILL)
    assert failure(killed).returncode == -signal.SIGKILL


def test_executables_go_before_the_manager_when_memory_runs_out(batch: Batch) -> None:
    """They inherit what makes their worker go early; of the two the larger goes."""
    line = "cat /proc/self/oom_score_adj; (cat /proc/$$/oom_score_adj)"
    for _ in range(4):
        task = batch.process(line, shell=True)
        task.run(timeout=PATIENCE_S)
        assert task.stdout.get() == "800\n800\n"
    assert {
        int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in faults.workers_of(batch)
    } == {800}


# -- too much ------------------------------------------------------------------------------------


def test_a_gigabyte_of_output_in_bounded_memory(batch: Batch) -> None:
    """Looked at from outside while it comes: what the capture files really hold."""
    # With pauses, in which also a worker that has to wait for the CPU comes to look.
    part = f"head -c {GIB // 16} /dev/zero; sleep 0.05"
    line = f"echo head; for i in $(seq 16); do {part}; done; echo; echo tail"
    most, over = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.005):
            most = max([most, *map(held_bytes, faults.workers_of(batch))])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        task = start(batch, line, text=False)
        assert task.result.get(timeout=PATIENCE_S) == 0
    finally:
        over.set()
        watcher.join()
    output = task.stdout.get()
    assert 2 * KEPT_BYTES < len(output) < 2 * KEPT_BYTES + 100
    assert output.startswith(b"head\n\0\0")
    assert output.endswith(b"\0\ntail\n")
    assert b"bytes left out" in output
    assert most < 0.7 * GIB
    assert batch.process(["true"]).run(timeout=PATIENCE_S) == 0


def held_bytes(worker: int) -> int:
    try:
        return os.stat(f"/proc/{worker}/fd/1").st_blocks * 512
    except OSError:
        return 0


def test_much_output_of_a_failure_shows_the_last_lines(batch: Batch) -> None:
    task = start(batch, "seq 1000000 >&2; exit 1")
    error = failure(task)
    assert str(error).endswith("  999999\n  1000000")
    assert len(str(error)) < 1000
    assert "bytes left out" in error.stderr


def test_input_that_is_not_read(batch: Batch) -> None:
    """More than any pipe holds, and closed at once."""
    data = b"x" * (4 << 20)
    tasks = [
        batch.process("exec 0<&-; sleep 0.05", shell=True, stdin=data),
        batch.process(["head", "-c", "3"], stdin=data),
        batch.process(["true"], stdin=data),
    ]
    batch.compile(tasks).run(timeout=PATIENCE_S)
    assert [task.stdout.get() for task in tasks] == ["", "xxx", ""]


def test_a_directory_that_vanishes(batch: Batch, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    remove = batch.process(["rmdir", place], writes=batch.write(place))
    late = batch.process(["true"], cwd=place, reads=batch.read(place))
    batch.compile([remove, late]).start()
    with pytest.raises(FileNotFoundError, match="cwd="):
        late.result.get(timeout=PATIENCE_S)
    place.mkdir()
    inside = batch.process(f"rmdir {place}; echo still here", shell=True, cwd=place)
    inside.run(timeout=PATIENCE_S)
    assert inside.stdout.get() == "still here\n"
    assert batch.function(os.getcwd).run(timeout=PATIENCE_S) == os.getcwd()


def test_the_clients_directory_vanishes(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    tasks = [batch.process(["echo", "x"], cwd=tmp_path), batch.process(["rmdir", place])]
    for task in tasks * 1:
        task.run(timeout=PATIENCE_S)
    monkeypatch.chdir(tmp_path)
    assert batch.process(["echo", "x"], cwd="/").run(timeout=PATIENCE_S) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=5", "tmpfs", str(place)]
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills(batch: Batch, small_disk: Path) -> None:
    path = small_disk / "out"
    task = batch.process(["head", "-c", "1000000", "/dev/zero"], stdout=path, text=False)
    task.start()
    error = failure(task)
    assert b"No space left on device" in error.stderr
    assert "No space left on device" in str(error)
    assert len(task.stdout.get()) == path.stat().st_size <= 256 << 10
    for name in ("a", "b", "c"):
        (small_disk / name).touch()
    with pytest.raises(OSError, match="No space left"):
        batch.process(["true"], stdout=small_disk / "d").run(timeout=PATIENCE_S)


def test_a_fork_bomb_inside_a_limit(batch: Batch, tmp_path: Path) -> None:
    """It stops at its limit, and all of it ends with the task.

    It has a bound of its own too, 511 processes: were the limit not held, the machine would fill.
    """
    path, errors = tmp_path / "pid", tmp_path / "errors"
    user = 200_000 + os.getpid()  # nobody else's
    options: dict[str, Any] = {"user": user} if os.getuid() == 0 else {}
    limit = 40 if options else processes_of(os.getuid()) + 40
    bomb = "bomb() { [ $1 -gt 0 ] || exec sleep 600; bomb $(($1 - 1)) & bomb $(($1 - 1)) & }"
    line = f"trap 'exit 0' TERM; ulimit -u {limit} || exit 99; sleep 600 & {bomb}; "
    line += "bomb 8 & echo $$; wait"
    task = start(batch, line, stdout=path, stderr=errors, executable="/bin/bash", **options)
    faults.until(lambda: errors.exists() and "fork: " in errors.read_text(), "the limit")
    if options:
        assert processes_of(user) <= limit
    os.kill(*pids_in(path, 1), signal.SIGTERM)
    assert task.result.get(timeout=PATIENCE_S) == 0
    faults.until(lambda: not started_by(batch), "the end of the bomb")
    assert batch.process(["true"]).run(timeout=PATIENCE_S) == 0


def processes_of(uid: int) -> int:
    count = 0
    for pid in faults.all_pids():
        try:
            count += os.stat(f"/proc/{pid}").st_uid == uid and faults.alive(pid)
        except OSError:
            continue
    return count


def started_by(batch: Batch) -> list[int]:
    """What workers have started, and what of that has come to those above; zombies too."""
    family = faults.descendants(faults.manager_of(batch))
    return [pid for pid in family if not faults.comm(pid).startswith("alamo-")]


def test_orphans_that_end_leave_no_zombies(batch: Batch, tmp_path: Path) -> None:
    """While the task goes on: each takes a process number of the machine until it is reaped."""
    over, go = tmp_path / "over", tmp_path / "go"
    line = f"for i in $(seq 500); do (setsid true &); done; touch {over}; read x <{go}"
    os.mkfifo(go)
    task = start(batch, line)
    faults.until(over.exists, "500 orphans")
    faults.until(lambda: len(started_by(batch)) == 1, "the shell alone")
    go.write_text("x\n")
    assert task.result.get(timeout=PATIENCE_S) == 0
    late = start(batch, "for i in $(seq 300); do (setsid sleep 600 &); done", stdout="/dev/null")
    assert late.result.get(timeout=PATIENCE_S) == 0
    faults.until(lambda: not started_by(batch), "the end of those that went on")
    assert batch.process(["true"]).run(timeout=PATIENCE_S) == 0


@pytest.mark.parametrize("heir", ["nursery", "manager"])
def test_orphans_of_a_worker_leave_no_zombies(tmp_path: Path, heir: str) -> None:
    """They come to the nursery, or to the manager when that has died too."""
    line = "for i in $(seq 200); do (setsid sleep 600 &); done; echo x; sleep 600"
    path = tmp_path / "out"
    with Batch(num_workers=1, log_level="CRITICAL") as batch:
        task = start(batch, line, stdout=path)
        faults.until(lambda: path.exists() and path.read_text(), "200 orphans")
        if heir == "manager":
            faults.kill_at_once(faults.nursery_of(batch), *faults.workers_of(batch))
        else:
            faults.kill(*faults.workers_of(batch))
        with pytest.raises(alamo.WorkerLost):
            task.result.get(timeout=PATIENCE_S)
        faults.until(lambda: not started_by(batch), "the end of all")
        assert batch.process(["true"]).run(timeout=PATIENCE_S) == 0


def test_a_thousand_at_once() -> None:
    """A thousand are ready at one time, and as many run as there are workers."""
    with Batch(num_workers=32, log_level="CRITICAL") as batch:
        tasks = [batch.process(["echo", str(i)]) for i in range(1000)]
        for task in tasks:
            task.start()
        assert [task.stdout.get(timeout=PATIENCE_S) for task in tasks] == [
            f"{i}\n" for i in range(1000)
        ]
        assert {task.result.get() for task in tasks} == {0}


def test_nothing_of_one_reaches_the_next(batch: Batch, tmp_path: Path) -> None:
    """Directory, umask, descriptors and output, within one chunk too."""
    before = [batch.function(os.getcwd), batch.process("umask; pwd", shell=True)]
    for task in before:
        task.run(timeout=PATIENCE_S)
    tasks = []
    for i in range(40):
        tasks.append(batch.process(f"echo {i}", shell=True, cwd=tmp_path, umask=0o77))
        tasks.append(batch.process("umask; pwd", shell=True))
        tasks.append(batch.function(os.getcwd))
    batch.compile(tasks).run(timeout=PATIENCE_S)
    assert [task.stdout.get() for task in tasks[::3]] == [f"{i}\n" for i in range(40)]
    assert {task.stdout.get() for task in tasks[1::3]} == {before[1].stdout.get()}
    assert {task.result.get() for task in tasks[2::3]} == {before[0].result.get()}


def test_the_descriptor_that_a_function_left_open_does_not_reach_a_program(batch: Batch) -> None:
    def leave() -> None:
        for _ in range(3):
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)

    leaving = [batch.function(leave) for _ in range(4)]
    batch.compile(leaving).run(timeout=PATIENCE_S)
    for _ in range(4):
        task = batch.process(["ls", "/proc/self/fd"])
        task.run(timeout=PATIENCE_S)
        assert task.stdout.get().split() == ["0", "1", "2", "3"]
