"""The thread that calls callbacks: when it is started, and what a fork makes of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import _work as work
from alamo import Batch


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


def started_at_once(batch: Batch, file: str, whole: bool) -> Any:
    """A callback's thread, while its task is still running."""
    task = batch.function(work.wait_for_file, file, callback_func=None if whole else print)
    compiled = batch.compile([task], callback_func=print) if whole else task
    compiled.start()
    thread = batch._client.callbacks.thread
    Path(file).touch()
    compiled.wait(timeout=60)
    return thread


@pytest.mark.parametrize("whole", [False, True])
def test_the_thread_is_started_by_the_user(tmp_path: Path, whole: bool) -> None:
    """While the interpreter ends the receiver could not start it any more (Python 3.12)."""
    with Batch(num_workers=1) as one:
        assert started_at_once(one, str(tmp_path / "go"), whole) is not None


def test_a_callback_pending_at_a_fork_is_the_parents(batch: Batch) -> None:
    go, called = threading.Event(), threading.Event()

    def callback(*_: Any) -> None:
        called.set()
        go.wait()

    task = batch.function(work.same, 5, callback_func=callback)
    whole = batch.compile([batch.function(work.same, 6)], callback_func=callback)
    task.start()
    whole.start()
    called.wait()
    work.wait_until(lambda: not (task.program.remaining or whole.program.remaining))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task.wait(timeout=60)
            whole.wait(timeout=60)
            status = 0
        finally:
            os._exit(status)
    go.set()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    task.wait(timeout=60)
    whole.wait(timeout=60)
