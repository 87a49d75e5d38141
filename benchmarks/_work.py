"""What the benchmarks run: importable functions, so that every side pickles them by reference."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def noop(_: object = None) -> None:
    """Nothing: what a task costs beyond its own run time."""


def same(value: int) -> int:
    """Its argument: a rival that works through a graph learns from it which task is done."""
    return value


def nap(duration_s: float) -> float:
    """Sleeps, and gives the time that this really took, in seconds."""
    start = time.perf_counter()
    time.sleep(duration_s)
    return time.perf_counter() - start


def add_one(array: np.ndarray) -> np.ndarray:
    """A fresh array of the same size."""
    return array + 1


class Store:
    """A communication object of the user's own, hashed by identity; its channels are its keys."""
