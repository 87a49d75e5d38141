"""What a task raises arrives, and what cannot travel is named."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import Batch, SerializationError, TaskExit, UpstreamFailed


def error_of(batch: Batch, function: Any, *args: Any) -> BaseException:
    """What a task that calls the function raises here."""
    with pytest.raises(BaseException) as caught:
        batch.function(function, *args).run(timeout=work.PATIENCE_S)
    return caught.value


# -- what cannot travel ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [threading.Lock(), work.NeverPickles(), (x for x in ""), sys._getframe()],
    ids=["lock", "refuses", "generator", "frame"],
)
def test_unpicklable_argument(batch: Batch, thing: Any) -> None:
    task = batch.function(work.everything, 1, thing)
    message = rf"argument 1 of task {task.uid}.*{type(thing).__name__}"
    with pytest.raises(SerializationError, match=message):
        task.start()
    with pytest.raises(SerializationError, match=message):
        batch.compile([task])
    nested = batch.function(work.everything, {"a": [thing]}, name="nested")
    with pytest.raises(SerializationError, match=rf"argument 0 of task {nested.uid} \(nested\)"):
        nested.run()
    assert batch.function(work.same, 1).run() == 1


def test_an_unpicklable_first_task_does_not_break_the_next(
    make_batch: MakeBatch, tmp_path: Path
) -> None:
    with make_batch(num_workers=1) as one:
        with pytest.raises(SerializationError):
            one.function(work.same, threading.Lock()).start()
        assert one.function(work.same, 1).run(timeout=work.PATIENCE_S) == 1
    with make_batch(num_workers=1) as one:
        assert one.function(len, list(range(5000))).run(timeout=work.PATIENCE_S) == 5000


def test_unpicklable_function(batch: Batch) -> None:
    lock = threading.Lock()
    task = batch.function(lambda: lock)
    with pytest.raises(SerializationError, match=rf"function of task {task.uid}.*lock"):
        task.start()
    with pytest.raises(SerializationError, match=rf"function of task {task.uid}"):
        batch.compile([task])


def test_unpicklable_result(batch: Batch) -> None:
    error = error_of(batch, work.lock)
    assert isinstance(error, SerializationError)
    assert "the task ran, but its result of type lock" in str(error)
    error = error_of(batch, work.never_pickles)
    assert isinstance(error, SerializationError)
    assert "NeverPickles" in str(error)
    assert "a heart of stone" in str(error)


@pytest.mark.needs("processes")
@pytest.mark.parametrize("size", [0, 5000, 300_000])
def test_result_that_does_not_load_here(batch: Batch, size: int) -> None:
    for function, n in ((work.loads_only_there, size), (work.array_that_loads_only_there, size)):
        task = batch.function(function, n)
        task.start()
        task.wait()
        for _ in range(3):
            with pytest.raises(
                SerializationError, match=rf"result of task {task.uid}.*not load here"
            ):
                task.result.get()
        assert task.stdout.get() == ""


@pytest.mark.needs("processes")
def test_argument_that_does_not_load_there(batch: Batch) -> None:
    error = error_of(batch, work.same, work.LoadsOnlyThere())
    assert isinstance(error, LookupError)
    assert "does not load here" in str(error)


# -- exceptions of tasks -----------------------------------------------------------------------


def test_the_same_exception_arrives(batch: Batch) -> None:
    for sent in (
        ValueError("text", 5),
        KeyError("key"),
        OSError(2, "No such file", "/x"),
        FileNotFoundError(2, "gone", "a", None, "b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ZeroDivisionError(),
        StopIteration(5),
        ImportError("no", name="mod", path="/p"),
        SyntaxError("bad", ("f.py", 1, 2, "text")),
        RuntimeError({"a": [1]}),
        AssertionError,
        NotImplementedError,
        MemoryError("x"),
        RecursionError("deep"),
        alamo.UsageError("nested"),
        alamo.WorkerLost("lost", 1, "host", 2, 9, -1),
    ):
        error = error_of(batch, work.fail, sent)
        wanted = sent() if isinstance(sent, type) else sent
        assert type(error) is type(wanted)
        assert error.args == wanted.args
        assert str(error) == str(wanted)
        for name in (
            "errno",
            "filename",
            "filename2",
            "name",
            "path",
            "value",
            "lineno",
            "uid",
            "pid",
        ):
            assert getattr(error, name, None) == getattr(wanted, name, None)


def test_awkward_exceptions(batch: Batch) -> None:
    error = error_of(batch, work.fail_awkwardly, 7)
    assert type(error) is work.Awkward
    assert (error.code, error.detail, str(error)) == (7, "bad luck", "code 7: bad luck")
    error = error_of(batch, work.fail_by, work.NoArgs)
    assert type(error) is work.NoArgs
    assert error.args == ("made", "inside")
    assert error.extra == {"a": [1, 2]}
    error = error_of(batch, work.fail_by, work.OsAwkward, "/p")
    assert type(error) is work.OsAwkward
    assert (error.errno, error.strerror, error.filename, error.path) == (2, "not there", "/p", "/p")
    error = error_of(batch, work.fail_by, work.Slotted, 4)
    assert type(error) is work.Slotted
    assert error.level == 4


def test_exceptions_defined_here(batch: Batch) -> None:
    class Local(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a + b)
            self.parts = (a, b)

    error = error_of(batch, work.fail_by, Local, 1, 2)
    assert type(error) is Local
    assert error.parts == (1, 2)


def test_the_remote_traceback_is_a_note(batch: Batch) -> None:
    error = error_of(batch, work.fail_with_cause)
    assert type(error) is KeyError
    assert error.__notes__[0] == "a note of the user's"
    assert "raised by task" in error.__notes__[-1]
    assert "_work.py" in error.__notes__[-1]
    assert "fail_with_cause" in error.__notes__[-1]
    assert str(Path(alamo.__file__).parent) not in error.__notes__[-1]  # no frame of ours
    assert type(error.__cause__) is ValueError
    assert "invalid literal" in str(error.__cause__)
    assert len(error.__notes__) == 2


def test_context_and_suppression(batch: Batch) -> None:
    error = error_of(batch, work.fail_in_context)
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert type(error.__context__) is ValueError


def test_each_get_raises_a_clean_exception(batch: Batch) -> None:
    task = batch.function(work.fail, ValueError("x"))
    task.start()
    depths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="x") as caught:
            task.result.get()
        depths.append(len(caught.traceback))
        assert len(caught.value.__notes__) == 1
    assert len(set(depths)) == 1


def test_exception_groups(batch: Batch) -> None:
    error = error_of(batch, work.fail_as_group)
    assert type(error) is ExceptionGroup
    one, two, deep = error.exceptions
    assert type(one) is ValueError
    assert type(two) is work.Awkward
    assert two.code == 2
    assert type(deep.exceptions[0]) is OSError


def test_exit_and_interrupt_come_wrapped(batch: Batch) -> None:
    error = error_of(batch, work.exit_with, 3)
    assert type(error) is TaskExit
    assert isinstance(error.__cause__, SystemExit)
    assert error.__cause__.code == 3
    assert "SystemExit(3)" in str(error)
    error = error_of(batch, work.interrupt)
    assert type(error) is TaskExit
    assert isinstance(error.__cause__, KeyboardInterrupt)
    error = error_of(batch, work.fail, GeneratorExit())
    assert type(error) is TaskExit


def test_exceptions_that_cannot_travel(batch: Batch) -> None:
    error = error_of(batch, work.unpicklable_error)
    assert type(error) is work.Holds
    assert str(error) == "locked"
    assert error.size == 5
    assert not hasattr(error, "lock")
    assert "lock" in error.__notes__[0]
    assert "could not be pickled" in error.__notes__[0]
    assert "unpicklable_error" in error.__notes__[-1]
    error = error_of(batch, work.fail_holding, "stone")
    assert type(error) is alamo.RemoteError
    assert "ValueError" in str(error)
    assert "stone" in str(error)
    error = error_of(batch, work.fail_by, work.NeverLoads, "text")
    assert isinstance(error, (alamo.RemoteError, work.NeverLoads))
    assert "text" in str(error)
    error = error_of(batch, work.fail_by, work.BadText)
    assert "BadText" in type(error).__name__ + str(error.__notes__)


def test_recursion_in_a_task(batch: Batch) -> None:
    def deep(n: int) -> int:
        return deep(n + 1) + 1

    assert isinstance(error_of(batch, deep, 0), RecursionError)


def test_wrong_number_of_arguments(batch: Batch) -> None:
    assert "takes 0 positional" in str(error_of(batch, work.nothing, 1))


def test_bad_text_in_exit(batch: Batch) -> None:
    error = error_of(batch, work.exit_with, work.BadText())
    assert type(error) is TaskExit


@pytest.mark.needs("kills")
def test_a_task_that_ends_its_worker_fails_alone(batch: Batch) -> None:
    dies = batch.function(os._exit, 3, name="the end")
    after = batch.function(work.same, dies.result)
    others = [batch.function(work.same, i) for i in range(50)]
    with pytest.warns(RuntimeWarning, match="1 of 52 tasks failed .* 1 did not run"):
        batch.compile([*others[:25], dies, after, *others[25:]]).run(timeout=work.PATIENCE_S)
    with pytest.raises(alamo.WorkerLost, match="the end") as lost:
        dies.result.get()
    assert lost.value.exit_status == 3
    with pytest.raises(UpstreamFailed):
        after.result.get()
    assert [task.result.get() for task in others] == list(range(50))
