"""Children of tests of shared data, forked: they have what their parent has, and do one thing."""

from __future__ import annotations

import mmap
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import _work as work

FAILED = 17


class Mark:
    """A number that a child and its parent both see."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def value(self) -> int:
        return int.from_bytes(self._memory[:8], "little")

    @value.setter
    def value(self, value: int) -> None:
        self._memory[:8] = value.to_bytes(8, "little")

    def wait(self, value: int) -> None:
        work.wait_until(lambda: self.value >= value)


def fork(do: Callable[..., Any], *arguments: Any) -> int:
    """Start a child that does it and ends at once, without the clean-up of the test's process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads, that is meant
        pid = os.fork()
    if pid:
        return pid
    status = FAILED
    try:
        do(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def end_of(pid: int) -> int:
    """Wait for a child; its exit code, negative if a signal has ended it."""
    deadline_s = time.monotonic() + work.PATIENCE_S
    while time.monotonic() < deadline_s:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"child {pid} hangs")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL


@contextmanager
def child(do: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """A child that must end well by the end of the block."""
    pid = fork(do, *arguments)
    try:
        yield pid
    except BaseException:
        kill(pid)
        raise
    assert end_of(pid) == 0
