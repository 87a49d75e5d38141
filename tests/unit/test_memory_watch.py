"""How much memory real processes take, as the watch over a worker sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from alamo import linux
from alamo.manager import memory
from alamo.manager.memory import MemoryWatch

MB = 1 << 20
#: What a Python process takes on the side while it does as it is told.
SLACK = 12 * MB

#: Runs each line that it reads, and answers when it is done.
CODE = """
import mmap, os, subprocess, sys, time
MB = 1 << 20
kept = []
def take(megabytes):
    block = mmap.mmap(-1, megabytes * MB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(block), 4096):
        block[at] = 1
    kept.append(block)
def fork(does, session=False):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        if session:
            os.setsid()
        does()
        os.write(w, b"x")
        time.sleep(60)
        os._exit(0)
    assert os.read(r, 1)
    return pid
def file(megabytes):
    fd = os.memfd_create("test")
    os.truncate(fd, megabytes * MB)
    block = mmap.mmap(fd, megabytes * MB)
    for at in range(0, len(block), 4096):
        block[at] = 1
    kept.append(block)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Worker:
    """A process that does as it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.do("pass")

    def do(self, line: str) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line + "\n")
        stdin.flush()
        assert stdout.readline() == "done\n"

    def end(self) -> None:
        if self._process.poll() is None:
            linux.kill_tree(self.pid)
        with self._process:
            pass


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.end()


@pytest.fixture(params=[True, False], ids=["swap", "no swap"])
def watch(
    worker: Worker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> MemoryWatch:
    """As it looks where memory may be swapped out, and where not."""
    monkeypatch.setattr(memory, "_HAS_SWAP", request.param)
    return MemoryWatch(worker.pid)


def look(watch: MemoryWatch) -> int:
    """A fresh look: several in a row would be given the first one's number."""
    watch._next_s = 0.0
    return watch.used_bytes()


def test_memory_above_the_start(worker: Worker, watch: MemoryWatch) -> None:
    worker.do("take(64)")
    watch.begin()
    assert look(watch) <= SLACK
    worker.do("take(100)")
    assert 100 * MB <= look(watch) <= 100 * MB + SLACK
    worker.do("kept.pop().close()")
    assert look(watch) <= SLACK
    assert 100 * MB <= watch.peak_bytes <= 100 * MB + SLACK
    worker.do("kept.pop().close()")
    assert look(watch) == 0  # less than at the start
    watch.begin()
    assert watch.peak_bytes == 0


def test_descendants_count(worker: Worker, watch: MemoryWatch) -> None:
    """A grandchild too, in a session of its own."""
    watch.begin()
    worker.do("fork(lambda: fork(lambda: take(80), session=True))")
    assert 80 * MB <= look(watch) <= 80 * MB + 4 * SLACK
    assert watch.exceeds(60 * MB)
    assert not watch.exceeds(200 * MB)


def test_files_and_shared_memory_do_not_count(worker: Worker, watch: MemoryWatch) -> None:
    watch.begin()
    worker.do("file(64)")
    assert look(watch) <= SLACK
    assert not watch.exceeds(SLACK)


def test_forks_are_not_blamed_for_what_they_share(worker: Worker, watch: MemoryWatch) -> None:
    worker.do("take(100)")
    watch.begin()
    worker.do("pids = [fork(int) for _ in range(3)]")
    assert look(watch) >= 300 * MB
    assert not watch.exceeds(150 * MB)
    worker.do("fork(lambda: take(90)); fork(lambda: take(90))")
    watch._next_s = watch._exact_next_s = 0.0
    assert watch.exceeds(150 * MB) >= 170 * MB


def test_looks_are_not_repeated_at_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked, most of the time is left for other things."""
    watch = MemoryWatch(worker.pid)
    looks = 0
    original = linux.tree_of

    def slow(pid: int) -> list[int]:
        nonlocal looks
        looks += 1
        time.sleep(0.01)
        return original(pid)

    monkeypatch.setattr(linux, "tree_of", slow)
    watch.begin()
    began, looks = time.monotonic(), 0
    for _ in range(1000):
        watch.used_bytes()
    assert looks <= 1 + (time.monotonic() - began) / 0.5


def test_processes_that_are_gone(worker: Worker, watch: MemoryWatch) -> None:
    watch.begin()
    worker.do("take(50)")
    assert watch.exceeds(40 * MB)
    worker.end()
    assert look(watch) == 0
    assert watch.exceeds(0) == 0
    assert watch.peak_bytes >= 50 * MB


def test_itself() -> None:
    """The number is the kernel's."""
    watch = MemoryWatch(os.getpid())
    block = bytearray(b"x") * (40 * MB)
    watch.begin()
    block += bytearray(b"x") * (40 * MB)
    assert 30 * MB <= look(watch) <= 40 * MB + SLACK
