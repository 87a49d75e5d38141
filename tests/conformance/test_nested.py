"""Tasks that submit tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch


@pytest.mark.needs("nesting")
@pytest.mark.parametrize(("workers", "depth"), [(1, 30), (2, 10)])
def test_nested_deeply(make_batch: MakeBatch, workers: int, depth: int) -> None:
    with make_batch(num_workers=workers) as one:
        assert one.function(work.nest, one, depth).run(timeout=60) == depth


@pytest.mark.needs("nesting")
def test_nested_compiles(batch: Batch) -> None:
    assert batch.function(work.nest_compiled, batch, 3, 3).run(timeout=60) == 27
    tasks = [batch.function(work.nest_compiled, batch, 2, 2) for _ in range(8)]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks] == [4] * 8


@pytest.mark.needs("nesting")
def test_many_parents_wait_at_once(batch: Batch) -> None:
    tasks = [batch.function(work.submit_one, batch, i) for i in range(60)]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks] == list(range(60))


@pytest.mark.needs("nesting")
def test_parents_that_do_not_wait(make_batch: MakeBatch, tmp_path: Path) -> None:
    path = tmp_path / "children"
    with make_batch(num_workers=2) as one:
        one.compile([one.function(work.submit_and_forget, one, str(path)) for _ in range(20)]).run()
    assert path.read_text() == "child\n" * 20


@pytest.mark.needs("nesting")
def test_a_function_that_holds_the_batch(batch: Batch) -> None:
    """Its worker loads it once; the Batch in it serves one task after the other."""

    def parent(i: int) -> int:
        return int(batch.function(work.add, i, 1).run(timeout=work.PATIENCE_S))

    def closes(i: int) -> int:
        with batch:
            return int(batch.function(work.add, i, 1).run(timeout=work.PATIENCE_S))

    for function in (parent, closes):
        assert [batch.function(function, i).run() for i in range(5)] == [1, 2, 3, 4, 5]
        tasks = [batch.function(function, i) for i in range(50)]
        batch.compile(tasks).run(timeout=60)
        assert [t.result.get() for t in tasks] == list(range(1, 51))


@pytest.mark.needs("nesting")
def test_nested_failures_and_large_values(batch: Batch) -> None:
    def failing() -> None:
        batch.function(work.fail_awkwardly, 9).run()

    with pytest.raises(work.Awkward) as caught:
        batch.function(failing).run()
    assert caught.value.code == 9

    def large() -> Any:
        return batch.function(work.add, np.ones(60_000), 1).run()

    results = [batch.function(large).run() for _ in range(5)]
    assert all((r == 2).all() for r in results)
    tasks = [batch.function(large) for _ in range(10)]
    batch.compile(tasks).run(timeout=60)
    assert all((t.result.get() == 2).all() for t in tasks)


@pytest.mark.needs("nesting")
def test_another_batch_inside_a_task(make_batch: MakeBatch, batch: Batch) -> None:
    with make_batch(num_workers=1) as other:
        for _ in range(3):
            assert batch.function(work.submit_one, other, 5).run(timeout=work.PATIENCE_S) == 5
