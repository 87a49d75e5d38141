"""Looking at processes and ending them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alamo import linux

#: For what ends: when it has passed, something hangs.
PATIENCE_S = 60.0


@pytest.fixture
def family() -> Iterator[list[int]]:
    """A process with a child and a grandchild in a session of its own."""
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', '''\n"
        "import subprocess, time\n"
        'inner = subprocess.Popen(["sleep", "600"], start_new_session=True)\n'
        "print(2, inner.pid, flush=True)\n"
        "time.sleep(600)\n"
        "'''])\n"
        "print(1, child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    others = sorted(process.stdout.readline().split() for _ in range(2))
    yield [process.pid, *[int(pid) for _, pid in others]]
    linux.kill_tree(process.pid)
    process.wait()
    process.stdout.close()


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while any(map(linux.process_start_ticks, pids)) and time.monotonic() < deadline:
        time.sleep(0.005)
    return not any(map(linux.process_start_ticks, pids))


@pytest.mark.parametrize("kept", [True, False])
def test_children(family: list[int], kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's list of children and without it."""
    monkeypatch.setattr(linux, "_KEEPS_CHILDREN", kept)
    one, two, three = family
    assert linux.children_of(one) == [two]
    assert linux.children_of(two) == [three]
    assert linux.children_of(three) == []
    assert one in linux.children_of(os.getpid())
    assert linux.parent_of(two) == one


@pytest.mark.parametrize("kept", [True, False])
def test_kill_tree(family: list[int], kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_KEEPS_CHILDREN", kept)
    linux.kill_tree(family[0])
    assert gone(family)
    linux.kill_tree(family[0])  # a zombie, then nobody: no error


def test_kill_marked() -> None:
    """By the environment at their start, whatever they are and whoever started them."""
    mark = f"ALAMO_TEST_MARK={os.getpid()}"
    name, value = mark.split("=")
    sleep = ["sleep", "60"]
    marked = [subprocess.Popen(sleep, env={**os.environ, name: value}) for _ in range(3)]
    others = [
        subprocess.Popen(sleep, env={**os.environ, name: value + "0"}),
        subprocess.Popen(sleep),
    ]
    linux.kill_marked(mark.encode())
    assert [p.wait(timeout=PATIENCE_S) for p in marked] == [-9, -9, -9]
    assert [p.poll() for p in others] == [None, None]
    for process in others:
        process.kill()
        process.wait()


def test_process_start_ticks() -> None:
    own = linux.process_start_ticks(os.getpid())
    assert own > 0
    process = subprocess.Popen(["sleep", "60"])
    assert linux.process_start_ticks(process.pid) >= own
    process.kill()
    deadline = time.monotonic() + PATIENCE_S
    while linux.process_start_ticks(process.pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert linux.process_start_ticks(process.pid) == 0, "a zombie does not count"
    process.wait()
    assert linux.process_start_ticks(process.pid) == 0


def test_punch_hole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000)
    with path.open("r+b") as file:
        linux.punch_hole(file.fileno(), 100_000, 900_000)
        data = file.read()
    assert len(data) == 1_000_000
    assert data[:100_000] == data[900_000:] == b"x" * 100_000
    assert data[100_000:900_000].count(b"x") in (0, 800_000)  # not every file system can


def test_leave_process_group() -> None:
    code = """
import os, signal
from alamo import linux
before = os.getpgrp()
linux.leave_process_group()
assert os.getpgrp() not in (before, os.getpid())
os.setsid()
linux_left = os.getpgrp()
os.killpg(0, signal.SIGTERM)
"""
    process = subprocess.run([sys.executable, "-c", code], check=False)
    assert process.returncode == -15


def test_a_child_that_does_not_end_is_not_waited_for_without_end() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        begin = time.monotonic()
        assert not linux.reap(child.pid, 0.1)
        assert 0.1 <= time.monotonic() - begin < PATIENCE_S  # and not until it ends
    finally:
        child.kill()
    assert linux.reap(child.pid, PATIENCE_S)
    with pytest.raises(ChildProcessError):
        linux.reap(child.pid, PATIENCE_S)
    child.wait()  # it finds nothing


def test_children_that_cannot_be_killed_are_left() -> None:
    """In a process of its own, whose only child that is."""
    code = (
        "import subprocess, time\n"
        "from alamo import linux\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "kill_tree, linux.kill_tree = linux.kill_tree, lambda *pids: None\n"
        "begin = time.monotonic()\n"
        "linux.end_children(0.2)\n"
        "assert 0.2 <= time.monotonic() - begin < 60.0\n"
        "assert child.poll() is None\n"
        "linux.kill_tree = kill_tree\n"
        "linux.end_children(300.0)\n"
        "assert time.monotonic() - begin < 90.0\n"
        "assert linux.process_start_ticks(child.pid) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=110)


def test_many_orphans_of_a_subreaper() -> None:
    """Ended ones are reaped, but for one that is waited for elsewhere; the others are killed."""
    code = (
        "import os, subprocess, time\n"
        "from alamo import linux\n"
        "linux.become_subreaper()\n"
        "assert not linux.reap_ended()\n"
        "spared = subprocess.Popen(['sh', '-c', 'exit 3'])\n"
        "os.waitid(os.P_PID, spared.pid, os.WEXITED | os.WNOWAIT)\n"
        "assert linux.reap_ended(spared.pid)\n"
        "assert spared.wait() == 3\n"
        "deadline = time.monotonic() + 50\n"
        "line = 'for i in $(seq 200); do (setsid {} &); done; echo over; sleep 60'\n"
        "command = ['sh', '-c', line.format('true')]\n"
        "one = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "one.stdout.readline()\n"
        "while linux.reap_ended(one.pid) and linux.children_of(os.getpid()) != [one.pid]:\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.005)\n"
        "subprocess.Popen(['sh', '-c', line.format('sleep 60')], stdout=subprocess.DEVNULL)\n"
        "while len(linux.children_of(os.getpid())) < 50:\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.005)\n"
        "linux.end_children(20.0)\n"
        "assert not linux.reap_ended()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("kept", [True, False])
def test_tree(family: list[int], kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_KEEPS_CHILDREN", kept)
    assert linux.tree_of(family[0]) == family
    assert linux.tree_of(family[2]) == family[2:]


def test_tree_of_nobody() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert linux.tree_of(process.pid) == [process.pid]
    assert linux.read_file(f"/proc/{process.pid}/stat") == b""


def oom_score(pid: int) -> int:
    return int(linux.read_file(f"/proc/{pid}/oom_score_adj"))


def test_oom_score_only_rises(family: list[int]) -> None:
    one = family[0]
    own = oom_score(os.getpid())
    assert oom_score(one) == own
    linux.raise_oom_score(own - 1, one)
    assert oom_score(one) == own
    linux.raise_oom_score(1000, one)
    linux.raise_oom_score(900, one)
    assert oom_score(one) == 1000
    linux.raise_oom_score(1000, 1 << 30)  # nobody
    assert oom_score(os.getpid()) == own
