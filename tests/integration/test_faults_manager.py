"""The manager dies: every wait ends at once, and nothing goes on running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _faults as f
import pytest
from test_faults_nursery import start_sessions

from alamo import Batch, BatchBroken

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def batch() -> Iterator[Batch]:
    """A Batch whose manager will be killed, and another one afterwards, which sweeps."""
    batch = Batch(num_workers=2, log_level="CRITICAL")
    yield batch
    batch.terminate()
    with Batch(num_workers=1):
        pass


class Waiter(threading.Thread):
    """A wait in a thread of its own: how it ended, and when."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._wait = wait
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self.start()

    def run(self) -> None:
        try:
            self._wait()
        except BaseException as error:
            self.error = error
        self.ended_at = time.monotonic()


def spin(log: str) -> None:
    """In C code that never gives Python a chance."""
    f.note(log, os.getpid())
    pow(3, 10**9)


def deaf(log: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    f.note(log, os.getpid())
    while True:
        time.sleep(600)


BODIES = {
    "sleep": f.noted_pid_then_sleep,
    "loop": spin,
    "deaf": deaf,
    "sessions": start_sessions,
}


@pytest.mark.parametrize(
    ("who", "what"),
    [
        *((who, what) for who in ("manager", "manager and nursery") for what in BODIES),
        ("all", "sessions"),
    ],
)
def test_every_wait_ends_and_all_processes_die(
    batch: Batch, tmp_path: Path, who: str, what: str
) -> None:
    log = str(tmp_path / "log")
    single = batch.function(BODIES[what], log)
    tasks = [batch.function(BODIES[what], log), batch.function(f.double, 3)]
    program = batch.compile(tasks)
    single.start()
    program.start()
    each = 3 if what == "sessions" else 1
    f.until(lambda: len(f.notes(log)) == 2 * each)
    noted = list(map(int, f.notes(log)))
    later = batch.function(f.double, 4)
    waits = [
        Waiter(single.result.get),
        Waiter(lambda: single.stdout.get(timeout=60)),
        Waiter(single.wait),
        Waiter(tasks[0].result.get),
        Waiter(program.wait),
        Waiter(lambda: program.wait(timeout=1e9)),
        Waiter(later.run),
    ]
    f.until(lambda: later.program is not None)
    manager, nursery = f.manager_of(batch), f.nursery_of(batch)
    everybody = [manager, *f.descendants(manager)]
    assert set(noted) <= set(everybody)
    begin = time.monotonic()
    if who == "all":
        f.kill_at_once(*everybody)
    else:
        f.kill_at_once(manager, *([nursery] if "nursery" in who else []))
    for waiter in waits:
        waiter.join(f.WAIT_S)
        assert not waiter.is_alive(), "a wait goes on"
        assert isinstance(waiter.error, BatchBroken), waiter.error
        assert waiter.ended_at - begin < f.WAIT_S
        assert str(manager) in str(waiter.error)
        assert "signal 9" in str(waiter.error)
    f.wait_gone(everybody)
    with pytest.raises(BatchBroken):
        batch.function(f.double, 4).start()
    with pytest.raises(BatchBroken):
        batch.compile([batch.function(f.double, 4)])
    with pytest.raises(BatchBroken):
        single.result.get(timeout=0)
    batch.close()
    with pytest.raises(BatchBroken):
        batch.join()


def test_join_ends(batch: Batch, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    batch.function(f.noted_pid_then_sleep, log).start()
    f.wait_note(log)
    batch.close()
    waits = [Waiter(batch.join), Waiter(lambda: batch.join(timeout=100))]
    time.sleep(0.05)
    os.kill(f.manager_of(batch), signal.SIGKILL)
    for waiter in waits:
        waiter.join(f.WAIT_S)
        assert isinstance(waiter.error, BatchBroken)


def test_results_that_had_come_stay(batch: Batch) -> None:
    tasks = [batch.function(f.double, i) for i in range(100)]
    batch.compile(tasks).run(timeout=60)
    os.kill(f.manager_of(batch), signal.SIGKILL)
    f.until(lambda: not f.alive(f.manager_of(batch)))
    assert [t.result.get() for t in tasks] == [2 * i for i in range(100)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_other_signals(batch: Batch, tmp_path: Path, number: int) -> None:
    log = str(tmp_path / "log")
    task = batch.function(f.noted_pid_then_sleep, log)
    task.start()
    f.wait_note(log)
    everybody = f.descendants(f.manager_of(batch))
    os.kill(f.manager_of(batch), number)
    with pytest.raises(BatchBroken, match=signal.Signals(number).name + f"|signal {number}"):
        task.result.get(timeout=f.WAIT_S)
    f.wait_gone(everybody)


def test_killed_while_data_is_sent(batch: Batch) -> None:
    """A client in the middle of sending gets an error, not a broken pipe signal or a hang."""
    manager = f.manager_of(batch)
    os.kill(manager, signal.SIGSTOP)
    waiter = Waiter(lambda: f.much_data(batch).run())
    f.wait_sends(waiter.ident)
    os.kill(manager, signal.SIGKILL)
    waiter.join(f.WAIT_S)
    assert isinstance(waiter.error, BatchBroken), waiter.error


def test_terminate_while_manager_is_stopped_and_a_sender_waits() -> None:
    batch = Batch(num_workers=1, log_level="CRITICAL")
    manager = f.manager_of(batch)
    everybody = [manager, *f.descendants(manager)]
    os.kill(manager, signal.SIGSTOP)
    waiter = Waiter(lambda: f.much_data(batch).run())
    f.wait_sends(waiter.ident)
    begin = time.monotonic()
    batch.terminate()
    assert time.monotonic() - begin < 3 * f.WAIT_S
    waiter.join(f.WAIT_S)
    assert isinstance(waiter.error, BatchBroken), waiter.error
    f.wait_gone(everybody)
    with Batch(num_workers=1):
        pass


def test_killed_while_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Batch()`` itself raises."""
    from alamo.batch import launch

    real = launch.start_manager

    def start_and_kill(*args: Any) -> Any:
        started = real(*args)
        os.kill(started[0].pid, signal.SIGKILL)
        return started

    monkeypatch.setattr(launch, "start_manager", start_and_kill)
    begin = time.monotonic()
    with pytest.raises(BatchBroken):
        Batch(num_workers=1)
    assert time.monotonic() - begin < f.WAIT_S
    monkeypatch.undo()
    with Batch(num_workers=1):
        pass


def test_waits_inside_tasks_of_another_batch(batch: Batch, tmp_path: Path) -> None:
    """A client that lives in a worker of another Batch is told too."""
    log = str(tmp_path / "log")
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as other:
        task = other.function(wait_there, batch, log)
        task.start()
        f.wait_note(log)
        os.kill(f.manager_of(batch), signal.SIGKILL)
        assert "gone" in task.result.get(timeout=f.WAIT_S)


def wait_there(batch: Batch, log: str) -> str:
    try:
        batch.function(f.noted_pid_then_sleep, log).run()
    except BatchBroken as error:
        return str(error)
    return "no error"
