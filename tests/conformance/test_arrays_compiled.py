"""Array tasks among others: order around the whole and element by element, handles, failures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _arrays
import pytest

import _work as work
import alamo
from alamo import Batch

NUM_WORKERS = 4


class Store:
    """A communication object."""


def test_order_around_the_whole_array(batch: Batch, tmp_path: Path) -> None:
    paths = [str(tmp_path / str(k)) for k in range(40)]
    first = batch.map(_arrays.change_file, paths, [1] * 40, writes=batch.write(tmp_path))
    middle = batch.function(sorted, paths, reads=batch.read(tmp_path))
    second = batch.map(_arrays.change_file, iter(paths), [2] * 40, writes=batch.write(tmp_path))
    empty = batch.map(_arrays.change_file, [], [], writes=batch.write(tmp_path))
    third = batch.map(_arrays.change_file, paths, [3] * 40)
    third.write(tmp_path)
    handles = batch.compile([first, middle, second, empty, third]).run()
    assert third.result.get() == ["1,2,"] * 40
    assert second.result.get() == ["1,"] * 40
    assert empty.result.get() == []
    assert len(handles) == 5
    assert set(handles) == {t.uid for t in (first, middle, second, empty, third)}
    assert handles[second.uid][0].get() == handles[second.uid][0][:] == ["1,"] * 40
    assert handles[second.uid][0].get(second.uid) == ["1,"] * 40


@pytest.mark.needs("parallel")
def test_order_of_the_elements_of_two_arrays_one_by_one(batch: Batch, tmp_path: Path) -> None:
    """The later array's first element does not wait for the earlier one's last."""
    store = Store()
    gate = str(tmp_path / "gate")
    waits = batch.map(
        _arrays.wait_from, range(3), [2] * 3, [gate] * 3, writes=lambda n, *_: batch.write(store, n)
    )
    opens = batch.map(_open, range(2), [gate] * 2, reads=lambda n, _: batch.read(store, n))
    batch.compile([waits, opens]).run(timeout=work.PATIENCE_S)
    assert waits.result.get() == [0, 1, 2]
    assert opens.result.get() == [0, 1]


def _open(n: int, path: str) -> int:
    if n:
        Path(path).touch()
    return n


def test_handles_of_arrays_are_lists(batch: Batch) -> None:
    whole = batch.map(abs, range(-3, 0))
    each = batch.map(work.say, "ab", reads=lambda n: batch.read(Store, n))
    nothing = batch.map(abs, [])
    total = batch.function(sum, whole.result)
    texts = batch.function(work.same, {"out": [each.stdout, whole.stdout], "all": nothing.result})
    again = batch.map(work.add, [1, 2], [total.result] * 2, reads=lambda *_: batch.read(Store))
    batch.compile([whole, each, nothing, total, texts, again]).run()
    assert total.result.get() == 6
    assert texts.result.get() == {"out": [["a", "b"], [""] * 3], "all": []}
    assert again.result.get() == [7, 8]


def test_large_results_as_arguments(batch: Batch) -> None:
    import numpy as np

    made = batch.map(np.full, [20_000] * 30, range(30))
    total = batch.function(_sums, made.result)
    batch.compile([made, total]).run()
    assert total.result.get() == [20_000 * n for n in range(30)]
    assert [int(a[0]) for a in made.result] == list(range(30))


def _sums(arrays: list[Any]) -> list[int]:
    return [int(a.sum()) for a in arrays]


# -- failures --------------------------------------------------------------------------------


def test_what_needs_an_array_with_a_failed_element_is_skipped(batch: Batch) -> None:
    store = Store()
    bad = batch.map(_arrays.half, range(10), writes=batch.write(store), name="bad")
    by_access = batch.map(abs, range(5), reads=batch.read(store))
    lazy = batch.map(abs, iter(range(5)), reads=batch.read(store))
    by_handle = batch.function(len, bad.result)
    ordered = batch.map(abs, range(5), writes=batch.write(store, 1))
    behind = batch.function(work.nothing, reads=batch.read(store, 2))
    each = batch.map(abs, range(3), reads=lambda n: batch.read(store, n))
    compiled = batch.compile([bad, by_access, lazy, by_handle, ordered, behind, each])
    with pytest.warns(RuntimeWarning, match="did not run"):
        compiled.run()
    for array in (by_access, lazy):
        for look in (
            array.result.get,
            lambda array=array: array.result.get(partial=True),
            lambda array=array: array.result[0],
            lambda array=array: array.result[-1],
            lambda array=array: len(array.result),
            lambda array=array: list(array.result),
            lambda array=array: list(array.result.as_completed()),
        ):
            with pytest.raises(alamo.UpstreamFailed, match=r"\(bad\)"), work.quick():
                look()
    with pytest.raises(alamo.UpstreamFailed, match="1 of 10 elements"):
        by_handle.result.get()
    assert ordered.result.get() == list(range(5))
    outcomes = each.result.get(partial=True)
    assert [type(o.error) for o in outcomes] == [
        alamo.UpstreamFailed,
        type(None),
        alamo.UpstreamFailed,
    ]
    with pytest.raises(ExceptionGroup) as caught:
        compiled.raise_failures()
    assert [type(e) for e in caught.value.exceptions] == [ExceptionGroup]


@pytest.mark.needs("background")
def test_waits_on_an_array_that_is_skipped_meanwhile(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    store = Store()
    bad = batch.function(_fail_later, str(gate), writes=batch.write(store))
    array = batch.map(abs, range(10), reads=batch.read(store))
    endless = _arrays.Counted()
    fed = batch.map(abs, endless, reads=batch.read(store))
    batch.compile([bad, array, fed]).start()
    errors: list[BaseException] = []

    def look(wait: Any) -> None:
        try:
            wait()
        except alamo.UpstreamFailed as error:
            errors.append(error)

    import threading

    waits = [
        lambda array=array, how=how: how(array.result)
        for array in (array, fed)
        for how in (lambda r: r[3], lambda r: r.get(), list, lambda r: list(r.as_completed()))
    ]
    threads = [threading.Thread(target=look, args=(wait,)) for wait in waits]
    for thread in threads:
        thread.start()
    work.wait_until(lambda: endless.taken > 1000)
    gate.touch()
    for thread in threads:
        thread.join(work.PATIENCE_S)
    assert len(errors) == len(waits)
    work.wait_until(lambda: not [t for t in threading.enumerate() if "alamo-pull" in t.name])


def _fail_later(path: str) -> None:
    work.wait_for_file(path)
    raise ValueError("too late")


def test_an_iterable_that_raises_is_a_failed_array(batch: Batch) -> None:
    def given() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    array = batch.map(abs, given())
    needs = batch.function(len, array.result)
    compiled = batch.compile([array, needs])
    with pytest.warns(RuntimeWarning):
        compiled.run()
    with pytest.raises(alamo.UpstreamFailed, match="broke off after 1 elements"):
        needs.result.get()


# -- compiles that fail ------------------------------------------------------------------------


def test_a_compile_that_fails_leaves_arrays_as_they_were(batch: Batch) -> None:
    store = Store()
    whole = batch.map(abs, iter(range(3)), reads=batch.read(store))
    each = batch.map(abs, iter(range(4)), writes=lambda n: batch.write(store, n))
    for wrong in (
        batch.function(work.same, work.lock),
        batch.map(lambda n: NEVER, [1]),
        batch.map(abs, [NEVER], reads=lambda n: batch.read(store)),
        batch.map(abs, [1, 2], reads=lambda n: 3),
        whole,
    ):
        if wrong is not whole:
            wrong.read(store, 1) if not callable(wrong.reads) else None
        tasks = [whole, each, wrong, batch.function(work.same, work.NeverPickles())]
        with pytest.raises((alamo.AlamoError, TypeError)):
            batch.compile(tasks)
        for array in (whole, each):
            with pytest.raises(alamo.UsageError, match="has not been started"):
                array.result.get()
    batch.compile([whole, each]).run()
    assert whole.result.get() == [0, 1, 2]
    assert each.result.get() == [0, 1, 2, 3]


NEVER = work.NeverPickles()


def test_what_is_wrong_names_the_element(batch: Batch) -> None:
    store = Store()
    bad = batch.map(work.same, [1, NEVER], reads=lambda n: batch.read(store), name="bad")
    with pytest.raises(alamo.SerializationError, match=r"element 1 of task \d+ \(bad\)"):
        bad.start()
    bad = batch.map(work.same, [1, 2], reads=lambda n: batch.read(store, 1 // (n - 2)))
    with pytest.raises(ZeroDivisionError) as caught:
        bad.start()
    assert "element 1" in caught.value.__notes__[0]

    def given() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    bad = batch.map(work.same, given(), reads=lambda n: batch.read(store))
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            bad.start()


def test_misuse_of_arrays_in_a_compile(batch: Batch) -> None:
    for reads in (None, lambda n: batch.read(Store, n)):
        array = batch.map(abs, range(3), reads=reads)
        with pytest.raises(alamo.GraphError, match="in the list twice"):
            batch.compile([array, array])
        compiled = batch.compile([array])
        with pytest.raises(alamo.UsageError, match="subtask"):
            array.start()
        with pytest.raises(alamo.GraphError, match="been compiled"):
            batch.compile([array])
        with pytest.raises(alamo.UsageError, match="has not been started"):
            array.result.get()
        compiled.start()
        assert compiled.get() == [0, 1, 2]
        with pytest.raises(alamo.UsageError, match="subtask"):
            array.wait()
        with pytest.raises(alamo.UsageError):
            compiled.start()
    array = batch.map(abs, range(3), reads=lambda n: batch.read(Store, n))
    with pytest.raises(alamo.UsageError, match="function of the element"):
        array.read(Store, 1)
    array.write(Store, 1)
    assert array.run() == [0, 1, 2]
    array = batch.map(abs, range(3))
    array.start()
    with pytest.raises(alamo.GraphError, match="been started"):
        batch.compile([array])


# -- serial equivalence ------------------------------------------------------------------------


def drawn(rng: random.Random, batch: Batch, paths: list[str]) -> tuple[list[Any], list[Any]]:
    """Tasks over files, and for each what it is: paths and labels of its calls."""
    tasks, plans = [], []
    for k in range(rng.randint(2, 12)):
        label = f"step {k}"
        kind = rng.choice(("one", "whole", "each", "each"))
        chosen = [rng.choice(paths) for _ in range(rng.choice((0, 1, 3, 8)))]
        if kind == "one":
            chosen = [rng.choice(paths)]
            task = batch.function(_stir, chosen[0], label, writes=batch.write(chosen[0]))
        elif kind == "whole":
            chosen = list(dict.fromkeys(chosen))  # its elements are not ordered
            given = chosen if rng.random() < 0.5 else iter(chosen)
            accesses = [batch.write(path) for path in chosen]
            task = batch.map(_stir, given, [label] * len(chosen), writes=accesses)
        else:
            task = batch.map(
                _stir, chosen, [label] * len(chosen), writes=lambda path, _: batch.write(path)
            )
        tasks.append(task)
        plans.append((kind, [(path, label) for path in chosen]))
    return tasks, plans


def _stir(path: str, label: str) -> str:
    return work.stir(label, [path], [path])


@pytest.mark.parametrize("seed", range(25))
def test_all_ends_as_if_the_list_had_run_in_order(batch: Batch, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"f{k}" for k in range(rng.choice((1, 2, 6)))]
    (tmp_path / "batch").mkdir()
    (tmp_path / "serial").mkdir()
    tasks, plans = drawn(rng, batch, [str(tmp_path / "batch" / name) for name in names])
    batch.compile(tasks).run(timeout=work.PATIENCE_S)
    for task, (kind, calls) in zip(tasks, plans, strict=True):
        due = [_stir(path.replace("/batch/", "/serial/"), label) for path, label in calls]
        assert task.result.get() == (due[0] if kind == "one" else due)
