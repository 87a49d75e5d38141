"""The documented names and calls: making tasks, starting them, waiting, what their handles give."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

import _work as work
import alamo
import alamo.batch.batch
from alamo import AsyncDict, AsyncValue, Batch, Task

# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [alamo, alamo.batch.batch], ids=["alamo", "alamo.batch.batch"])
def test_documented_names_resolve(module: types.ModuleType) -> None:
    for name in (
        "AsyncDict",
        "AsyncValue",
        "Batch",
        "CommunicationDomain",
        "CommunicationObject",
        "DataAccess",
        "Task",
        "default_timeout",
    ):
        assert getattr(module, name) is getattr(alamo, name)
        assert name in dir(module)
    assert AsyncValue is AsyncDict
    assert module.default_timeout == 1e9
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_star_import_gives_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from alamo import *", space)
    assert set(alamo.__all__) <= set(space)


# -- call forms --------------------------------------------------------------------------------


def test_arguments_in_both_call_forms(batch: Batch, tmp_path: Path) -> None:
    read, write = batch.read(tmp_path, "a"), batch.write(tmp_path, Path("b"))
    for task in (
        batch.function(work.everything, 1, "two", None),
        batch.function(work.everything, 1, "two", None, reads=[read], writes=[write]),
        batch.function(work.everything, 1, "two", None, reads=read, writes=(write,)),
        batch.function(work.everything, (1, "two", None), read, write),
        batch.function(work.everything, (1, "two", None), [read], [write, write]),
        batch.function(work.everything, (1, "two", None), [read, write]),
        batch.function(work.everything, 1, "two", None, read, write),
        batch.function(work.everything, (1, "two", None), read, writes=write),
    ):
        assert task.run() == (1, "two", None)


def test_a_lone_tuple_without_accesses_is_one_argument(batch: Batch) -> None:
    assert batch.function(work.everything, (1, 2)).run() == ((1, 2),)
    assert batch.function(work.everything, [1, 2]).run() == ([1, 2],)
    assert batch.function(work.everything, []).run() == ([],)
    assert batch.function(work.everything).run() == ()
    assert batch.function(work.everything, (), batch.read("x")).run() == ()


# -- start, wait, run --------------------------------------------------------------------------


def test_start_returns_the_handles(batch: Batch) -> None:
    task = batch.function(work.same, 5)
    handles = task.start()
    assert isinstance(handles, tuple)
    result, stdout, stderr = handles
    assert all(type(h) is AsyncDict for h in handles)
    assert result.get() == 5
    assert stdout.get() == stderr.get() == ""
    assert task.result.get() == task.get() == 5
    task.wait()
    task.wait(timeout=0)


def test_run_returns_the_result_and_raises_the_error(batch: Batch) -> None:
    assert batch.function(work.add, 2, 3).run() == 5
    assert batch.function(work.nothing).run() is None
    with pytest.raises(ValueError, match="no"):
        batch.function(work.fail, ValueError("no")).run()


def test_wait_does_not_raise_the_tasks_error(batch: Batch) -> None:
    task = batch.function(work.fail, ValueError("no"))
    task.start()
    assert task.wait() is None  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="no"):
        task.result.get()


def test_uids(batch: Batch) -> None:
    tasks = [batch.function(work.same, i) for i in range(10)]
    whole = batch.compile(tasks)
    uids = [t.uid for t in [*tasks, whole]]
    assert len(set(uids)) == 11
    assert all(type(u) is int for u in uids)
    assert [t.get_uid() for t in [*tasks, whole]] == uids
    whole.run()


def test_task_attributes(batch: Batch) -> None:
    task = batch.function(work.nothing)
    whole = batch.compile([task])
    assert isinstance(task, Task)
    assert isinstance(whole, Task)
    assert task.batch is batch
    assert whole.compiled
    assert not task.compiled
    whole.run()


def test_names_appear_in_messages(batch: Batch) -> None:
    task = batch.function(work.fail, ValueError("x"), name="fit the model")
    whole = batch.compile([task], name="all of it")
    with pytest.warns(RuntimeWarning, match="fit the model"):
        whole.run()
    assert "fit the model" in repr(task)
    assert "all of it" in repr(whole)
    with pytest.raises(ValueError, match="x") as error:
        task.result.get()
    assert "fit the model" in error.value.__notes__[0]


def test_raise_failures_without_failures(batch: Batch) -> None:
    task = batch.compile([batch.function(work.nothing)])
    task.run()
    task.raise_failures()
    single = batch.function(work.nothing)
    single.run()
    single.raise_failures()
    bad = batch.function(work.fail, OSError(5, "io"))
    bad.start()
    bad.wait()
    with pytest.raises(ExceptionGroup) as group:
        bad.raise_failures()
    assert isinstance(group.value.exceptions[0], OSError)
