"""Tasks that put something else in the place of stdout and stderr, and leave it there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alamo import Batch

LINE = b"precious line\n"
EARLIER = "earlier content of the user's file\n"
_libc = ctypes.CDLL(None)


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    """One worker: the next task runs in the same process."""
    with Batch(num_workers=1, log_level="CRITICAL") as one:
        yield one


def redirect(path: str, fd: int, flags: int, in_c: bool) -> int:
    new = os.open(path, flags)
    (_libc.dup2 if in_c else os.dup2)(new, fd)
    os.close(new)
    os.write(fd, LINE)
    return os.getpid()


def close(fd: int) -> int:
    os.close(fd)
    return os.getpid()


def close_and_open(path: str, fd: int) -> int:
    os.close(fd)
    assert os.open(path, os.O_WRONLY | os.O_APPEND) == fd
    os.write(fd, LINE)
    return os.getpid()


def pipe(fd: int, in_c: bool) -> int:
    _, writer = os.pipe()
    (_libc.dup2 if in_c else os.dup2)(writer, fd)
    return os.getpid()


def nowhere(fd: int) -> int:
    """What was printed before counts; what comes later does not."""
    os.write(fd, b"before")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd)
    os.write(fd, b"after")
    return os.getpid()


def say(text: str) -> int:
    os.write(1, text.encode())
    os.write(2, text.upper().encode())
    return os.getpid()


def run(batch: Batch, function: Callable[..., int], *args: object) -> tuple[int, str, str]:
    task = batch.function(function, *args)
    return task.run(timeout=60), task.stdout.get(), task.stderr.get()


def check_next(batch: Batch, pid: int) -> None:
    """The next task has its output, in the same process, and the one after it is silent."""
    assert run(batch, say, "text") == (pid, "text", "TEXT")
    assert run(batch, os.getpid) == (pid, "", "")


@pytest.mark.parametrize("fd", [1, 2])
@pytest.mark.parametrize("in_c", [False, True])
@pytest.mark.parametrize("flags", [os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_APPEND])
def test_a_file_of_the_user_is_left_alone(
    batch: Batch, tmp_path: Path, fd: int, in_c: bool, flags: int
) -> None:
    path = tmp_path / "user.log"
    path.write_text(EARLIER)
    pid, *output = run(batch, redirect, str(path), fd, flags, in_c)
    assert output == ["", ""]
    check_next(batch, pid)
    assert path.read_text() == EARLIER + LINE.decode()


@pytest.mark.parametrize("fd", [1, 2])
def test_closed_and_opened_anew(batch: Batch, tmp_path: Path, fd: int) -> None:
    path = tmp_path / "user.log"
    path.write_text(EARLIER)
    pid, *output = run(batch, close_and_open, str(path), fd)
    assert output == ["", ""]
    check_next(batch, pid)
    assert path.read_text() == EARLIER + LINE.decode()


@pytest.mark.parametrize("fd", [1, 2])
@pytest.mark.parametrize("in_c", [False, True])
def test_a_pipe_in_their_place(batch: Batch, fd: int, in_c: bool) -> None:
    pid, *output = run(batch, pipe, fd, in_c)
    assert output == ["", ""]
    check_next(batch, pid)


@pytest.mark.parametrize("fd", [1, 2])
def test_closed(batch: Batch, fd: int) -> None:
    pid, *output = run(batch, close, fd)
    assert output == ["", ""]
    check_next(batch, pid)


@pytest.mark.parametrize("fd", [1, 2])
def test_what_was_printed_before_is_kept(batch: Batch, fd: int) -> None:
    pid, *output = run(batch, nowhere, fd)
    assert output == (["before", ""] if fd == 1 else ["", "before"])
    check_next(batch, pid)


def test_within_one_chunk(batch: Batch, tmp_path: Path) -> None:
    """Neighbours in a chunk do not hear of it."""
    path = tmp_path / "user.log"
    path.touch()
    warm = [batch.function(int, 1) for _ in range(2000)]
    batch.compile(warm).run(timeout=60)
    before = [batch.function(say, "a") for _ in range(5)]
    one = batch.function(redirect, str(path), 1, os.O_WRONLY | os.O_APPEND, False)
    after = [batch.function(say, "b") for _ in range(5)]
    batch.compile([*before, one, *after]).run(timeout=60)
    assert [t.stdout.get() for t in (*before, one, *after)] == ["a"] * 5 + [""] + ["b"] * 5
    assert path.read_bytes() == LINE
