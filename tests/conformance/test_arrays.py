"""Array tasks started by themselves: their elements, their results, how they are fed."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _arrays
import numpy as np
import pytest

import _work as work
import alamo
from alamo import Batch

# -- results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 64, 65, 5000])
@pytest.mark.parametrize("kind", [range, lambda n: [*range(n)], lambda n: iter(range(n))])
def test_all_ways_to_look_at_the_results(batch: Batch, n: int, kind: Any) -> None:
    task = batch.map(work.add, kind(n), itertools.repeat(1))
    result, stdout, _ = task.start()
    due = list(range(1, n + 1))
    pairs = list(result.as_completed())
    assert sorted(index for index, _ in pairs) == list(range(n))
    assert all(outcome.ok and outcome.get() == index + 1 for index, outcome in pairs)
    assert list(result) == result.get() == task.get(task.uid) == due
    assert len(result) == n
    assert [outcome.value for outcome in result.get(partial=True)] == due
    assert stdout.get() == [""] * n
    if n:
        assert (result[0], result[-1], result[n // 2]) == (due[0], due[-1], due[n // 2])
        assert result[1:5] == due[1:5]
        assert result[::-2] == due[::-2]
    for index in (n, -n - 1, n + 10**9):
        with pytest.raises(IndexError, match=rf"element -?\d+ of task \d+, which has {n}"):
            result[index]


def test_run_and_names(batch: Batch) -> None:
    assert batch.map(pow, [2, 3], (3, 2), name="powers").run() == [8, 9]
    with pytest.raises(ExceptionGroup, match=r"1 of 2 elements of task \d+ \(halves\) failed: 1"):
        batch.map(_arrays.half, [2, 3], name="halves").run()


def test_the_shortest_iterable_sets_the_length(batch: Batch) -> None:
    endless = itertools.count(10)
    assert batch.map(work.add, [1, 2, 3], endless).run() == [11, 13, 15]
    assert batch.map(work.add, range(9), "ab" * 0).run() == []
    assert batch.map(work.everything, range(2), "abc", {5: 0, 6: 0}).run() == [
        (0, "a", 5),
        (1, "b", 6),
    ]


def test_an_element_that_fails_fails_alone(batch: Batch) -> None:
    n = 5000
    task = batch.map(_arrays.half, range(n))
    result, *_ = task.start()
    failed = list(range(3, n, 7))
    message = rf"{len(failed)} of {n} elements of task {task.uid} failed: 3, 10, 17, .*, \.\.\."
    with pytest.raises(ExceptionGroup, match=message) as caught:
        result.get()
    assert [str(error) for error in caught.value.exceptions] == [f"no {i}" for i in failed]
    assert f"element 3 of task {task.uid}" in "".join(caught.value.exceptions[0].__notes__)
    outcomes = result.get(partial=True)
    assert [i for i, outcome in enumerate(outcomes) if not outcome.ok] == failed
    assert outcomes[10].value is None
    with pytest.raises(ValueError, match="no 10"):
        outcomes[10].get()
    with pytest.raises(ValueError, match="no 3"):
        result[3]
    assert result[4] == 2
    seen = []
    with pytest.raises(ValueError, match="no 3"):
        seen += result  # in order, up to the failure
    assert dict(result.as_completed())[4].value == 2
    with pytest.raises(ExceptionGroup):
        task.raise_failures()


@pytest.mark.parametrize("how", ["exit", "os._exit", "kill", "interrupt"])
@pytest.mark.needs("kills")
def test_an_element_that_ends_its_worker_fails_alone(batch: Batch, how: str) -> None:
    task = batch.map(_arrays.misbehave, range(200), [how] * 200)
    task.start()
    outcomes = task.result.get(timeout=work.PATIENCE_S, partial=True)
    assert [i for i, outcome in enumerate(outcomes) if not outcome.ok] == [5]
    kind = alamo.WorkerLost if how in ("os._exit", "kill") else alamo.TaskExit
    assert isinstance(outcomes[5].error, kind)
    notes = getattr(outcomes[5].error, "__notes__", [])
    assert "element 5 of task" in "".join([str(outcomes[5].error), *notes])


@pytest.mark.needs("descriptors")
def test_what_each_element_prints(batch: Batch) -> None:
    task = batch.map(_arrays.speak, range(700))
    result, stdout, stderr = task.start()
    assert result.get() == list(range(700))
    assert stdout.get() == [_arrays.spoken(n)[0] for n in range(700)]
    assert stderr.get() == [_arrays.spoken(n)[1] for n in range(700)]
    assert stdout[1] == "print 1\n"
    assert next(iter(stdout)) == ""


@pytest.mark.needs("descriptors")
def test_what_c_code_prints_in_each_element(batch: Batch) -> None:
    task = batch.map(_arrays.speak_in_c, range(2000))
    task.start()
    assert task.stdout.get() == [f"c {n}\n" for n in range(2000)]


@pytest.mark.needs("processes")
def test_an_element_finds_the_process_as_it_was(batch: Batch, tmp_path: Path) -> None:
    task = batch.map(_arrays.stray, range(500), [str(tmp_path)] * 500)
    assert task.run() == [(os.getcwd(), False)] * 500


# -- arguments -------------------------------------------------------------------------------


def test_values_of_every_kind(batch: Batch) -> None:
    values = [
        1,
        None,
        2.5,
        "text",
        b"bytes",
        [1, [2]],
        {"a": 1},
        3 + 4j,
        True,
        "",
        10**30,
        Path("a"),
    ]
    for given in (values, iter(values), deque(values), tuple(values)):
        assert batch.map(work.same, given).run() == values
    assert batch.map(work.same, {1: 2, 3: 4}).run() == [1, 3]
    assert batch.map(work.same, "text").run() == list("text")
    assert sorted(batch.map(work.same, {5, 6}).run()) == [5, 6]


def test_texts_fill_the_memory_that_a_worker_shares(batch: Batch) -> None:
    texts = [f"{n}" * (n % 80) for n in range(10_000)]
    texts[3500] = "x" * 70_000
    texts[4000] = "y" * 1_000_000
    assert batch.map(work.same, texts).run() == texts


def test_numpy_elements(batch: Batch) -> None:
    assert [type(v) for v in batch.map(work.same, np.arange(3)).run()] == [np.int64] * 3
    rows = batch.map(work.same, np.arange(12).reshape(3, 4)).run()
    assert np.array_equal(rows, np.arange(12).reshape(3, 4))
    with pytest.raises(TypeError):
        batch.map(work.same, np.array(1))


def test_large_elements_and_one_that_recurs(batch: Batch) -> None:
    """One object in many elements is sent once, also when no element is under way meanwhile."""
    shared = np.full(50_000, 3)
    task = batch.map(_sum_of, itertools.repeat(shared), range(400))
    assert task.run() == [150_000 + n for n in range(400)]
    steps: list[Any] = []

    def now_and_then() -> Iterator[Any]:
        for n in range(30):
            yield shared if n % 3 else np.full(50_000, n)
            if n % 5 == 4:
                assert task.result[n] is not None  # all before it have ended or soon will
                steps.append(n)

    task = batch.map(_sum_of, now_and_then(), range(30))
    assert task.run() == [(3 if n % 3 else n) * 50_000 + n for n in range(30)]
    assert len(steps) == 6


def _sum_of(array: Any, n: int) -> int:
    return int(array.sum()) + n


def test_an_array_is_the_element_s_own(batch: Batch) -> None:
    """Large results may be put where an argument lay, but not while another needs that."""
    shared = np.zeros(50_000)

    def given() -> Iterator[Any]:
        for n in range(20):
            yield shared
            assert task.result[n][0] == 1.0

    task = batch.map(_add_one, given())
    assert all((r == 1.0).all() for r in task.run())


def _add_one(array: Any) -> Any:
    array += 1
    return array


@pytest.mark.parametrize("kind", [list, iter])
def test_an_element_that_cannot_be_pickled_fails_alone(batch: Batch, kind: Any) -> None:
    values: list[Any] = [*range(3000)]
    values[70] = values[2000] = threading.Lock()
    task = batch.map(work.same, kind(values))
    task.start()
    outcomes = task.result.get(partial=True)
    assert [i for i, outcome in enumerate(outcomes) if not outcome.ok] == [70, 2000]
    assert isinstance(outcomes[70].error, alamo.SerializationError)
    text = rf"argument 0 of element 70 of task {task.uid}: .*lock"
    with pytest.raises(alamo.SerializationError, match=text):
        task.result[70]


def test_a_result_that_does_not_travel_fails_alone(batch: Batch) -> None:
    task = batch.map(work.call, [work.never_pickles, work.nothing, work.nothing])
    task.start()
    outcomes = task.result.get(partial=True)
    assert [outcome.ok for outcome in outcomes] == [False, True, True]
    assert isinstance(outcomes[0].error, alamo.SerializationError)


@pytest.mark.needs("processes")
def test_a_result_that_cannot_be_loaded_here_fails_alone(batch: Batch) -> None:
    task = batch.map(work.call, [work.nothing, work.loads_only_there, work.nothing])
    task.start()
    outcomes = task.result.get(partial=True)
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, alamo.SerializationError)


def test_functions_by_value(batch: Batch) -> None:
    base = 10
    assert batch.map(lambda n: base + n, range(100)).run() == list(range(10, 110))
    lock = threading.Lock()
    with pytest.raises(alamo.SerializationError, match=r"the function of task \d+"):
        batch.map(lambda n: lock, range(3)).start()
    assert batch.map(work.Adder(3), [1, 2]).run() == [4, 5]


@pytest.mark.parametrize("kind", [list, iter])
def test_a_handle_is_no_argument_of_an_element(batch: Batch, kind: Any) -> None:
    other = batch.function(work.same, 1)
    other.start()
    task = batch.map(work.same, kind([0, other.result]))
    if kind is list:
        with pytest.raises(alamo.UsageError, match=r"element 1 of task .*give the value"):
            task.start()
    else:
        task.start()
    with pytest.raises(ExceptionGroup, match="broke off after 1 elements") as caught:
        task.result.get(timeout=work.PATIENCE_S)
    assert isinstance(caught.value.exceptions[0], alamo.UsageError)
    handle = other.result
    with pytest.raises(alamo.UsageError, match="inside its function"):
        batch.map(lambda n: handle, [0]).start()


def test_a_handle_of_an_array_is_no_argument_of_a_single_task(batch: Batch) -> None:
    for reads in (None, lambda n: batch.read(object, n)):
        other = batch.map(work.same, [1], reads=reads)
        other.start()
        with pytest.raises(alamo.UsageError, match=r"handle\.get"):
            batch.function(work.same, other.result).start()


# -- feeding ---------------------------------------------------------------------------------


@pytest.mark.needs("background")
def test_an_endless_iterable_is_taken_as_far_as_it_is_run(batch: Batch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    endless = _arrays.Counted()
    task = batch.map(_arrays.wait_from, endless, itertools.repeat(100), itertools.repeat(gate))
    result, *_ = task.start()
    assert list(itertools.islice(result, 100)) == list(range(100))
    work.wait_until(lambda: endless.taken > 1000)
    endless.stop.set()
    Path(gate).touch()
    assert len(result) == endless.taken
    assert result.get() == list(range(endless.taken))


@pytest.mark.needs("background")
def test_large_items_are_not_pulled_far_ahead(batch: Batch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    endless = _arrays.Counted(lambda n: np.zeros(125_000) if n else n)
    task = batch.map(_wait_for, endless, itertools.repeat(gate))
    task.start()
    work.wait_until(lambda: endless.taken >= 65)
    threading.Event().wait(0.1)  # it would be pulled meanwhile
    assert endless.taken < 300
    endless.stop.set()
    Path(gate).touch()
    task.wait()


def _wait_for(value: Any, path: str) -> None:
    work.wait_for_file(path)


def test_an_iterable_may_wait_for_results(batch: Batch) -> None:
    def collatz() -> Iterator[int]:
        value = 27
        for n in itertools.count():
            yield value
            value = task.result[n]
            if value == 1:
                return

    task = batch.map(_next_of, collatz())
    result, *_ = task.start()
    assert result.get(timeout=work.PATIENCE_S)[-1] == 1
    assert len(result) == 111


def _next_of(n: int) -> int:
    return 3 * n + 1 if n % 2 else n // 2


@pytest.mark.needs("background")
def test_an_item_is_run_as_soon_as_it_is_pulled(batch: Batch) -> None:
    blocked = _arrays.Blocked()
    task = batch.map(work.same, blocked)
    result, *_ = task.start()
    assert [result[i] for i in range(3)] == [0, 1, 2]
    with pytest.raises(alamo.WaitTimeout), work.quick():
        result.get(timeout=0.05)
    with pytest.raises(alamo.WaitTimeout, match="goes on"), work.quick():
        list(result.as_completed(timeout=0.05))
    blocked.free.set()
    assert result.get() == [0, 1, 2]


@pytest.mark.parametrize("at", [0, 1, 3, 5000])
def test_an_iterable_that_raises(batch: Batch, at: int) -> None:
    def given() -> Iterator[int]:
        yield from range(at)
        raise OSError("the disk is gone")

    called: list[Any] = []
    task = batch.map(work.same, given(), callback_func=called.append)
    result, *_ = task.start()
    task.wait()
    with pytest.raises(ExceptionGroup, match=f"broke off after {at} elements") as caught:
        result.get()
    assert isinstance(caught.value.exceptions[0], OSError)
    outcomes = result.get(partial=True)
    assert [outcome.value for outcome in outcomes[:-1]] == list(range(at))
    assert isinstance(outcomes[-1].error, OSError)
    seen: list[Any] = []
    with pytest.raises(OSError, match="disk"):
        seen.extend(result)
    with pytest.raises(OSError, match="disk"):
        seen.extend(index for index, _ in result.as_completed())
    with pytest.raises(IndexError) as outside:
        result[at]
    assert isinstance(outside.value.__cause__, OSError)
    assert len(result) == at
    assert not called


def test_what_cannot_be_mapped(batch: Batch) -> None:
    for wrong in (lambda: batch.map(work.same), lambda: batch.map(work.same, 3)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match="callable"):
        batch.map(3, [1])  # type: ignore[arg-type]
    task = batch.map(work.same, [1])
    with pytest.raises(alamo.UsageError, match="has not been started"):
        task.result[0]
    with pytest.raises(alamo.UsageError, match="has not been started"):
        len(task.result)  # type: ignore[arg-type]
    task.start()
    with pytest.raises(alamo.UsageError, match="has been started already"):
        task.start()
    with pytest.raises(alamo.UsageError, match="uid 3"):
        task.result.get(3)
    with pytest.raises(alamo.UsageError):
        task.read("x", 1)
