"""Starting an executable: what it is bound to, and what of this process it leaves alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from alamo.protocol.bindings import Binding
from alamo.protocol.commands import Command
from alamo.protocol.shortening import read
from alamo.worker import bindings, child

SHELL = "/bin/sh"


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "binding", None)
    monkeypatch.setattr(bindings, "own", None)
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ALAMO_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def captured() -> Iterator[int]:
    fd = os.memfd_create("output", os.MFD_CLOEXEC)
    yield fd
    os.close(fd)


def run(line: str, captured: int) -> tuple[int, str]:
    argv = (SHELL, "-c", line)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        command = Command(argv=argv, program=SHELL)
        code = child.run(command, SHELL, argv, None, (null, captured, captured), (captured,))
    finally:
        os.close(null)
    return code, read(captured).decode()


def test_an_environment_without_a_binding_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALAMO_TEST", "x")
    assert child.environment_of(None) == dict(os.environb)
    assert child.environment_of({"A": "b", b"C": b"\xff"}) == {b"A": b"b", b"C": b"\xff"}


def test_the_workers_own_binding_reaches_environments_that_users_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker's environment has it already."""
    monkeypatch.setattr(bindings, "own", Binding(threads=3, gpus=("1",)))
    assert child.environment_of(None) == dict(os.environb)
    env = child.environment_of({"A": "\udcff", "MKL_NUM_THREADS": "7"})
    assert env[b"A"] == b"\xff"
    assert env[b"OMP_NUM_THREADS"] == b"3"
    assert env[b"MKL_NUM_THREADS"] == b"7"
    assert env[b"CUDA_VISIBLE_DEVICES"] == b"1"


def test_another_binding_for_executables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "own", Binding(threads=3))
    monkeypatch.setattr(child, "binding", Binding(threads=2, gpus=("0", "2")))
    for env in (None, {"A": "b"}):
        whole = child.environment_of(env)
        assert whole[b"OMP_NUM_THREADS"] == b"2"
        assert whole[b"CUDA_VISIBLE_DEVICES"] == b"0,2"
    assert "OMP_NUM_THREADS" not in os.environ


def test_processors_of_the_child_alone(monkeypatch: pytest.MonkeyPatch, captured: int) -> None:
    own = os.sched_getaffinity(0)
    cpu = max(own)
    monkeypatch.setattr(child, "binding", Binding(cpus=(cpu,)))
    code, text = run("grep Cpus_allowed_list /proc/self/status", captured)
    assert (code, text.split()[-1]) == (0, str(cpu))
    assert os.sched_getaffinity(0) == own


def test_children_that_are_not_the_workers_are_left_alone(captured: int) -> None:
    """Outside of a worker they are somebody's who waits for them."""
    other = subprocess.Popen([SHELL, "-c", "exit 5"])
    assert run("sleep 0.1; echo x; exit 3", captured) == (3, "x\n")
    assert other.wait() == 5


def test_without_a_descriptor_to_wait_with(monkeypatch: pytest.MonkeyPatch, captured: int) -> None:
    def none_left(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    assert run("sleep 0.05; echo x; kill -KILL $$", captured) == (-9, "x\n")
