"""Tasks that wait for tasks of their own: several clients in one, and too many at once."""

from __future__ import annotations

import os
import pickle
import threading
import time
from typing import Any

import _faults as f
import pytest

from alamo import Batch, BatchBroken


def _late(data: bytes, seconds: float) -> int:
    """A task that needs the slot of its parent for a task of its own."""
    time.sleep(seconds)
    return int(pickle.loads(data).function(pow, 2, 3).run(timeout=60))


def _two_clients(data: bytes) -> int:
    """One client waits for a short time in a thread, the other for long."""
    one, other = pickle.loads(data), pickle.loads(data)
    short = other.function(time.sleep, 0.2)
    short.start()
    thread = threading.Thread(target=short.wait)
    thread.start()
    long = one.function(_late, data, 0.6)
    long.start()
    return int(long.result.get(timeout=60))


def _client_in_child(data: bytes) -> int:
    """The same with a forked child, which is a client of its own."""
    pid = os.fork()
    if not pid:
        pickle.loads(data).function(time.sleep, 0.2).run(timeout=60)
        os._exit(0)
    long = pickle.loads(data).function(_late, data, 0.6)
    long.start()
    value = int(long.result.get(timeout=60))
    os.waitpid(pid, 0)
    return value


@pytest.mark.parametrize("task", [_two_clients, _client_in_child])
def test_a_slot_is_lent_until_the_last_client_of_a_task_goes_on(task: Any) -> None:
    with Batch(num_workers=1) as batch:
        assert batch.function(task, pickle.dumps(batch)).run(timeout=60) == 8


def _nested(batch: Batch, depth: int) -> int:
    return 1 + batch.function(_nested, batch, depth - 1).run() if depth else 0


def test_nests_deeper_than_workers_may_be_lent_end_with_an_error() -> None:
    """The limit is 1000 processes; here is a Batch with a lower one."""
    batch = f.changed_batch("import alamo.core.workers as w; w.LENT_MAX = 3")
    try:
        assert batch.function(_nested, batch, 4).run(timeout=60) == 4
        task = batch.function(_nested, batch, 12)
        task.start()
        with pytest.raises(BatchBroken, match=r"5 tasks wait .* at most 3 tasks may stand still"):
            task.result.get(timeout=60)
    finally:
        batch.terminate()
