"""Array tasks and what goes on around them: callbacks, the end, threads, forks, tasks that map."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _arrays
import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import Batch


def feeders() -> list[threading.Thread]:
    """Threads that make elements."""
    names = ("alamo-feed-", "alamo-pull-")
    return [t for t in threading.enumerate() if t.name.startswith(names)]


# -- callbacks -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3000])
@pytest.mark.parametrize("by_element", [False, True])
def test_the_callback_gets_all_results(batch: Batch, n: int, by_element: bool) -> None:
    seen: list[Any] = []
    reads = (lambda n: batch.read(object, n)) if by_element else None
    task = batch.map(
        abs,
        range(n),
        reads=reads,
        callback_func=lambda *given: seen.append(given),
        callback_args=(7,),
    )
    task.start()
    task.wait()
    assert seen == [(list(range(n)), 7)]
    assert task.callback_error is None


@pytest.mark.parametrize("by_element", [False, True])
def test_no_callback_after_a_failure(batch: Batch, by_element: bool) -> None:
    seen: list[Any] = []
    reads = (lambda n: batch.read(object, n)) if by_element else None
    task = batch.map(_arrays.half, range(10), reads=reads, callback_func=seen.append)
    task.start()
    task.wait()
    assert not seen


@pytest.mark.parametrize("n", [0, 20])
def test_callbacks_of_arrays_run_before_that_of_the_compiled_task(batch: Batch, n: int) -> None:
    seen: list[Any] = []
    whole = batch.map(abs, range(n), callback_func=lambda r: seen.append(len(r)))
    lazy = batch.map(abs, iter(range(n)), callback_func=lambda r: seen.append(len(r)))
    each = batch.map(
        abs, range(n), writes=lambda n: batch.write(object, n), callback_func=lambda r: 1 / 0
    )
    compiled = batch.compile([whole, lazy, each], callback_func=lambda: seen.append("end"))
    compiled.run()
    assert seen == [n, n, "end"]
    assert isinstance(each.callback_error, ZeroDivisionError)
    assert whole.callback_error is None


@pytest.mark.needs("background")
def test_get_does_not_wait_for_the_callback(batch: Batch) -> None:
    gate = threading.Event()
    task = batch.map(abs, range(3), callback_func=lambda _: gate.wait(work.PATIENCE_S))
    task.start()
    assert task.result.get(timeout=work.PATIENCE_S) == [0, 1, 2]
    with pytest.raises(alamo.WaitTimeout):
        task.wait(0.01)
    gate.set()
    task.wait()


# -- the end ---------------------------------------------------------------------------------


@pytest.mark.needs("background")
def test_the_end_of_a_batch_waits_for_what_is_fed(make_batch: MakeBatch) -> None:
    go = threading.Event()

    def given() -> Iterator[int]:
        yield 1
        go.wait(work.PATIENCE_S)
        yield from range(1000)

    one = make_batch(num_workers=2)
    task = one.map(abs, given())
    task.start()
    one.close()
    with pytest.raises(alamo.WaitTimeout):
        one.join(0.05)
    with pytest.raises(alamo.SubmitAfterClose):
        one.map(abs, [1])
    go.set()
    one.join(work.PATIENCE_S)
    assert task.result.get() == [1, *range(1000)]
    assert not feeders()


@pytest.mark.needs("background")
def test_terminate_ends_what_is_fed(make_batch: MakeBatch) -> None:
    one = make_batch(num_workers=2)
    endless, blocked = _arrays.Counted(), _arrays.Blocked()
    tasks = [one.map(abs, endless), one.map(abs, blocked), one.map(abs, range(10**9))]
    for task in tasks:
        task.start()
    assert tasks[0].result[10_000] == 10_000
    one.terminate()
    for task in tasks:
        for wait in (
            task.wait,
            task.result.get,
            lambda task=task: list(task.result.as_completed()),
            lambda task=task: task.result[10**8],
            lambda task=task: task.result[-1] if task is not tasks[2] else task.wait(),
        ):
            with pytest.raises(alamo.BatchBroken), work.quick():
                wait()
    blocked.free.set()
    work.wait_until(lambda: not feeders())


@pytest.mark.needs("background")
def test_an_error_leaves_an_endless_array(make_batch: MakeBatch) -> None:
    endless = _arrays.Counted()

    def use() -> None:
        with make_batch(num_workers=2) as one:
            result, *_ = one.map(abs, endless).start()
            for index, _ in result.as_completed():
                if index > 1000:
                    raise KeyError(index)

    with pytest.raises(KeyError):
        use()
    work.wait_until(lambda: not feeders())


@pytest.mark.needs("background")
def test_an_endless_array_ends_with_its_iterable(make_batch: MakeBatch) -> None:
    endless = _arrays.Counted()
    with make_batch(num_workers=2) as one:
        result, *_ = one.map(abs, endless).start()
        assert result[5000] == 5000
        endless.stop.set()
    assert len(result.get()) == endless.taken


@pytest.mark.needs("kills")
def test_ctrl_c_in_start_get_and_iteration(batch: Batch, tmp_path: Path) -> None:
    class Interrupts(list[int]):
        def __iter__(self) -> Iterator[int]:
            yield from range(100)
            signal.raise_signal(signal.SIGINT)
            yield 5

    task = batch.map(abs, Interrupts(range(200)))
    after = batch.map(abs, range(3))
    with pytest.raises(KeyboardInterrupt):
        task.start()
    with pytest.raises(BaseExceptionGroup, match="broke off"):
        task.result.get(timeout=work.PATIENCE_S)
    first, second = batch.map(abs, Interrupts(range(200))), batch.map(abs, range(5))
    compiled = batch.compile([first, second])
    with pytest.raises(KeyboardInterrupt):
        compiled.start()
    compiled.wait(work.PATIENCE_S)
    assert after.run() == [0, 1, 2]
    gate = tmp_path / "gate"
    task = batch.map(work.wait_for_file, [str(gate)])
    result, *_ = task.start()
    for wait in (result.get, lambda: list(result), lambda: list(result.as_completed())):
        with pytest.raises(KeyboardInterrupt), work.quick():
            work.interrupted(wait)
    gate.touch()
    assert result.get() == [str(gate)]


# -- threads, forks, tasks -------------------------------------------------------------------


def test_many_threads_map_at_once(batch: Batch) -> None:
    sums: list[int] = []

    def use(k: int) -> None:
        given: Any = range(500) if k % 2 else iter(range(500))
        sums.append(sum(batch.map(work.add, given, [k] * 500).run()))

    threads = [threading.Thread(target=use, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(work.PATIENCE_S)
    assert sorted(sums) == [sum(range(500)) + 500 * k for k in range(8)]
    work.wait_until(lambda: not feeders())


@pytest.mark.needs("clients", "background")
def test_a_fork_while_elements_are_made(batch: Batch) -> None:
    blocked = _arrays.Blocked()
    task = batch.map(abs, blocked)
    result, *_ = task.start()
    assert list(itertools.islice(result, 3)) == [0, 1, 2]
    pid = os.fork()
    if not pid:
        status = 1
        try:
            assert result[1] == 1
            for wait in (result.get, lambda: result[3], lambda: len(result)):
                try:
                    wait()
                except alamo.BatchBroken:
                    status += 1
            assert batch.map(abs, range(5)).run(timeout=work.PATIENCE_S) == list(range(5))
        except BaseException:
            traceback.print_exc()
            status = 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    blocked.free.set()
    assert result.get() == [0, 1, 2]


@pytest.mark.needs("nesting")
@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_that_map_on_the_batch_that_runs_them(make_batch: MakeBatch, workers: int) -> None:
    with make_batch(num_workers=workers) as one:
        due = [n + (10 - n) for n in range(10)]
        assert one.function(_arrays.map_here, one, 10).run(timeout=work.PATIENCE_S) == due
        outer = one.map(_arrays.map_here, [one] * 4, [10] * 4)
        assert outer.run(timeout=work.PATIENCE_S) == [due] * 4


@pytest.mark.needs("nesting", "clients")
def test_a_task_that_maps_and_does_not_wait(make_batch: MakeBatch, tmp_path: Path) -> None:
    """What was at hand is made to its end, an endless iterable breaks off with the task."""
    path = tmp_path / "lines"
    with make_batch(num_workers=2) as one:
        one.function(_arrays.map_and_forget, one, 300, str(path)).run(timeout=work.PATIENCE_S)
    lines = sorted(map(int, path.read_text().split()))
    assert lines[lines.count(-1) :] == list(range(300))


@pytest.mark.needs("clients")
def test_another_client_that_leaves_in_good_order(make_batch: MakeBatch, tmp_path: Path) -> None:
    with make_batch(num_workers=2) as one:
        other: Batch = pickle.loads(pickle.dumps(one))
        with other:
            path = str(tmp_path / "lines")
            lines = map(str, range(500))
            other.map(work.append_line, itertools.repeat(path), lines).start()
    assert sorted(map(int, Path(path).read_text().split())) == list(range(500))


def test_results_above_the_budget(make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the file is found there, in every way to look at it."""
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", "1000")
    with make_batch(num_workers=2) as one:
        task = one.map(_arrays.half, range(3000))
        result, *_ = task.start()
        outcomes = result.get(partial=True)
        assert [o.value for o in outcomes if o.ok] == [n // 2 for n in range(3000) if n % 7 != 3]
        assert result[2998] == 1499
        assert sum(1 for _, o in result.as_completed() if o.ok) == sum(o.ok for o in outcomes)
        texts = one.map(work.same, itertools.repeat("x" * 100, 500)).run()
        assert texts == ["x" * 100] * 500
