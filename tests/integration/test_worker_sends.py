"""What a worker says to its manager arrives whole, whichever of its threads says it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any

import pytest

from alamo import Batch
from alamo.protocol.framing import MessageReader, encode
from alamo.protocol.messages import BlocksGone, Logged
from alamo.worker.outbox import LogHandler, Outbox

LONG = 200_000


def log_from_a_thread(count: int, size: int) -> str:
    """Long records beside long results: neither fits the socket's buffer."""

    def log() -> None:
        for i in range(count):
            logging.getLogger("alamo.test").warning("%d %s", i, "x" * size)

    threading.Thread(target=log, name="logs").start()
    return os.urandom(8 * size).hex()


def wait_for_logs() -> int:
    for thread in threading.enumerate():
        if thread.name == "logs":
            thread.join()
    return os.getpid()


def log_in_a_child() -> int:
    pid = os.fork()
    if not pid:
        logging.getLogger("alamo.test").warning("said by a child")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_log_records_of_threads_do_not_break_into_results(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Batch(num_workers=1) as batch:
        pid = batch.function(wait_for_logs).run()
        with caplog.at_level(logging.WARNING, logger="alamo"):
            tasks = [batch.function(log_from_a_thread, 20, LONG) for _ in range(20)]
            batch.compile(tasks).run()
            assert all(len(task.get()) == 16 * LONG for task in tasks)
            assert batch.function(wait_for_logs).run() == pid  # it has not died on the way


def test_a_log_record_of_a_child_is_its_output() -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(log_in_a_child)
        assert task.run() == 0
        assert task.stderr.get() == "said by a child\n"


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield ours, theirs


def read(sock: socket.socket, count: int) -> list[Any]:
    reader: MessageReader[Any] = MessageReader(Logged | BlocksGone)
    found: list[Any] = []
    while len(found) < count:
        assert reader.receive(sock)
        found += reader.messages()
    return found


def test_an_outbox_keeps_messages_whole(pair: Any) -> None:
    ours, theirs = pair
    outbox = Outbox(ours)
    gone = encode(BlocksGone(list(range(30_000))))
    handler = LogHandler(outbox)
    threads = [threading.Thread(target=lambda: [outbox.sendall(gone) for _ in range(20)])]
    for k in range(3):
        record = logging.LogRecord("n", 30, "f", 1, f"{k}" * 50_000, (), None)
        threads.append(
            threading.Thread(target=lambda r=record: [handler.emit(r) for _ in range(20)])  # type: ignore[misc]
        )
    for thread in threads:
        thread.start()
    found = read(theirs, 80)
    for thread in threads:
        thread.join()
    assert sum(isinstance(m, BlocksGone) for m in found) == 20
    assert sorted({m.text for m in found if isinstance(m, Logged)}) == [
        f"{k}" * 50_000 for k in range(3)
    ]


def test_a_record_from_a_signal_handler_waits_its_turn(pair: Any) -> None:
    """The handler runs in the thread that sends, in the middle of a message."""
    ours, theirs = pair
    outbox = Outbox(ours)
    said = threading.Event()

    def on_signal(*_: Any) -> None:
        outbox.post(encode(Logged("n", 30, "signal")))
        said.set()

    found: list[Any] = []

    def receive() -> None:
        theirs.recv(1, socket.MSG_PEEK)  # it is on its way
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        said.wait(10)
        found.extend(read(theirs, 2))

    old = signal.signal(signal.SIGUSR1, on_signal)
    try:
        reader = threading.Thread(target=receive)
        reader.start()
        outbox.sendall(encode(BlocksGone(list(range(300_000)))))
        reader.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert [type(m) for m in found] == [BlocksGone, Logged]
