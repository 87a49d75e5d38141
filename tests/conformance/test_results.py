"""What comes back: values of every kind and size, the same object each time, and they stay."""

from __future__ import annotations

import gc
import math
from pathlib import Path

import numpy as np
import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch


def test_values_of_many_types(batch: Batch) -> None:
    values = [
        None, True, 0, -1, 1 << 200, 1.5, math.inf, "", "ü€", "\0", "\ud800", b"", b"\x80\x90",
        (), [], {}, {1, 2}, frozenset({3}), 1j, ..., NotImplemented, int, len, range(3),
        {"a": [1, {"b": (2,)}]}, Path("/x"), work.Bag(1), "x" * 100_000, b"y" * 3_000_000,
        "__main__", ["__main__"], bytearray(b"z"),
    ]  # fmt: skip
    tasks = [batch.function(work.same, v) for v in values]
    batch.compile(tasks).run()
    assert [t.result.get() for t in tasks] == values
    assert [type(t.result.get()) for t in tasks] == [type(v) for v in values]
    assert [batch.function(work.same, v).run() for v in values] == values
    assert math.isnan(batch.function(work.same, math.nan).run())


def test_results_are_the_same_object_each_time(batch: Batch) -> None:
    task = batch.function(work.same, [1, 2])
    task.run()
    assert task.result.get() is task.result.get()
    big = batch.function(work.same, np.zeros(100_000))
    big.run()
    assert big.result.get() is big.result.get()


def test_results_stay_what_they_are(batch: Batch) -> None:
    """Blocks are filled again with later results; earlier ones must not change."""
    kept = []
    for i in range(30):
        task = batch.function(np.full, 20_000, i)
        task.start()
        task.wait()
        if i % 3 == 0:
            kept.append((i, task.result.get()))
        elif i % 3 == 1:
            kept.append((i, batch.function(np.full, 20_000, i).run()))
    more = [batch.function(np.full, 20_000, -1) for _ in range(30)]
    batch.compile(more).run()
    for i, array in kept:
        assert (array == i).all()
        array += 1
    for i, array in kept:
        assert (array == i + 1).all()


def test_results_stay_after_the_end(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=1) as one:
        tasks = [one.function(np.full, 30_000, i) for i in range(5)]
        one.compile(tasks).run()
        small = one.function(work.say, "x")
        small.start()
    assert [t.result.get()[0] for t in tasks] == list(range(5))
    assert small.stdout.get() == "x"


def test_handles_keep_the_batch(make_batch: MakeBatch) -> None:
    result = make_batch(num_workers=1).function(work.same, 5).start()[0]
    gc.collect()
    assert result.get() == 5
    del result
    gc.collect()


def test_every_kind_of_outcome_comes_back_under_a_small_budget(
    make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays, output, failures, values with large pickles, None."""
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", str(1 << 20))
    batch = make_batch(num_workers=2)
    filler = [batch.function(work.same, "f" * 20_000) for _ in range(100)]
    batch.compile(filler).run()
    arrays = [batch.function(np.full, 50_000, i) for i in range(40)]
    mixed = [
        batch.function(work.say, "printed", "too"),
        batch.function(work.fail_awkwardly, 3),
        batch.function(work.same, {"a": [np.arange(20_000), "text"]}),
        batch.function(work.same, b"b" * 3_000_000),
        batch.function(work.nothing),
        batch.function(work.same, list(range(50_000))),
    ]
    with pytest.warns(RuntimeWarning, match="1 of 46"):
        batch.compile([*arrays, *mixed]).run()
    for i, task in enumerate(arrays):
        array = task.result.get()
        assert (array == i).all()
        array += 1
        assert task.result.get() is array
    assert (mixed[0].stdout.get(), mixed[0].stderr.get()) == ("printed", "too")
    assert mixed[0].result.get() is None
    with pytest.raises(work.Awkward):
        mixed[1].result.get()
    value = mixed[2].result.get()
    assert (value["a"][0] == np.arange(20_000)).all()
    assert mixed[3].result.get() == b"b" * 3_000_000
    assert mixed[4].result.get() is None
    assert mixed[5].result.get() == list(range(50_000))
