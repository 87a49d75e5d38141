"""Telling of waits for shared data: the hook, and a worker's count of them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from alamo import blocking
from alamo.blocking import while_blocked
from alamo.protocol.framing import MessageReader
from alamo.protocol.layout import SINCE, SharedMemory, make_memory
from alamo.protocol.messages import Blocked
from alamo.worker.data_waits import DataWaits
from alamo.worker.outbox import Outbox

# -- the hook --------------------------------------------------------------------------------------


class Recorder:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float | int | None]] = []

    def begin(self, timeout_s: float | None) -> int:
        self.told.append(("begin", timeout_s))
        return len(self.told)

    def end(self, wait: int) -> None:
        self.told.append(("end", wait))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    one = Recorder()
    blocking.listen(one)
    yield one
    blocking.listen(None)


def test_nobody_is_told_where_nobody_listens() -> None:
    with while_blocked(), while_blocked(3):
        pass


def test_waits_are_told_one_by_one_and_end_with_an_error_too(recorder: Recorder) -> None:
    with pytest.raises(KeyError), while_blocked(5.0), while_blocked():
        raise KeyError
    assert recorder.told == [("begin", 5.0), ("begin", None), ("end", 2), ("end", 1)]


def test_a_wait_that_is_refused_does_not_begin(recorder: Recorder) -> None:
    class Refusing(Recorder):
        def begin(self, timeout_s: float | None) -> int:
            raise OSError("no")

    refusing = Refusing()
    with blocking.listening_here(refusing), pytest.raises(OSError, match="no"), while_blocked():
        pytest.fail("it has begun")
    assert refusing.told == recorder.told == []


def test_who_listens_here_is_told_of_this_thread_alone(recorder: Recorder) -> None:
    def wait() -> None:
        with while_blocked(2):
            pass

    here = Recorder()
    with blocking.listening_here(here):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
        with while_blocked(1):
            pass
    assert here.told == [("begin", 1), ("end", 1)]
    assert recorder.told == [("begin", 2), ("end", 1)]
    with while_blocked(3):
        pass
    assert len(here.told) == 2


# -- in a worker -----------------------------------------------------------------------------------


class Bench:
    """The waits of a worker, and what its manager reads of them."""

    def __init__(self) -> None:
        fd = make_memory()
        self.memory = SharedMemory(fd)
        os.close(fd)
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.looks = 0
        self.waits = DataWaits(Outbox(self.ours), self.memory.cells, self._look)
        self._reader: MessageReader[Blocked] = MessageReader(Blocked)

    def _look(self) -> None:
        self.looks += 1

    def run(self, running: bool = True) -> None:
        self.memory.cells[SINCE] = int(running)

    def told(self) -> list[bool]:
        try:
            self._reader.receive(self.theirs)
        except BlockingIOError:
            pass
        return [message.blocked for message in self._reader.messages()]

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.memory.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def test_the_first_and_the_last_wait_are_told(bench: Bench) -> None:
    bench.run()
    first, second = bench.waits.begin(None), bench.waits.begin(1.0)
    assert (bench.told(), bench.looks) == ([True], 1)
    bench.waits.end(first)
    assert bench.told() == []
    bench.waits.end(second)
    assert bench.told() == [False]
    bench.waits.end(bench.waits.begin(None))
    assert (bench.told(), bench.looks) == ([True, False], 2)
    bench.waits.task_ended()
    assert bench.told() == []


def test_no_task_waits_between_two_tasks(bench: Bench) -> None:
    left_over = bench.waits.begin(None)
    assert (bench.told(), bench.looks) == ([], 0)
    bench.run()
    own = bench.waits.begin(None)
    bench.waits.end(left_over)
    assert bench.told() == [True]
    bench.waits.end(own)
    assert bench.told() == [False]


def test_the_end_of_a_task_ends_its_waits(bench: Bench) -> None:
    bench.run()
    left_over = [bench.waits.begin(None), bench.waits.begin(None)]
    bench.waits.task_ended()
    assert bench.told() == [True, False]
    own = bench.waits.begin(None)
    for wait in left_over:
        bench.waits.end(wait)
    assert bench.told() == [True]
    bench.waits.end(own)
    assert bench.told() == [False]


def test_a_forked_child_tells_nobody(bench: Bench) -> None:
    bench.run()
    inherited = bench.waits.begin(None)
    bench.told()
    bench.waits._lock.acquire()  # as a thread may hold it that the child has not
    bench.waits.leave()
    own = bench.waits.begin(None)
    bench.waits.end(own)
    bench.waits.end(inherited)
    bench.waits.task_ended()
    assert bench.told() == []


def test_threads_that_wait_at_once_are_one_wait(bench: Bench) -> None:
    bench.run()
    own = bench.waits.begin(None)
    start = threading.Barrier(4)

    def wait_often() -> None:
        start.wait()
        for _ in range(2000):
            bench.waits.end(bench.waits.begin(None))

    threads = [threading.Thread(target=wait_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.told() == [True]
    bench.waits.end(own)
    assert bench.told() == [False]


def test_a_signal_handler_may_wait_while_its_thread_tells(bench: Bench) -> None:
    """It comes in the middle of the message with which a wait begins."""
    bench.run()
    inner: list[int] = []

    def on_signal(*_: object) -> None:
        inner.append(bench.waits.begin(None))
        bench.waits.end(inner[0])

    def interrupted() -> None:
        signal.raise_signal(signal.SIGUSR1)

    bench.waits._look = interrupted
    old = signal.signal(signal.SIGUSR1, on_signal)
    try:
        wait = bench.waits.begin(None)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert inner == [wait]
    assert bench.told() == [True]
    bench.waits.end(wait)
    assert bench.told() == [False]
