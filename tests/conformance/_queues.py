"""What the processes of the tests of ``Queue`` run."""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import Any

from alamo import Queue


def put_numbers(q: Queue[Any], producer: int, count: int) -> None:
    for number in range(count):
        q.put((producer, number))


def put_back_until_none(source: Queue[Any], results: Queue[Any]) -> None:
    """Pass on what comes, with who passed it; ends with the first None, which stays for others."""
    while (message := source.get(timeout=60)) is not None:
        results.put((os.getpid(), message))
    source.put(None)


def get_one(q: Queue[Any], results: Queue[Any]) -> None:
    results.put(q.get(timeout=60))


def put_none(q: Queue[Any], after: Any) -> None:
    q.put(None)


def get_through(q: Queue[Any], results: Queue[Any]) -> None:
    results.put(q.get(timeout=60)["handle"].get(timeout=60))


def send_a_queue(q: Queue[Any], go_on: Queue[Any]) -> None:
    made: Queue[Any] = Queue()
    made.put("made elsewhere")
    q.put(made)
    go_on.get(timeout=60)


def sum_and_change(q: Queue[Any], results: Queue[Any]) -> None:
    """The array that comes is this process's own, to be written to."""
    array = q.get(timeout=60)
    total = float(array.sum())
    array += 1
    results.put((total, array))


def do_until_none(q: Queue[Any]) -> None:
    for _ in iter(q.get, None):
        time.sleep(0.001)
        q.task_done()
    q.task_done()


def in_a_script() -> None:
    """An unrelated process: the handle comes through standard input."""
    q, results = pickle.loads(sys.stdin.buffer.read())
    results.put(q.get(timeout=60))


if __name__ == "__main__":
    in_a_script()
