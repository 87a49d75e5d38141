"""What goes wrong says what, where and why: wrong use, failing tasks, things that cannot travel."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _work as work
import alamo
from alamo import Batch, GraphError, SerializationError, TaskExit, UpstreamFailed, UsageError


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


@pytest.fixture(scope="module")
def closed() -> Iterator[Batch]:
    with Batch(num_workers=1) as one:
        one.close()
        yield one


def error_of(batch: Batch, function: Any, *args: Any) -> BaseException:
    """What a task that calls the function raises here."""
    with pytest.raises(BaseException) as caught:
        batch.function(function, *args).run(timeout=work.PATIENCE_S)
    return caught.value


# -- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count", [0, -1, 1.5, 2.0, "2", True, [1], None.__class__, 10**9, np.int64(0)]
)
def test_impossible_num_workers(count: Any) -> None:
    with work.quick(1), pytest.raises(UsageError, match="num_workers"):
        Batch(num_workers=count)


@pytest.mark.parametrize("level", ["LOUD", None, [], 1.5j])
def test_impossible_log_level(level: Any) -> None:
    with pytest.raises(UsageError, match="log_level"):
        Batch(num_workers=1, log_level=level)


def test_impossible_result_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", "lots")
    with pytest.raises(UsageError, match="ALAMO_RESULT_MEMORY"):
        Batch(num_workers=1)


def test_telemetry_is_not_there() -> None:
    with pytest.raises(UsageError, match="telem"):
        Batch(num_workers=1, enable_telem=True)


def test_submitting_after_close(batch: Batch) -> None:
    with Batch(num_workers=1) as one:
        single, part = one.function(work.nothing), one.function(work.nothing)
        whole = one.compile([one.function(work.nothing)])
        running = one.function(work.same, 5)
        running.start()
        one.close()
        one.close()
        for submit in (
            lambda: one.function(work.nothing),
            lambda: one.compile([part]),
            single.start,
            single.run,
            whole.start,
        ):
            with pytest.raises(alamo.SubmitAfterClose, match="closed"):
                submit()
        assert running.result.get() == 5
    assert issubclass(alamo.SubmitAfterClose, RuntimeError)


def test_waiting_before_start(batch: Batch) -> None:
    single, part = batch.function(work.nothing), batch.function(work.nothing)
    whole = batch.compile([part])
    for wait in (
        single.wait,
        single.result.get,
        single.stdout.get,
        single.stderr.get,
        single.get,
        single.raise_failures,
        whole.wait,
        whole.result.get,
        lambda: whole.result.get(part.uid),
        part.result.get,
        part.stdout.get,
        whole.raise_failures,
    ):
        with work.quick(1), pytest.raises(UsageError, match=r"task \d+ has not been started"):
            wait()
    single.run()
    whole.run()


def test_starting_twice(batch: Batch) -> None:
    single, whole = batch.function(work.same, 1), batch.compile([batch.function(work.same, 2)])
    for task in (single, whole):
        task.run()
        for again in (task.start, task.run):
            with pytest.raises(UsageError, match=r"task \d+ has been started already"):
                again()
    assert single.result.get() == 1
    assert whole.result.get() == 2


def test_starting_or_waiting_on_a_subtask(batch: Batch) -> None:
    part = batch.function(work.same, 1)
    whole = batch.compile([part, batch.function(work.same, 2)])
    for call in (part.start, part.run, part.wait):
        with pytest.raises(UsageError, match=r"task \d+ is a subtask"):
            call()
    whole.run()
    with pytest.raises(UsageError, match="subtask"):
        part.wait()
    assert part.result.get() == 1


def test_unknown_uids(batch: Batch) -> None:
    tasks = [batch.function(work.same, i) for i in range(3)]
    whole = batch.compile(tasks)
    whole.run()
    other = batch.function(work.nothing)
    other.run()
    wrong: list[Any] = [0, -1, whole.uid, other.uid, "1", 1.0, 1 << 80, (1,)]
    for uid in wrong:
        with work.quick(1), pytest.raises(UsageError, match="uid"):
            whole.result.get(uid)
    for uid in [0, tasks[1].uid, whole.uid, "x"]:
        with pytest.raises(UsageError, match="uid"):
            tasks[0].result.get(uid)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="uid"):
            other.stdout.get(uid)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="3 subtasks; say which"):
        whole.result.get()


def test_what_cannot_be_compiled(batch: Batch, closed: Batch) -> None:
    good = [batch.function(work.same, i) for i in range(3)]
    started = batch.function(work.nothing)
    started.run()
    compiled = batch.compile([batch.function(work.nothing)])
    part = batch.function(work.nothing)
    whole = batch.compile([part])
    with Batch(num_workers=1) as other:
        foreign = other.function(work.nothing)
        cases: list[tuple[Any, str]] = [
            ([], "empty list"),
            ((), "empty list"),
            (good[0], "takes a list"),
            (iter(good), "takes a list"),
            (set(good), "takes a list"),
            (None, "takes a list"),
            ("tasks", "item 0 .* str"),
            ([*good, work.nothing], "item 3 .* function"),
            ([*good, None], "item 3 .* NoneType"),
            ([good, good], "item 0 .* list"),
            ([good[0], good[1], good[0]], "twice"),
            ([good[0], started], "been started"),
            ([good[0], part], "been compiled"),
            ([good[0], compiled], "is a compiled task"),
            ([good[0], whole, part], "is a compiled task"),
            ([good[0], foreign], "another Batch"),
            ([*good, good[0].result], "item 3 .* AsyncDict"),
        ]
        for tasks, message in cases:
            with pytest.raises(GraphError, match=message):
                batch.compile(tasks)
    assert issubclass(GraphError, RuntimeError)
    assert batch.compile(good).run()[good[2].uid][0].get() == 2  # a failed compile changed nothing
    compiled.run()
    whole.run()


def test_a_failed_compile_leaves_its_tasks_usable(batch: Batch) -> None:
    """Also when pages were sent already, with shared objects and edges."""
    big = list(range(10_000))
    tasks = [
        batch.function(work.add, i, 0, reads=batch.read("k"), writes=batch.write(("w",), i % 7))
        for i in range(2500)
    ]
    tasks += [batch.function(len, big), batch.function(work.same, np.zeros(50_000))]
    bad = batch.function(work.same, threading.Lock())
    with pytest.raises(SerializationError, match=rf"argument 0 of task {bad.uid}"):
        batch.compile([*tasks, bad])
    tasks[0].write("other")
    assert batch.function(work.same, 1).run() == 1
    single = tasks.pop(1)
    assert single.run() == 1
    batch.compile(tasks[::-1]).run()
    assert tasks[-2].result.get() == 10_000
    assert tasks[100].result.get() == 101


def test_wrong_kinds_of_arguments_of_function(batch: Batch) -> None:
    with pytest.raises(TypeError, match="callable"):
        batch.function(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        batch.function(work.nothing, callback_func="print")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        batch.compile([batch.function(work.nothing)], callback_func=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback_args"):
        batch.function(work.nothing, callback_func=print, callback_args=5)  # type: ignore[arg-type]
    read, write = batch.read("x"), batch.write("x")
    for wrong in ("x", 5, write, [write], [read, "x"], [[read]]):
        with pytest.raises(TypeError, match="reads="):
            batch.function(work.nothing, reads=wrong)  # type: ignore[arg-type]
    for wrong in (Path("x"), read, (read,), {"a": write}):
        with pytest.raises(TypeError, match="writes="):
            batch.function(work.nothing, writes=wrong)  # type: ignore[arg-type]


def test_an_access_among_the_arguments_is_no_argument(batch: Batch) -> None:
    """It would be handed to the function, and order nothing."""
    task = batch.function(work.everything, batch.read("x"), 5)
    with pytest.raises((UsageError, TypeError), match="access"):
        task.start()
    with pytest.raises((UsageError, TypeError), match="access"):
        batch.compile([batch.function(work.everything, batch.read("x"), 5)])


def test_wrong_channels(batch: Batch) -> None:
    with pytest.raises(TypeError, match="channel"):
        batch.read(Path("/d"), 5)
    with pytest.raises(TypeError, match="channel"):
        batch.write("/d", "a", None)
    task = batch.function(work.nothing, reads=batch.read(("obj",), [1]))
    with pytest.raises(GraphError, match=r"task \d+: .*must be hashable"):
        batch.compile([task])


def test_changing_a_task_too_late(batch: Batch) -> None:
    task, part = batch.function(work.nothing), batch.function(work.nothing)
    task.run()
    whole = batch.compile([part])
    for one, word in ((task, "started"), (part, "compiled"), (whole, "compiled")):
        for declare in (one.read, one.write):
            with pytest.raises(UsageError, match=f"has been {word}"):
                declare("x")
    whole.run()


def test_joining_too_early_and_by_others(batch: Batch) -> None:
    with pytest.raises(UsageError, match=r"close\(\) before join"):
        batch.join()
    other = pickle.loads(pickle.dumps(batch))
    for call in (other.join, other.terminate):
        with pytest.raises(UsageError, match="only the process that made the Batch"):
            call()
    other.close()
    with pytest.raises(UsageError, match="only the process that made the Batch"):
        other.join()


def test_tasks_and_handles_pickled_outside(batch: Batch) -> None:
    task = batch.function(work.same, 5)
    task.run()
    for thing in (task.result, [task.stdout], task):
        with pytest.raises(UsageError, match=f"task {task.uid}"):
            pickle.dumps(thing)


def test_handles_where_they_cannot_be(batch: Batch) -> None:
    source, later = batch.function(work.same, 5), batch.function(work.same, 6)
    with pytest.raises(UsageError, match="compile both"):
        batch.function(work.same, source.result).start()
    with pytest.raises(UsageError, match=r"task \d+ .*not before it"):
        batch.compile([batch.function(work.same, later.result), later])
    with pytest.raises(UsageError, match="not before it"):
        batch.compile([batch.function(work.same, [source.result])])
    itself = batch.function(work.same)
    itself.args = (itself.result,)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="not before it"):
        batch.compile([itself])
    done = batch.function(work.same, 1)
    batch.compile([done]).run()
    with pytest.raises(UsageError, match="same compile"):
        batch.compile([batch.function(work.same, {"a": done.result})])
    whole = batch.compile([batch.function(work.same, 2)])
    with pytest.raises(UsageError, match="compiled task"):
        batch.compile([batch.function(work.same, whole.result)])
    whole.run()
    with pytest.raises(UsageError, match=f"task {source.uid} cannot be pickled"):
        batch.compile([source, batch.function(work.same, source)])
    handle = source.result
    with pytest.raises(UsageError, match="give the handle as an argument"):
        batch.compile([source, batch.function(lambda: handle)])
    assert source.run() == 5


# -- what cannot travel --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [threading.Lock(), work.NeverPickles(), (i for i in ()), sys._getframe()],
    ids=["lock", "refuses", "generator", "frame"],
)
def test_unpicklable_argument(batch: Batch, thing: Any) -> None:
    task = batch.function(work.everything, 1, thing)
    message = rf"argument 1 of task {task.uid}.*{type(thing).__name__}"
    with pytest.raises(SerializationError, match=message):
        task.start()
    assert task.program is None
    with pytest.raises(SerializationError, match=message):
        batch.compile([task])
    nested = batch.function(work.everything, {"a": [thing]}, name="nested")
    with pytest.raises(SerializationError, match=rf"argument 0 of task {nested.uid} \(nested\)"):
        nested.run()
    assert batch.function(work.same, 1).run() == 1


def test_an_unpicklable_first_task_does_not_break_the_next(tmp_path: Path) -> None:
    with Batch(num_workers=1) as one:
        with pytest.raises(SerializationError):
            one.function(work.same, threading.Lock()).start()
        assert one.function(work.same, 1).run(timeout=work.PATIENCE_S) == 1
    with Batch(num_workers=1) as one:
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


def test_argument_that_does_not_load_there(batch: Batch) -> None:
    error = error_of(batch, work.same, work.LoadsOnlyThere())
    assert isinstance(error, LookupError)
    assert "does not load here" in str(error)


# -- exceptions of tasks -------------------------------------------------------------------------


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
    assert "runner.py" not in error.__notes__[-1]
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


# -- dependants of failures ----------------------------------------------------------------------


def test_dependants_by_data_are_skipped_by_order_are_not(batch: Batch) -> None:
    d = "/virtual"
    root = batch.function(work.fail, ValueError("root"), writes=batch.write(d, "a"))
    raw = batch.function(work.nothing, reads=batch.read(d, "a"), writes=batch.write(d, "b"))
    far = batch.function(work.nothing, reads=batch.read(d, "b"))
    by_handle = batch.function(work.same, [root.stdout])
    waw = batch.function(work.same, "waw", writes=batch.write(d, "a"))
    reader = batch.function(work.fail, OSError("reader"), reads=batch.read(d, "c"))
    war = batch.function(work.same, "war", writes=batch.write(d, "c"))
    after = batch.function(work.same, "after", reads=batch.read(d, "c"))
    whole = batch.compile([root, raw, far, by_handle, waw, reader, war, after])
    with pytest.warns(RuntimeWarning, match="2 of 8 tasks failed .* 3 did not run"):
        whole.run()
    assert [t.result.get() for t in (waw, war, after)] == ["waw", "war", "after"]
    for task in (raw, far, by_handle):
        with pytest.raises(
            UpstreamFailed, match=rf"task {task.uid} did not run.*task {root.uid}.*ValueError: root"
        ):
            task.result.get()
        assert task.stdout.get() == task.stderr.get() == ""


def test_a_failure_far_up_a_chain_names_the_root(batch: Batch) -> None:
    tasks = [batch.function(work.fail_awkwardly, 1, name="root")]
    for _ in range(3000):
        tasks.append(batch.function(work.same, tasks[-1].result))
    with pytest.warns(RuntimeWarning, match="3000 did not run"):
        batch.compile(tasks).run()
    with pytest.raises(UpstreamFailed, match="root") as caught:
        tasks[-1].result.get()
    assert caught.value.root_uid == tasks[0].uid
    assert type(caught.value.__cause__) is work.Awkward


# -- logging -------------------------------------------------------------------------------------


def test_manager_and_workers_log_here(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG, logger="alamo")

    def speak() -> None:
        logging.getLogger("alamo.worker").info("from a worker %d", 5)
        logging.getLogger("elsewhere").error("stays there")

    with Batch(num_workers=1, log_level=logging.DEBUG) as one:
        task = one.function(speak)
        task.run()
        with pytest.raises(alamo.WorkerLost):
            one.function(signal.raise_signal, signal.SIGKILL).run(timeout=work.PATIENCE_S)
    records = {(r.name, r.levelname, r.getMessage()) for r in caplog.records}
    assert ("alamo.worker", "INFO", "from a worker 5") in records
    assert any(n == "alamo.manager" and "died" in text for n, _, text in records)
    assert not any(n == "elsewhere" for n, _, _ in records)
    assert "stays there" in task.stderr.get()


def test_log_level_holds_in_manager_and_workers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def speak() -> None:
        logging.getLogger("alamo.worker").warning("too quiet")
        logging.getLogger("alamo.worker").error("loud")

    with Batch(num_workers=1, log_level="error") as one:
        one.function(speak).run()
    texts = [r.getMessage() for r in caplog.records]
    assert "loud" in texts
    assert "too quiet" not in texts
