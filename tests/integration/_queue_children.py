"""What the children of tests of queues do: they note in files what they have put and got.

A note is one write to a file, so it is there whole when its process is killed after it.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from alamo import Queue, QueueFullError

#: Bytes of a number and of what makes it large: apart from the line.
LARGE_BYTES = 500_000


class Notes:
    """Numbers that processes note in files of one directory, each in its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begin(self) -> int:
        """A file of this process."""
        name = f"{len(list(self._directory.iterdir()))}-{os.getpid()}"
        return os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def read(self) -> dict[str, list[tuple[int, int]]]:
        """What is in each of the files."""
        return {
            path.name: [
                (int(producer), int(number))
                for producer, number in map(str.split, path.read_text().splitlines())
            ]
            for path in self._directory.iterdir()
        }

    def count(self) -> int:
        """How many notes there are."""
        return sum(path.read_bytes().count(b"\n") for path in self._directory.iterdir())


def note(fd: int, producer: int, number: int) -> None:
    os.write(fd, b"%d %d\n" % (producer, number))


def produce(q: Queue[Any], notes: Notes, producer: int, start: int, large_every: int) -> None:
    """Put numbers for ever, or until killed."""
    fd = notes.begin()
    for number in itertools.count(start):
        is_large = large_every and not number % large_every
        q.put((producer, number, np.zeros(LARGE_BYTES // 8) if is_large else None))
        note(fd, producer, number)


def produce_some(q: Queue[Any], producer: int, count: int, large_every: int) -> None:
    for number in range(count):
        is_large = large_every and not number % large_every
        q.put((producer, number, np.zeros(LARGE_BYTES // 8) if is_large else None))


def consume(q: Queue[Any], notes: Notes) -> None:
    """Note what comes until None comes, which is left to others."""
    fd = notes.begin()
    while (message := q.get()) is not None:
        note(fd, message[0], message[1])
    q.put(None)


def get_some(q: Queue[Any], told: Any, count: int) -> None:
    """Get some messages, say so, and do something else for ever."""
    for number in range(count):
        assert q.get() == number
    told.value = 1
    signal.pause()


def get_one(q: Queue[Any]) -> Any:
    return q.get()


def put_large(q: Queue[Any], told: Any, size: int) -> None:
    """Put large messages, a few at a time in the line, until killed."""
    for number in itertools.count(1):
        while q.qsize() > 4:
            time.sleep(0.001)
        q.put(np.zeros(size))
        told.value = number


def get_large(q: Queue[Any]) -> None:
    while True:
        q.get()


def get_and_mark(q: Queue[Any], mark: Any) -> None:
    """Wait for a message; marks: 1 waiting soon, 2 got."""
    mark.value = 1
    q.get()
    mark.value = 2


def fill(q: Queue[Any]) -> int:
    """Put numbered messages until there is no room; returns how many."""
    for number in itertools.count():
        try:
            q.put((number, b"x" * 1_000))
        except QueueFullError:
            return number
    raise AssertionError
