"""What processes of the tests do with a DDict; importable by all of them."""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import _work as work
from alamo import DDict


def meet_by(d: DDict[Any, Any], own: str, other: str) -> Any:
    """Give one's own key and wait for the other's."""
    d[own] = os.getpid()
    return d[other]


def count_up(d: DDict[Any, Any], rounds: int) -> None:
    for _ in range(rounds):
        d.fetch_add("n")


def put_after(d: DDict[Any, Any], key: Any, value: Any, path: str | None = None) -> None:
    """Put it once there is such a file."""
    if path is not None:
        work.wait_for_file(path)
    d[key] = value


def wait_for(d: DDict[Any, Any], key: Any, timeout: float | None = None) -> Any:
    return d.wait_for(key, timeout=timeout)


def pid_with(d: DDict[Any, Any], key: Any) -> int:
    assert d[key] is not None
    return os.getpid()


def put_from_child(d: DDict[Any, Any], key: Any) -> int:
    """Fork; the child puts, and so does this process while it may be at it."""
    pid = os.fork()
    if pid == 0:
        try:
            d[key] = os.getpid()
        finally:
            os._exit(0)
    d[key, "parent"] = b"x" * 100_000
    os.waitpid(pid, 0)
    return pid


def describe(d: DDict[Any, Any]) -> tuple[Any, ...]:
    return d.name, d.wait_for_keys, d.timeout, sorted(d, key=str)


def main() -> None:
    """A script of its own: python _ddict.py <file with a pickled handle> <what to call> args..."""
    path, name, *arguments = sys.argv[1:]
    d = pickle.loads(Path(path).read_bytes())
    try:
        print("ready", flush=True)
        print(globals()[name](d, *arguments), flush=True)
    except KeyboardInterrupt:
        print(f"interrupted at {time.monotonic()}", flush=True)


if __name__ == "__main__":
    main()
