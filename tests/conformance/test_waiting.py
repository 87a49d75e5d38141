"""Waiting for many tasks at once, and waiting in an event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import Batch, BatchBroken, UsageError, WaitTimeout

SOON_S = work.PATIENCE_S


def wait_for(path: str) -> str:
    """A task that ends when the file is there."""
    work.wait_until(Path(path).exists)
    return path


def kinds_of_tasks(batch: Batch) -> dict[str, alamo.Task]:
    """A started task of every kind."""
    single = batch.function(work.same, "single")
    subtask = batch.function(work.same, "subtask")
    inner = batch.map(work.same, range(3))
    expanded = batch.map(work.same, range(4), reads=lambda i: batch.read("data", str(i)))
    compiled = batch.compile([subtask, inner, expanded])
    array = batch.map(work.same, range(5))
    alone = batch.map(work.same, range(6), reads=lambda i: batch.read("data", str(i)))
    for task in (single, compiled, array, alone):
        task.start()
    return {
        "single": single, "subtask": subtask, "inner": inner, "expanded": expanded,
        "compiled": compiled, "array": array, "alone": alone,
    }  # fmt: skip


def outcomes() -> dict[str, Any]:
    ranges = {"inner": 3, "expanded": 4, "array": 5, "alone": 6}
    named: dict[str, Any] = {name: list(range(n)) for name, n in ranges.items()}
    return named | {"single": "single", "subtask": "subtask"}


# -- as_completed --------------------------------------------------------------------------


def test_tasks_of_every_kind_come_once(batch: Batch) -> None:
    tasks = list(kinds_of_tasks(batch).values())
    assert len({hash(task) for task in tasks}) == len(tasks)  # by identity
    completed = list(alamo.as_completed([*tasks, *tasks], timeout=SOON_S))
    assert len(completed) == len(tasks)
    assert set(completed) == set(tasks)
    assert set(alamo.as_completed(iter(tasks))) == set(tasks)  # all have ended
    assert list(alamo.as_completed([])) == []


@pytest.mark.needs("background", "parallel")
def test_tasks_come_as_they_end(batch: Batch, tmp_path: Path) -> None:
    slow = batch.function(wait_for, str(tmp_path / "go"))
    quick = batch.function(work.same, 1)
    program = batch.compile([slow, quick])
    program.start()
    completed = alamo.as_completed([program, slow, quick], timeout=SOON_S)
    assert next(completed) is quick
    (tmp_path / "go").touch()
    assert {next(completed), next(completed)} == {slow, program}
    with pytest.raises(StopIteration):
        next(completed)


def test_failed_and_skipped_tasks_end_too(batch: Batch) -> None:
    failing = batch.function(work.fail, ValueError("no"))
    skipped = batch.function(work.same, failing.result)
    program = batch.compile([failing, skipped])
    program.start()
    assert set(alamo.as_completed([failing, skipped, program])) == {failing, skipped, program}


@pytest.mark.needs("background")
def test_the_time_of_as_completed_ends(batch: Batch, tmp_path: Path) -> None:
    slow = batch.function(wait_for, str(tmp_path / "go"))
    slow.start()
    with pytest.raises(WaitTimeout, match="1 of 1 have not ended after"):
        next(alamo.as_completed([slow], timeout=0.05))
    with pytest.raises(TimeoutError):
        list(alamo.as_completed([slow], timeout=0))
    (tmp_path / "go").touch()
    assert list(alamo.as_completed([slow], timeout=1e9)) == [slow]
    assert list(alamo.as_completed([slow], timeout=0)) == [slow]
    with pytest.raises(UsageError, match="a timeout is a number"):
        alamo.as_completed([slow], timeout="1")  # type: ignore[arg-type]


def test_what_is_not_started_is_refused_at_once(batch: Batch) -> None:
    single = batch.function(work.nothing)
    array = batch.map(work.same, range(3))
    subtask = batch.function(work.nothing)
    program = batch.compile([subtask])
    for task in (single, array, subtask, program):
        with pytest.raises(UsageError, match="has not been started"):
            alamo.as_completed([task])
        with pytest.raises(UsageError, match="has not been started"):
            alamo.wait([task])
        with pytest.raises(UsageError, match="has not been started"):
            asyncio.run(awaited(task))
    with pytest.raises(TypeError, match="not AsyncDict"):
        alamo.as_completed([single.result])  # type: ignore[list-item]


@pytest.mark.needs("background", "kills")
def test_a_broken_batch_ends_all_waits(make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(num_workers=1)
    done = batch.function(work.same, 1)
    done.run()
    single = batch.function(wait_for, str(tmp_path / "go"))
    subtask = batch.function(wait_for, str(tmp_path / "go"))
    array = batch.map(wait_for, [str(tmp_path / "go")])
    inner = batch.map(wait_for, [str(tmp_path / "go")])
    expanded = batch.map(work.nothing, [1], reads=lambda _: batch.read("a"))
    program = batch.compile([subtask, inner, expanded])
    for task in (single, program, array):
        task.start()
    never = [single, subtask, program, array, inner]

    async def main() -> list[Any]:
        waits = [asyncio.ensure_future(awaited(task)) for task in never]
        await asyncio.sleep(0)
        threading.Thread(target=batch.terminate).start()
        return await asyncio.gather(*waits, return_exceptions=True)

    completed = [alamo.as_completed([done, task]) for task in never]
    assert [type(error) for error in asyncio.run(main())] == [BatchBroken] * len(never)
    for one in completed:
        assert next(one) is done
        with pytest.raises(BatchBroken):
            next(one)
    for task in never:
        with pytest.raises(BatchBroken):
            alamo.wait([task])
    assert alamo.wait([*never, done], return_when=alamo.FIRST_COMPLETED).done == {done}


def test_many_tasks_of_many_batches(make_batch: MakeBatch) -> None:
    batches = [make_batch(num_workers=1) for _ in range(2)]
    tasks = []
    for one in batches:
        mine = [one.function(work.same, i) for i in range(2000)]
        one.compile(mine).start()
        tasks += mine
    completed = list(alamo.as_completed(tasks, timeout=SOON_S))
    assert len(completed) == 4000
    assert set(completed) == set(tasks)


@pytest.mark.needs("nesting", "clients")
def test_a_task_that_waits_lends_its_slot(make_batch: MakeBatch) -> None:
    batch = make_batch(num_workers=1)
    assert batch.function(sum_of_children, batch, False).run(timeout=60) == 3
    assert batch.function(sum_of_children, batch, True).run(timeout=60) == 3


def sum_of_children(batch: Batch, in_loop: bool) -> int:
    tasks = [batch.function(work.same, i) for i in range(3)]
    for task in tasks:
        task.start()
    if in_loop:
        return sum(asyncio.run(gathered(tasks)))
    return sum(task.get() for task in alamo.as_completed(tasks))


# -- wait ----------------------------------------------------------------------------------


def test_wait_for_all(batch: Batch) -> None:
    tasks = list(kinds_of_tasks(batch).values())
    done, not_done = alamo.wait([*tasks, *tasks], timeout=SOON_S)
    assert done == set(tasks)
    assert not_done == set()
    assert alamo.wait([]) == (set(), set())


@pytest.mark.needs("background", "parallel")
def test_wait_for_the_first(batch: Batch, tmp_path: Path) -> None:
    slow = batch.function(wait_for, str(tmp_path / "go"))
    quick = batch.function(work.same, 1)
    failing = batch.function(work.fail, ValueError("no"))
    for task in (slow, quick):
        task.start()
    found = alamo.wait([slow, quick], timeout=SOON_S, return_when=alamo.FIRST_COMPLETED)
    assert found.done == {quick}
    assert found.not_done == {slow}
    found = alamo.wait([slow, quick], timeout=0.05, return_when=alamo.FIRST_EXCEPTION)
    assert found == ({quick}, {slow})
    failing.start()
    found = alamo.wait([slow, quick, failing], SOON_S, alamo.FIRST_EXCEPTION)
    assert found == ({quick, failing}, {slow})
    assert alamo.wait([slow], timeout=0) == (set(), {slow})
    (tmp_path / "go").touch()
    assert alamo.wait([slow, quick], SOON_S, alamo.FIRST_EXCEPTION).not_done == set()


@pytest.mark.needs("background", "parallel")
def test_every_kind_of_failure_is_one(batch: Batch, tmp_path: Path) -> None:
    slow = batch.function(wait_for, str(tmp_path / "go"))
    slow.start()
    root = batch.function(work.fail, ValueError("no"))
    skipped = batch.map(work.everything, [root.result], reads=lambda *_: ())
    held = batch.map(work.same, [1], reads=batch.read("file"))
    expanded = batch.map(work.fail, [ValueError("no")], reads=lambda _: ())
    program = batch.compile([root, skipped, expanded, held])
    array = batch.map(work.fail, [ValueError("no")])
    for task in (program, array):
        task.start()
    for task in (root, skipped, expanded, program, array):
        assert alamo.wait([slow, task], SOON_S, alamo.FIRST_EXCEPTION) == ({task}, {slow})
    assert alamo.wait([slow, held], 0.05, alamo.FIRST_EXCEPTION) == ({held}, {slow})
    (tmp_path / "go").touch()
    slow.wait(SOON_S)


def test_wait_refuses_another_condition(batch: Batch) -> None:
    with pytest.raises(UsageError, match="return_when is"):
        alamo.wait([], return_when="SOME_COMPLETED")


# -- await ---------------------------------------------------------------------------------


async def awaited(task: alamo.Task) -> Any:
    return await task


async def gathered(tasks: list[alamo.Task]) -> list[Any]:
    return list(await asyncio.gather(*map(awaited, tasks)))


def test_await_gives_what_run_gives(batch: Batch) -> None:
    tasks = kinds_of_tasks(batch)
    compiled = tasks.pop("compiled")
    assert dict(zip(tasks, asyncio.run(gathered(list(tasks.values()))))) == outcomes()
    handles = asyncio.run(awaited(compiled))
    subtask = tasks["subtask"]
    assert handles[subtask.uid][0].get() == "subtask"


def test_await_raises_what_run_raises(batch: Batch) -> None:
    failing = batch.function(work.fail, KeyError("k"))
    skipped = batch.function(work.same, failing.result)
    program = batch.compile([failing, skipped])
    program.start()
    array = batch.map(work.fail, [ValueError("no")])
    array.start()
    with pytest.raises(KeyError, match="k"):
        asyncio.run(awaited(failing))
    with pytest.raises(alamo.UpstreamFailed):
        asyncio.run(awaited(skipped))
    with pytest.raises(ExceptionGroup, match="1 of 1 elements"):
        asyncio.run(awaited(array))
    with pytest.warns(RuntimeWarning, match="1 of 2 tasks failed") as warned:
        asyncio.run(awaited(program))
    assert warned[0].filename == __file__


@pytest.mark.needs("background", "parallel")
def test_the_loop_goes_on_and_a_cancelled_await_leaves_the_task_alone(
    batch: Batch, tmp_path: Path
) -> None:
    async def main() -> None:
        slow = batch.function(wait_for, str(tmp_path / "go"))
        slow.start()
        first = asyncio.ensure_future(awaited(slow))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(awaited(slow), 0.05)
        assert not first.done()
        second = asyncio.ensure_future(awaited(slow))
        await asyncio.sleep(0)
        first.cancel()
        (tmp_path / "go").touch()
        assert await second == str(tmp_path / "go")
        assert first.cancelled()

    asyncio.run(asyncio.wait_for(main(), SOON_S))


def test_many_awaits_need_no_thread(batch: Batch) -> None:
    tasks = [batch.function(work.same, i) for i in range(3000)]
    program = batch.compile(tasks)

    async def main() -> list[Any]:
        waits = asyncio.gather(*map(awaited, tasks))
        before = threading.active_count()
        results = await waits
        assert threading.active_count() <= before
        return list(results)

    program.start()
    assert asyncio.run(main()) == list(range(3000))


def test_loops_in_several_threads(batch: Batch) -> None:
    tasks = [batch.function(work.same, i) for i in range(200)]
    batch.compile(tasks).start()
    found: list[list[Any]] = []
    threads = [
        threading.Thread(target=lambda: found.append(asyncio.run(gathered(tasks))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(200))] * 4


def test_async_as_completed(batch: Batch) -> None:
    tasks = [batch.function(work.same, i) for i in range(10)]
    batch.compile(tasks).start()

    async def main() -> set[Any]:
        return {await task async for task in alamo.as_completed(tasks, timeout=SOON_S)}

    assert asyncio.run(main()) == set(range(10))


@pytest.mark.needs("background")
def test_async_as_completed_has_a_timeout(batch: Batch, tmp_path: Path) -> None:
    slow = batch.function(wait_for, str(tmp_path / "go"))
    array = batch.map(wait_for, [str(tmp_path / "go")])
    for task in (slow, array):
        task.start()

    async def main() -> None:
        with pytest.raises(WaitTimeout, match="1 of 1 have not ended"):
            [task async for task in alamo.as_completed([slow], timeout=0.05)]
        with pytest.raises(WaitTimeout):
            [pair async for pair in array.result.as_completed(timeout=0.05)]

    asyncio.run(main())
    (tmp_path / "go").touch()
    alamo.wait([slow, array], timeout=SOON_S)


# -- arrays --------------------------------------------------------------------------------


def both_kinds(batch: Batch, function: Any, items: Any) -> list[alamo.Task]:
    """Arrays whose elements are a program of their own, and tasks of a program."""
    items = list(items)
    return [batch.map(function, iter(items)), batch.map(function, items, reads=lambda *_: ())]


def test_async_iteration_over_an_array(batch: Batch) -> None:
    async def values(array: alamo.Task) -> list[Any]:
        return [value async for value in array.result]

    async def pairs(array: alamo.Task) -> list[Any]:
        return [(i, outcome.get()) async for i, outcome in array.result.as_completed()]

    for array in both_kinds(batch, work.same, range(1000)):
        array.start()
        assert asyncio.run(values(array)) == list(range(1000))
        assert sorted(asyncio.run(pairs(array))) == [(i, i) for i in range(1000)]
        assert sorted(i for i, _ in array.result.as_completed()) == list(range(1000))
    for array in both_kinds(batch, work.same, []):
        array.start()
        assert asyncio.run(values(array)) == asyncio.run(pairs(array)) == []
    for array in both_kinds(batch, work.fail, [ValueError("no")]):
        array.start()
        with pytest.raises(ValueError, match="no"):
            asyncio.run(values(array))


@pytest.mark.needs("background")
def test_elements_come_while_others_are_made(batch: Batch) -> None:
    """An iterable that waits for the result of what it gave before."""
    turn = threading.Semaphore(1)

    def items() -> Any:
        for i in range(20):
            turn.acquire()
            yield i

    async def main() -> list[Any]:
        array = batch.map(work.same, items())
        array.start()
        found = []
        async for value in array.result:
            found.append(value)
            turn.release()
        return found

    assert asyncio.run(asyncio.wait_for(main(), SOON_S)) == list(range(20))


def test_async_iteration_ends_with_what_the_iterable_raised(batch: Batch) -> None:
    def items() -> Any:
        yield 1
        raise LookupError("dry")

    async def values(of: Any) -> list[Any]:
        found: list[Any] = []
        try:
            async for value in of:
                found.append(value)
        except LookupError as error:
            found.append(str(error))
        return found

    array = batch.map(work.same, items())
    array.start()
    assert asyncio.run(values(array.result)) == [1, "dry"]
    (index, outcome), problem = asyncio.run(values(array.result.as_completed()))
    assert (index, outcome.get(), problem) == (0, 1, "dry")
