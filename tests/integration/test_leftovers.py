"""What stays behind: in the client's process, in /tmp, in the process table."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import _faults as f
import pytest

from alamo import Batch, BatchBroken, runtime_dir


def own_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def own_blocks() -> int:
    """Shared memory that is mapped here."""
    return sum("alamo-block" in line for line in Path("/proc/self/maps").read_text().splitlines())


def own_children() -> int:
    return len(f.children(os.getpid()))


def wait_settled(state: Callable[[], tuple[int, ...]]) -> None:
    """Until there has been no more than at an earlier look for a while: the least there is."""
    least, since = state(), time.monotonic()

    def settled() -> bool:
        nonlocal least, since
        now = state()
        if now != least and no_more(now, least):
            least, since = now, time.monotonic()
        return now == least and time.monotonic() - since > 0.3

    f.until(settled, "rest")


def no_more(now: tuple[int, ...], before: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(now, before, strict=True))


def use(batch: Batch) -> None:
    tasks = [batch.function(f.double, i, callback_func=f.double) for i in range(50)]
    batch.compile(tasks).run(timeout=60)
    assert batch.function(bytes, 300_000).run(timeout=60) == bytes(300_000)
    assert len(batch.function(len, bytes(300_000)).start()) == 3


def end_by_join(batch: Batch) -> None:
    batch.close()
    batch.join(timeout=60)


def end_by_terminate(batch: Batch) -> None:
    batch.terminate()


def end_by_kill(batch: Batch) -> None:
    task = batch.function(time.sleep, 600)
    task.start()
    f.kill(f.manager_of(batch))
    with pytest.raises(BatchBroken):
        task.result.get(timeout=f.WAIT_S)


def end_by_forgetting(batch: Batch) -> None:
    pass


def test_many_batches_leave_nothing_in_the_client() -> None:
    """Descriptors, threads, children and mappings, whichever way the Batches end."""
    ways = [end_by_join, end_by_terminate, end_by_kill, end_by_forgetting]

    def one_of_each() -> None:
        for way in ways:
            batch = Batch(num_workers=1, log_level="CRITICAL")
            use(batch)
            way(batch)
            del batch
            gc.collect()

    def state() -> tuple[int, ...]:
        return own_descriptors(), threading.active_count(), own_children(), own_blocks()

    one_of_each()
    wait_settled(state)
    before = state()
    for _ in range(2):
        one_of_each()
    f.until(lambda: no_more(state(), before), f"not more than {before}")


def test_secondary_clients_leave_nothing() -> None:
    import pickle

    with f.ended(Batch(num_workers=1)) as batch:
        data = pickle.dumps(batch)
        manager = f.manager_of(batch)

        def one() -> None:
            other = pickle.loads(data)
            use(other)
            other.close()

        def state() -> tuple[int, ...]:
            gc.collect()
            return own_descriptors(), len(os.listdir(f"/proc/{manager}/fd"))

        one()
        wait_settled(state)
        before = state()
        for _ in range(10):
            one()
        f.until(lambda: no_more(state(), before), f"not more than {before}")


def test_dead_workers_leave_nothing_in_the_manager() -> None:
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        manager = f.manager_of(batch)

        def kill_some() -> None:
            for _ in range(10):
                batch.function(f.die, "SIGKILL").start()
            batch.function(f.double, 3).run(timeout=60)
            f.until(lambda: len(f.workers_of(batch)) == 2)
            f.until(lambda: not [p for p in f.descendants(manager) if not f.alive(p)])

        kill_some()
        before = len(os.listdir(f"/proc/{manager}/fd"))
        for _ in range(3):
            kill_some()
        f.until(lambda: len(os.listdir(f"/proc/{manager}/fd")) <= before + 2)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="al-", dir="/tmp") as root:
        monkeypatch.setenv("ALAMO_RUNTIME_DIR", root)
        yield Path(root)


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("alamo-*/*"))


KILLED = """
import os, sys, time
import _faults as f
from test_faults_nursery import start_sessions
from alamo import Batch
if __name__ == "__main__":
    batch = Batch(num_workers=1)
    batch.function(start_sessions, sys.argv[1]).start()
    f.until(lambda: len(f.notes(sys.argv[1])) == 3)
    print(f.manager_of(batch), *f.descendants(f.manager_of(batch)))
    time.sleep(600)
"""


def test_next_batch_sweeps(root: Path, tmp_path: Path) -> None:
    """Client, manager and nursery die at once: directory and processes are left, until then."""
    with Batch(num_workers=1):
        mine = entries(root)
        with f.Script(KILLED, tmp_path / "log") as client:
            manager, *others = map(int, client.line().split())
            nursery = next(p for p in others if f.comm(p) == "alamo-nursery")
            assert len(entries(root)) == 2
            f.kill_at_once(client.pid, manager, nursery)
            client.wait()
        assert len(entries(root)) == 2
        assert any(map(f.alive, others))
        with Batch(num_workers=1) as third:
            name = runtime_dir.name_of(third._client.address)
            assert entries(root) == sorted([*mine, name])
            f.wait_gone(others)
        assert entries(root) == mine
    assert entries(root) == []


def test_sweep_spares_what_is_not_dead(root: Path) -> None:
    """The living, the unknown, and owners that are seen only by their lock."""
    user = runtime_dir.user_dir(str(root))
    (user / "something else").mkdir()
    (user / "4194303-1-dead").mkdir()
    locked = user / "4194302-1-elsewhere"
    locked.mkdir()
    lock = os.open(locked / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (user / ".4194301-1-new").mkdir()
    with Batch(num_workers=1) as batch:
        name = runtime_dir.name_of(batch._client.address)
        assert entries(root) == sorted([".4194301-1-new", locked.name, name, "something else"])
    os.close(lock)
    assert runtime_dir.sweep(str(root)) == [locked]


def test_two_processes_do_not_disturb_one_another(root: Path, tmp_path: Path) -> None:
    """Batches that start and end at the same time, some of them by force."""
    code = """
    import os, sys
    import _faults as f
    from alamo import Batch
    if __name__ == "__main__":
        for i in range(3):
            batch = Batch(num_workers=1, log_level="CRITICAL")
            tasks = [batch.function(f.double, i) for i in range(200)]
            batch.compile(tasks).run(timeout=60)
            assert [t.result.get() for t in tasks] == [2 * i for i in range(200)]
            if i % 3 == 1:
                f.kill_at_once(f.manager_of(batch), f.nursery_of(batch))
            else:
                batch.terminate() if i % 3 else None
        print("done")
    """
    scripts = [f.Script(code) for _ in range(3)]
    for script in scripts:
        with script:
            assert script.line(60) == "done"
            assert script.wait() == 0
            assert not script.err
    with Batch(num_workers=1):
        assert len(entries(root)) == 1
    assert entries(root) == []


def test_interpreter_that_ends_without_a_word(root: Path, tmp_path: Path) -> None:
    """A script that neither closes nor joins: it ends when its work is done."""
    code = """
    import sys
    import _faults as f
    from alamo import Batch
    if __name__ == "__main__":
        batch = Batch(num_workers=2)
        for i in range(20):
            batch.function(f.noted, sys.argv[1], i, 0.01).start()
        print(f.manager_of(batch))
    """
    with f.Script(code, tmp_path / "log") as client:
        manager = int(client.line())
        assert client.wait() == 0
        assert not f.alive(manager)
        assert sorted(map(int, f.notes(tmp_path / "log"))) == list(range(20))
        assert not client.err
    assert entries(root) == []


def test_interpreter_that_crashes(root: Path, tmp_path: Path) -> None:
    """An exception that nobody catches ends the Batch at once."""
    code = """
    import sys
    import _faults as f
    from alamo import Batch
    if __name__ == "__main__":
        batch = Batch(num_workers=2)
        batch.function(f.noted_pid_then_sleep, sys.argv[1]).start()
        f.wait_note(sys.argv[1])
        print(f.manager_of(batch), *f.descendants(f.manager_of(batch)))
        raise ValueError("enough")
    """
    with f.Script(code, tmp_path / "log") as client:
        pids = list(map(int, client.line().split()))
        begin = time.monotonic()
        assert client.wait() == 1
        assert time.monotonic() - begin < f.WAIT_S
        f.wait_gone(pids)
    assert entries(root) == []


def test_stopped_batch_is_not_swept(root: Path) -> None:
    with f.ended(Batch(num_workers=1)) as batch:
        os.kill(f.manager_of(batch), signal.SIGSTOP)
        with Batch(num_workers=1):
            pass
        os.kill(f.manager_of(batch), signal.SIGCONT)
        assert batch.function(f.double, 3).run(timeout=60) == 6


def _set_timer(timer: int) -> int:
    """It goes off when the process has used so much time, in whatever task that is."""
    signal.setitimer(timer, 0.02)
    return os.getpid()


def _compute(seconds: float) -> int:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


@pytest.mark.parametrize("timer", [signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF])
def test_no_timer_goes_off_in_the_next_task(timer: int) -> None:
    with Batch(num_workers=1) as batch:
        pid = batch.function(_set_timer, timer).run(timeout=60)
        assert batch.function(_compute, 0.1).run(timeout=60) == pid
