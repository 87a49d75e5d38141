"""Timeouts of every size and kind are honoured."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _work as work
import alamo
from alamo import Batch


def times_out(wait: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError, match=r"task \d+") as error:
        wait()
    assert isinstance(error.value, alamo.WaitTimeout)


@pytest.mark.needs("background")
def test_timeouts_are_honoured(batch: Batch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    single = batch.function(work.wait_for_file, gate)
    single.start()
    part = batch.function(work.wait_for_file, gate)
    whole = batch.compile([part])
    whole.start()
    for wait in (
        lambda: single.result.get(timeout=0.5),
        lambda: single.stdout.get(None, 0.5),
        lambda: single.wait(0.5),
        lambda: part.result.get(timeout=0.5),
        lambda: whole.wait(timeout=0.5),
    ):
        work.in_time(5, lambda wait=wait: times_out(wait))  # type: ignore[misc]
    for timeout in (0, -1, -math.inf, 0.0, np.float32(0), np.int64(0), 1e-9):
        look = functools.partial(single.result.get, timeout=timeout)  # type: ignore[arg-type]
        work.in_time(2, lambda look=look: times_out(look))  # type: ignore[misc]
    Path(gate).touch()
    for limit in (None, 1e9, math.inf, alamo.default_timeout, 1e300, 1 << 70, np.float64(5)):
        assert single.result.get(timeout=limit) == gate
    whole.wait(math.inf)


@pytest.mark.needs("background")
def test_long_timeouts_are_accepted_while_waiting(batch: Batch, tmp_path: Path) -> None:
    for k, timeout in enumerate((None, 1e9, math.inf, 1e300, work.PATIENCE_S)):
        gate = tmp_path / str(k)
        task = batch.function(work.wait_for_file, str(gate))
        task.start()
        timer = threading.Timer(0.02, gate.touch)
        timer.start()
        task.wait(timeout)
        timer.join()


@pytest.mark.needs("background")
@pytest.mark.parametrize("timeout", ["1", math.nan, [1], object(), True])
def test_impossible_timeouts(batch: Batch, tmp_path: Path, timeout: object) -> None:
    task = batch.function(work.wait_for_file, str(tmp_path / "gate"))
    task.start()
    with pytest.raises(alamo.UsageError, match="timeout"):
        task.wait(timeout)  # type: ignore[arg-type]
    (tmp_path / "gate").touch()
    task.wait()


@pytest.mark.needs("background")
def test_run_with_a_timeout(batch: Batch, tmp_path: Path) -> None:
    tasks = []

    def run() -> None:
        tasks.append(batch.function(work.wait_for_file, str(tmp_path / "gate")))
        times_out(lambda: tasks[-1].run(timeout=0.1))

    work.in_time(5, run)
    (tmp_path / "gate").touch()
    assert tasks[0].result.get() == str(tmp_path / "gate")
