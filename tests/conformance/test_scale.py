"""More or fewer workers while tasks run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch, UsageError


def test_the_number_is_shown(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=2) as one:
        assert one.num_workers == 2
        one.scale(5)
        assert one.num_workers == 5
        assert "of 5 workers" in repr(one)
        one.scale(1)
        assert one.num_workers == 1
        assert one.function(work.add, 1, 2).run() == 3


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", None, True, 10**9])
def test_numbers_that_make_no_sense(batch: Batch, number: Any) -> None:
    before = batch.num_workers
    with pytest.raises(UsageError, match="num_workers"):
        batch.scale(number)
    assert batch.num_workers == before


def test_after_close_and_after_the_end(make_batch: MakeBatch) -> None:
    one = make_batch(num_workers=1)
    one.close()
    one.scale(2)
    one.join()
    with pytest.raises(UsageError, match="has ended"):
        one.scale(1)


@pytest.mark.needs("clients")
def test_only_the_maker_may_scale_and_others_see_it(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=1) as one:
        other = pickle.loads(pickle.dumps(one))
        with pytest.raises(UsageError, match="only the process that made the Batch"):
            other.scale(2)
        one.scale(3)
        work.wait_until(lambda: other.num_workers == 3)
        later = pickle.loads(pickle.dumps(one))
        assert later.num_workers == 3
        later.close()
        other.close()


@pytest.mark.needs("parallel")
def test_growing_takes_effect_while_a_task_runs(make_batch: MakeBatch, tmp_path: Path) -> None:
    """The first ends only when the others run beside it."""
    with make_batch(num_workers=1) as one:
        pairs = [("a", "b"), ("b", "c"), ("c", "a")]
        tasks = [one.function(work.meet, str(tmp_path), *pair) for pair in pairs]
        program = one.compile(tasks)
        program.start()
        work.wait_until((tmp_path / "a").exists)
        one.scale(3)
        program.wait(timeout=work.PATIENCE_S)
        assert all(task.result.get() for task in tasks)


@pytest.mark.needs("parallel", "background", "clients")
def test_shrinking_waits_for_what_runs(make_batch: MakeBatch, tmp_path: Path) -> None:
    """Two that run together go on to their end; of those behind only one runs at a time."""
    with make_batch(num_workers=2) as one:
        other = pickle.loads(pickle.dumps(one))
        running = [
            one.function(work.meet, str(tmp_path), *pair) for pair in (("a", "gate"), ("b", "gate"))
        ]
        behind = [one.function(work.alone, str(tmp_path / "one")) for _ in range(50)]
        program = one.compile([*running, *behind])
        program.start()
        work.wait_until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        one.scale(1)
        work.wait_until(lambda: other.num_workers == 1)  # now it is so
        (tmp_path / "gate").touch()
        program.wait(timeout=work.PATIENCE_S)
        assert all(task.result.get() for task in running)
        assert all(task.result.get() for task in behind)
        other.close()
