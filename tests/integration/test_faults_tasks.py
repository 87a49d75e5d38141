"""Tasks that treat their process badly: only they bear it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _faults as f
import pytest

from alamo import Batch, WorkerLost

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def batch() -> Iterator[Batch]:
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        yield batch


def with_innocents(batch: Batch, log: str, bad: list[Any]) -> list[Any]:
    """Run bad tasks among innocent ones, which must all complete, once each."""
    count = 60
    tasks: list[Any] = [batch.function(innocent, log, i) for i in range(count)]
    for k, task in enumerate(bad):
        tasks.insert(20 * (k + 1), task)
    batch.compile(tasks).run(timeout=60)
    good = [t for t in tasks if t not in bad]
    assert [t.result.get() for t in good] == list(range(count))
    assert [t.stdout.get() for t in good] == [f"innocent {i}\n" for i in range(count)]
    assert not f.repeated(log)
    return bad


def innocent(log: str, n: int) -> int:
    print("innocent", n)
    f.note(log, n)
    return n


def lost(task: Any) -> WorkerLost:
    with pytest.raises(WorkerLost) as caught:
        task.result.get()
    return caught.value


# -- descriptors ------------------------------------------------------------------------------


def close_all_and_wait() -> None:
    print("before")
    os.closerange(0, 256)
    time.sleep(600)


def close_all_and_return() -> int:
    os.closerange(0, 256)
    return 1


def close_output() -> int:
    os.close(1)
    return 1


def close_stdout_object() -> int:
    sys.stdout.close()
    sys.stderr.close()
    return 1


@pytest.mark.parametrize("how", [close_all_and_wait, close_all_and_return])
def test_closes_descriptors(batch: Batch, tmp_path: Path, how: Callable[[], Any]) -> None:
    begin = time.monotonic()
    (task,) = with_innocents(batch, str(tmp_path / "log"), [batch.function(how)])
    error = lost(task)
    assert time.monotonic() - begin < f.WAIT_S
    assert "closed descriptors" in str(error)
    if how is close_all_and_wait:
        assert task.stdout.get() == "before\n"


@pytest.mark.parametrize("how", [close_output, close_stdout_object])
def test_closes_stdout(batch: Batch, tmp_path: Path, how: Callable[[], Any]) -> None:
    bad = [batch.function(how) for _ in range(2)]
    for task in with_innocents(batch, str(tmp_path / "log"), bad):
        assert task.result.get() == 1


def leak_descriptors() -> int:
    try:
        while True:
            _leaked.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return len(_leaked)


_leaked: list[int] = []


def test_leaks_all_descriptors(batch: Batch, tmp_path: Path) -> None:
    """Whatever a task leaves open, later ones get their arguments and return their results."""
    bad = [batch.function(leak_descriptors) for _ in range(3)]
    with_innocents(batch, str(tmp_path / "log"), bad)
    large = [bytes([i]) * 300_000 for i in range(20)]
    tasks = [batch.function(same, value) for value in large]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks] == large


def same(value: bytes) -> bytes:
    return value


def become_another_program() -> None:
    os.execvp("sleep", ["sleep", "600"])


def test_becomes_another_program(batch: Batch, tmp_path: Path) -> None:
    (task,) = with_innocents(batch, str(tmp_path / "log"), [batch.function(become_another_program)])
    assert "descriptors" in str(lost(task))


# -- processes --------------------------------------------------------------------------------


def fork_and_return() -> str:
    """Both go on; only one is the task."""
    print("before")
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    print("after", flush=True)
    return "child" if child == 0 else "parent"


def fork_and_exit(status: int) -> int:
    child = os.fork()
    if child == 0:
        sys.exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_raise() -> int:
    print("before")
    child = os.fork()
    if child == 0:
        raise ValueError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_return_much() -> bytes:
    """What is returned lies in shared memory, which the child must not fill."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return (b"p" if child else b"c") * 500_000


def fork_and_leave(log: str) -> int:
    child = os.fork()
    if child == 0:
        time.sleep(600)
    f.note(log, child)
    return child


def test_forks(batch: Batch, tmp_path: Path) -> None:
    log, children = str(tmp_path / "log"), str(tmp_path / "children")
    for _ in range(3):
        bad = [
            batch.function(fork_and_return),
            batch.function(fork_and_exit, 3),
            batch.function(fork_and_raise),
        ]
        one, two, three = with_innocents(batch, log, bad)
        os.unlink(log)
        assert one.result.get() == "parent"
        assert one.stdout.get() == "before\nafter\nafter\n"
        assert two.result.get() == 3
        assert three.result.get() == 1
        assert three.stdout.get() == "before\n"
        assert "ValueError: in the child" in three.stderr.get()
        much, left = with_innocents(
            batch,
            log,
            [batch.function(fork_and_return_much), batch.function(fork_and_leave, children)],
        )
        os.unlink(log)
        assert much.result.get() == b"p" * 500_000
        assert left.result.get() > 0
    f.wait_gone(map(int, f.notes(children)))


def test_multiprocessing_inside(batch: Batch) -> None:
    for method in ("fork", "spawn"):
        task = batch.function(pool_inside, method)
        assert task.run(timeout=60) == [0, 1, 4, 9]
    assert batch.function(f.double, 3).run(timeout=60) == 6


def square(x: int) -> int:
    return x * x


def pool_inside(method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(4))


def new_session() -> int:
    os.setsid()
    return os.getsid(0)


def kill_group(number: int) -> None:
    os.killpg(0, number)
    time.sleep(600)


def kill_everything_it_started() -> int:
    """As libraries do that clean up: its own group, itself excepted."""
    child = subprocess.Popen(["sleep", "600"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return child.wait()


def test_sessions_and_groups(batch: Batch, tmp_path: Path) -> None:
    everybody = {f.manager_of(batch), f.nursery_of(batch)}
    bad = [batch.function(new_session), batch.function(kill_group, signal.SIGKILL)]
    first, second = with_innocents(batch, str(tmp_path / "log"), bad)
    assert first.result.get() > 0
    assert lost(second).signal == signal.SIGKILL
    assert batch.function(kill_everything_it_started).run(timeout=60) == -signal.SIGTERM
    assert {f.manager_of(batch), f.nursery_of(batch)} == everybody
    assert batch.function(new_session).run(timeout=60) > 0


def test_children_end_with_their_task(batch: Batch, tmp_path: Path) -> None:
    """Also in sessions of their own, also those that ignore signals."""
    log = str(tmp_path / "log")
    batch.function(leave_children, log).run(timeout=60)
    pids = list(map(int, f.notes(log)))
    assert len(pids) == 3
    f.wait_gone(pids)
    assert batch.function(f.double, 3).run(timeout=60) == 6


def leave_children(log: str) -> None:
    f.note(log, subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    script = f"trap '' TERM HUP INT; echo $$ >> {log}; while :; do sleep 1; done"
    subprocess.Popen(["sh", "-c", f'setsid sh -c "{script}" >/dev/null 2>&1 &']).wait()
    subprocess.Popen(["sh", "-c", f"(sleep 600 & echo $! >> {log}) &"]).wait()
    f.until(lambda: len(f.notes(log)) == 3)


# -- surroundings ------------------------------------------------------------------------------


def change_surroundings(directory: str) -> None:
    os.chdir(directory)
    os.environ["ALAMO_FAULT"] = "1"
    os.umask(0o777)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def surroundings() -> tuple[str, str | None, int]:
    umask = os.umask(0)
    os.umask(umask)
    return os.getcwd(), os.environ.get("ALAMO_FAULT"), umask


def vanish(directory: str) -> None:
    os.mkdir(directory)
    os.chdir(directory)
    os.rmdir(directory)


def test_surroundings_are_put_back(batch: Batch, tmp_path: Path) -> None:
    before = surroundings()
    (tmp_path / "x").mkdir()
    tasks = []
    for i in range(10):
        tasks.append(batch.function(change_surroundings, str(tmp_path / "x")))
        tasks.append(batch.function(surroundings))
        tasks.append(batch.function(vanish, str(tmp_path / f"gone{i}")))
        tasks.append(batch.function(surroundings))
    batch.compile(tasks).run(timeout=60)
    assert {t.result.get() for t in tasks[1::2]} == {before}


def start_thread(seconds: float) -> int:
    def body() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)

    threading.Thread(target=body).start()
    return threading.active_count()


def test_threads_that_outlive_their_task(batch: Batch, tmp_path: Path) -> None:
    """They go on for as long as their worker, and hold up neither others nor the end."""
    bad = [batch.function(start_thread, 600.0) for _ in range(2)]
    for task in with_innocents(batch, str(tmp_path / "log"), bad):
        assert task.result.get() > 1


# -- memory and output ---------------------------------------------------------------------------


def eat_memory() -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (400_000_000, resource.RLIM_INFINITY))
    blocks = []
    while True:
        blocks.append(bytearray(10_000_000))


def grow_until_killed() -> None:
    """What the out-of-memory killer does, by way of the limit on the address space."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while libc.malloc(10_000_000):
        pass
    libc.memset(None, 0, 1)


def test_memory(batch: Batch, tmp_path: Path) -> None:
    bad = [batch.function(eat_memory), batch.function(grow_until_killed)]
    first, second = with_innocents(batch, str(tmp_path / "log"), bad)
    with pytest.raises((MemoryError, WorkerLost)):
        first.result.get()
    assert lost(second).signal == signal.SIGSEGV


def test_service_under_a_memory_limit(tmp_path: Path) -> None:
    """``ulimit -v`` holds for all processes: a task that wants more than there is fails."""
    code = """
    import sys
    import _faults as f
    from alamo import Batch
    if __name__ == "__main__":
        with Batch(num_workers=2, log_level="CRITICAL") as batch:
            tasks = [batch.function(bytearray, 3_000_000_000)]
            tasks += [batch.function(f.double, i) for i in range(50)]
            batch.compile(tasks).start()
            print(sum(t.result.get() for t in tasks[1:]))
            try:
                tasks[0].result.get()
            except MemoryError:
                print("MemoryError")
    """

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))

    with f.Script(code, preexec_fn=limit) as client:
        assert client.line() == "2450"
        assert client.line() == "MemoryError"
        assert client.wait() == 0


def flood(megabytes: int, how: str) -> int:
    line = b"x" * 1023 + b"\n"
    print("begin")
    for _ in range(megabytes):
        os.write(1, line * 1024)
    print("end")
    if how:
        f.die(how)
    return megabytes


def test_much_output(batch: Batch, tmp_path: Path) -> None:
    bad = [batch.function(flood, 200, ""), batch.function(flood, 20, "SIGKILL")]
    first, second = with_innocents(batch, str(tmp_path / "log"), bad)
    assert first.result.get() == 200
    assert lost(second).signal == signal.SIGKILL
    for task in (first, second):
        text = task.stdout.get()
        assert text.startswith("begin\nxxx")
        assert text.endswith("xxx\nend\n")
        assert "bytes left out" in text
        assert len(text) < 2_000_000


def test_output_of_a_dead_task_is_its_own(batch: Batch) -> None:
    """Not that of the tasks before it in the same worker, which printed too."""
    tasks: list[Any] = []
    for i in range(20):
        tasks += [batch.function(print, f"innocent {i}") for _ in range(5)]
        tasks.append(batch.function(f.print_then_die, f"out {i}", f"err {i}"))
    batch.compile(tasks).run(timeout=60)
    for i in range(20):
        task = tasks[6 * i + 5]
        assert "err" in str(lost(task))
        assert task.stdout.get() == f"out {i}\n"
        assert task.stderr.get() == f"err {i}\n"
        assert {t.stdout.get() for t in tasks[6 * i : 6 * i + 5]} == {f"innocent {i}\n"}


def test_dies_in_a_child_thread(batch: Batch, tmp_path: Path) -> None:
    (task,) = with_innocents(batch, str(tmp_path / "log"), [batch.function(exit_in_thread)])
    assert lost(task).exit_status == 9


def exit_in_thread() -> None:
    threading.Thread(target=os._exit, args=(9,)).start()
    time.sleep(600)


def leave_a_child_that_cannot_be_killed() -> tuple[int, int]:
    from alamo import linux

    linux.kill_tree = lambda pid: None  # as if it hung in the kernel or were another user's
    return os.getpid(), subprocess.Popen(["sleep", "600"]).pid


def test_a_child_that_cannot_be_killed_holds_nothing_up() -> None:
    """Its worker ends; the next task finds another one."""
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        worker, child = batch.function(leave_a_child_that_cannot_be_killed).run(timeout=f.WAIT_S)
        assert batch.function(f.pid_of_worker).run(timeout=f.WAIT_S) != worker
        f.wait_gone([worker, child])  # the nursery could kill it
