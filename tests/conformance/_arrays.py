"""Functions and iterables of the tests of arrays; importable by workers."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import _work as work


def half(n: int) -> int:
    """Fails for every seventh."""
    if n % 7 == 3:
        raise ValueError(f"no {n}")
    return n // 2


def speak(n: int) -> int:
    """Each in another way, or not at all."""
    ways: list[Callable[[], Any]] = [
        lambda: None,
        lambda: print(f"print {n}"),
        lambda: os.write(1, b"write %d\n" % n),
        lambda: subprocess.run(["echo", f"child {n}"], check=True),
        lambda: print(f"error {n}", file=sys.stderr),
        lambda: os.writev(1, [b"writev", b" %d\n" % n]),
        lambda: os.system(f"echo system {n}"),
    ]
    ways[n % len(ways)]()
    return n


def spoken(n: int) -> tuple[str, str]:
    """What that one leaves on stdout and stderr."""
    out = ["", f"print {n}\n", f"write {n}\n", f"child {n}\n", "", f"writev {n}\n", f"system {n}\n"]
    return out[n % 7], f"error {n}\n" if n % 7 == 4 else ""


def speak_in_c(n: int) -> None:
    ctypes.CDLL(None).printf(b"c %d\n", n)


def misbehave(n: int, how: str) -> int:
    """The fifth does something that ends it."""
    if n == 5:
        if how == "exit":
            sys.exit(3)
        if how == "os._exit":
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(work.PATIENCE_S)
        if how == "interrupt":
            raise KeyboardInterrupt
    return n


def stray(n: int, directory: str) -> tuple[str, bool]:
    """Where it finds itself; then it goes elsewhere and leaves traces."""
    found = os.getcwd(), "ALAMO_STRAY" in os.environ
    os.chdir(directory)
    os.environ["ALAMO_STRAY"] = str(n)
    return found


def wait_from(n: int, first: int, path: str) -> int:
    """Those from the first on wait for the file."""
    if n >= first:
        work.wait_for_file(path)
    return n


def map_here(batch: Any, n: int) -> list[int]:
    """A task that maps on the Batch that runs it, and looks at the results in every way."""
    first = batch.map(abs, range(-n, 0))
    first.start()
    assert sorted(outcome.get() for _, outcome in first.result.as_completed()) == [*range(1, n + 1)]
    second = batch.map(work.add, iter(range(n)), list(first.result))
    second.start()
    assert len(second.result) == n
    pairs = batch.map(work.add, range(3), range(3), reads=lambda a, b: batch.read(os, a))
    pairs.start()
    assert len(list(pairs.result.as_completed())) == 3
    result: list[int] = second.result.get()
    return result


def map_and_forget(batch: Any, n: int, path: str) -> None:
    """More than may be under way: the rest is made when the task has ended."""
    from alamo.batch import feeding

    feeding.WINDOW = 50
    batch.map(work.append_line, [path] * n, [str(k) for k in range(n)]).start()
    batch.map(work.append_line, itertools.repeat(path), itertools.repeat("-1")).start()


def change_file(path: str, n: int) -> str:
    """Appends to what the file holds."""
    with open(path, "a+") as file:
        file.seek(0)
        before = file.read()
        file.write(f"{n},")
    return before


class Counted:
    """An endless iterator that knows how far it was taken; ``stop`` ends it."""

    def __init__(self, make: Callable[[int], Any] = int) -> None:
        self.taken = 0
        self.stop = threading.Event()
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        while not self.stop.is_set():
            self.taken += 1
            yield self._make(self.taken - 1)


class Blocked:
    """Gives three numbers and then nothing, until it is freed."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def __iter__(self) -> Iterator[int]:
        yield from range(3)
        self.free.wait(work.PATIENCE_S)
