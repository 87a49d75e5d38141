"""Log records of tasks and their children on the worker's one socket."""

from __future__ import annotations

import logging
import os
import socket
import stat

import _faults as f
import pytest

from alamo import Batch


def sockets() -> int:
    """Sockets that this process has open."""
    return sum(stat.S_ISSOCK(_mode(int(name))) for name in os.listdir("/proc/self/fd"))


def _mode(fd: int) -> int:
    try:
        return os.fstat(fd).st_mode
    except OSError:  # the list itself
        return 0


def log_in_child(records: int) -> tuple[int, int, int]:
    """Sockets of the worker and of its child; how the child ended."""
    logger = logging.getLogger("alamo.mine")
    reader, writer = os.pipe()
    before = sockets()
    pid = os.fork()
    if not pid:
        for _ in range(records):
            logger.warning("from the child")
        os.write(writer, bytes([sockets()]))
        os._exit(0)
    logger.warning("from the task")
    inside = os.read(reader, 1)[0]
    return before, inside, os.waitpid(pid, 0)[1]


def test_a_forked_child_does_not_write_to_the_workers_socket(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its records go where Python sends those that nobody wants: to stderr."""
    with f.ended(Batch(num_workers=1)) as batch:
        task = batch.function(log_in_child, 3)
        before, inside, status = task.run(timeout=60)
        assert (inside, status) == (before - 1, 0)
        assert task.stderr.get() == "from the child\n" * 3
        assert batch.function(f.double, 4).run(timeout=60) == 8
    records = [r.getMessage() for r in caplog.records if r.name == "alamo.mine"]
    assert [r for r in records if "child" in r] == []
    assert len([r for r in records if "task" in r]) == 1


def test_a_socket_of_the_child_is_its_own() -> None:
    """A child that goes on to use sockets is not disturbed by what was taken from it."""
    with f.ended(Batch(num_workers=1)) as batch:
        assert batch.function(_talk_in_child).run(timeout=60) == b"hello"


def _talk_in_child() -> bytes:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        theirs.sendall(b"hello")
        os._exit(0)
    os.waitpid(pid, 0)
    with ours, theirs:
        return ours.recv(10)
