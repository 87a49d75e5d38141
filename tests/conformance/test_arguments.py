"""What goes into tasks: snapshots, fresh copies, objects that recur, arrays."""

from __future__ import annotations

import operator
import pickle

import numpy as np
import pytest

import _work as work
from alamo import Batch

# -- snapshots and sharing ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5000, 100_000])
def test_arguments_are_taken_at_compile(batch: Batch, size: int) -> None:
    values, array = [0] * size, np.zeros(size)
    tasks = [batch.function(work.everything, values, array) for _ in range(4)]
    whole = batch.compile(tasks)
    values[0] = 1
    array[0] = 1
    whole.run()
    for task in tasks:
        seen, seen_array = task.result.get()
        assert seen[0] == seen_array[0] == 0
        assert len(seen) == len(seen_array) == size


@pytest.mark.parametrize("size", [1, 5000, 100_000])
def test_arguments_of_single_tasks_are_taken_at_start(batch: Batch, size: int) -> None:
    values, array = [0] * size, np.zeros(size)
    tasks = []
    for i in range(5):
        values[0], array[0] = i, i
        tasks.append(batch.function(work.everything, values, array))
        tasks[-1].start()
    for i, task in enumerate(tasks):
        seen, seen_array = task.result.get()
        assert seen[0] == seen_array[0] == i


@pytest.mark.parametrize("size", [1, 5000])
def test_every_task_gets_a_fresh_copy(batch: Batch, size: int) -> None:
    values = [0] * size
    tasks = [batch.function(work.change, values, i) for i in range(50)]
    batch.compile(tasks).run()
    assert [t.result.get()[-1] for t in tasks] == list(range(50))
    assert {len(t.result.get()) for t in tasks} == {size + 1}
    array = np.zeros(20_000)
    adders = [batch.function(operator.iadd, array, i) for i in range(10)]
    batch.compile(adders).run()
    assert [t.result.get()[0] for t in adders] == list(range(10))


def test_one_object_given_twice_to_a_task_is_one_object_there(batch: Batch) -> None:
    for value in ([1], list(range(5000)), np.zeros(50_000)):
        task = batch.function(operator.is_, value, value)
        assert batch.compile([task]).run()[task.uid][0].get() is True
        assert batch.function(operator.is_, value, value).run() is True


def test_an_object_that_recurs_is_pickled_once(batch: Batch) -> None:
    shared = work.CountsLoads(2000)
    work.CountsLoads.pickled = 0
    tasks = [batch.function(operator.attrgetter("data"), shared) for _ in range(1000)]
    batch.compile(tasks).run()
    assert work.CountsLoads.pickled <= 2
    assert tasks[-1].result.get() == "x" * 2000


def test_a_shared_object_may_hold_handles(batch: Batch) -> None:
    source = batch.function(work.same, 3)
    shared = work.Bag(["x" * 5000, source.result])
    tasks = [batch.function(operator.attrgetter("content"), shared) for _ in range(30)]
    batch.compile([source, *tasks]).run()
    assert all(t.result.get() == ["x" * 5000, 3] for t in tasks)


def test_temporary_arguments_do_not_get_mixed_up(batch: Batch) -> None:
    """Objects whose id is used again within one compile."""
    tasks = [batch.function(work.everything, [i], np.full(3000, i), "s" * 2000) for i in range(300)]
    batch.compile(tasks).run()
    for i, task in enumerate(tasks):
        first, second, _ = task.result.get()
        assert first == [i]
        assert (second == i).all()
    for i in range(100):
        assert batch.function(work.same, [i] * 600).run() == [i] * 600


def test_many_single_tasks_with_large_arguments(batch: Batch) -> None:
    """More than one program's worth, in flight at once, with large results."""
    handles = [batch.function(work.add, np.full(10_000, i), 1).start()[0] for i in range(100)]
    for i, handle in enumerate(handles):
        assert (handle.get() == i + 1).all()
    singles = [batch.function(work.same, i).start()[0] for i in range(2500)]
    assert [h.get() for h in singles] == list(range(2500))


def test_large_arguments_of_single_tasks_behind_a_compile(batch: Batch) -> None:
    """They are in their block before the worker is told of it."""
    batch.compile([batch.function(np.sum, np.full(100_000, i)) for i in range(5)]).run()
    held = [np.full(200_000, i) for i in range(12)]
    handles = [batch.function(work.everything, a, i).start()[0] for i, a in enumerate(held)]
    for handle in handles:
        array, i = handle.get()
        assert (array == i).all()


# -- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 100, 8191, 8192, 8193, 200_000])
def test_arrays_in_and_out(batch: Batch, count: int) -> None:
    array = np.arange(count, dtype=float)
    result = batch.function(work.same, array).run()
    assert (result == array).all()
    assert result.dtype == array.dtype
    assert result.flags.writeable
    if count:
        result[0] = 5
        assert array[0] == 0
    inside = batch.function(work.same, {"a": [array, array[: count // 2]]}).run()
    assert (inside["a"][0] == array).all()
    assert inside["a"][0].flags.writeable


def test_arrays_of_every_kind(batch: Batch) -> None:
    base = np.arange(60_000.0).reshape(200, 300)
    readonly = base.copy()
    readonly.flags.writeable = False
    arrays = [
        base,
        base.T,
        np.asfortranarray(base),
        base[::2, ::3],
        base[:, 5],
        base.astype("f4"),
        base.astype("S10"),
        base.astype(object)[:50],
        np.array(5.0),
        np.zeros((0, 5)),
        base > 5,
        np.zeros(9000, dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array(base, base > 5),
        readonly,
    ]
    tasks = [batch.function(work.same, a) for a in arrays]
    batch.compile(tasks).run()
    for task, array in zip(tasks, arrays):
        result = task.result.get()
        assert result.shape == array.shape
        assert result.dtype == array.dtype
        assert type(result) is type(array)
        assert np.array_equal(np.asarray(result), np.asarray(array))
        assert result.flags.writeable == array.flags.writeable or array is readonly
    buffer = pickle.PickleBuffer(bytearray(b"x" * 100_000))
    assert bytes(batch.function(bytes, buffer).run()) == b"x" * 100_000
