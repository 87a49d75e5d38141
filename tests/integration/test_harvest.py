"""Outcomes of tasks that share a chunk with a long one."""

from __future__ import annotations

import operator
import time
from pathlib import Path

import pytest

from alamo import Batch


def _wait_for(path: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if Path(path).exists():
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("ahead", [1, 3, 15])
def test_an_outcome_is_not_held_up_by_a_long_task_behind_it(tmp_path: Path, ahead: int) -> None:
    """The long task ends only when this process has read what was finished before it."""
    with Batch(num_workers=1) as batch:
        warm = [batch.function(operator.add, i, i) for i in range(2000)]  # chunks are large now
        batch.compile(warm).run(timeout=60)
        go = tmp_path / "go"
        short = [batch.function(operator.add, i, 1) for i in range(ahead)]
        long = batch.function(_wait_for, str(go))
        behind = [batch.function(operator.add, i, 2) for i in range(40)]
        batch.compile([*short, long, *behind]).start()
        assert [task.result.get(timeout=45) for task in short] == [i + 1 for i in range(ahead)]
        go.touch()
        assert long.result.get(timeout=60) is True
        assert [task.result.get(timeout=60) for task in behind] == [i + 2 for i in range(40)]


def test_a_task_that_waits_for_a_neighbour_of_its_own_chunk_ends(tmp_path: Path) -> None:
    """Nested tasks: what a child had finished is known although the next child waits."""
    with Batch(num_workers=1) as batch:
        parent = batch.function(_children, batch, str(tmp_path / "go"))
        assert parent.run(timeout=60) == [3, True, 7]


def _children(batch: Batch, go: str) -> list[object]:
    tasks = [
        batch.function(operator.add, 1, 2),
        batch.function(_wait_for, go),
        batch.function(operator.add, 3, 4),
        *[batch.function(operator.add, i, i) for i in range(20)],
    ]
    batch.compile(tasks).start()
    first = tasks[0].result.get(timeout=45)
    Path(go).touch()
    return [first, tasks[1].result.get(timeout=60), tasks[2].result.get(timeout=60)]
