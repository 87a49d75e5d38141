"""Wrong use is refused, and says what was wrong, with which task, and what to do."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _engines import Engine, MakeBatch

import _work as work
import alamo
from alamo import Batch, GraphError, SerializationError, UsageError

# -- a Batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count", [0, -1, 1.5, 2.0, "2", True, [1], None.__class__, 10**9, np.int64(0)]
)
def test_impossible_num_workers(make_batch: MakeBatch, count: Any) -> None:
    with work.quick(), pytest.raises(UsageError, match="num_workers"):
        make_batch(num_workers=count)


@pytest.mark.parametrize("level", ["LOUD", None, [], 1.5j])
def test_impossible_log_level(make_batch: MakeBatch, level: Any) -> None:
    with pytest.raises(UsageError, match="log_level"):
        make_batch(num_workers=1, log_level=level)


def test_impossible_result_memory(make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", "lots")
    with pytest.raises(UsageError, match="ALAMO_RESULT_MEMORY"):
        make_batch(num_workers=1)


def test_telemetry_without_what_it_needs(
    make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match="enable_telem=True"):
        make_batch(num_workers=1, enable_telem=True)
    with make_batch(num_workers=1) as one:
        assert one.metrics_url is None


def test_joining_too_early(batch: Batch) -> None:
    with pytest.raises(UsageError, match=r"close\(\) before join"):
        batch.join()


@pytest.mark.needs("clients")
def test_joining_and_terminating_by_others(batch: Batch) -> None:
    other = pickle.loads(pickle.dumps(batch))
    for call in (other.join, other.terminate):
        with pytest.raises(UsageError, match="only the process that made the Batch"):
            call()
    other.close()
    with pytest.raises(UsageError, match="only the process that made the Batch"):
        other.join()


def test_submitting_after_close(make_batch: MakeBatch) -> None:
    with make_batch(num_workers=1) as one:
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


# -- tasks -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(engine: Engine) -> Iterator[Batch]:
    with engine.make(num_workers=1) as one:
        one.close()
        yield one


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
        with work.quick(), pytest.raises(UsageError, match=r"task \d+ has not been started"):
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
        with work.quick(), pytest.raises(UsageError, match="uid"):
            whole.result.get(uid)
    for uid in [0, tasks[1].uid, whole.uid, "x"]:
        with pytest.raises(UsageError, match="uid"):
            tasks[0].result.get(uid)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="uid"):
            other.stdout.get(uid)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="3 subtasks; say which"):
        whole.result.get()


def test_what_cannot_be_compiled(make_batch: MakeBatch, batch: Batch, closed: Batch) -> None:
    good = [batch.function(work.same, i) for i in range(3)]
    started = batch.function(work.nothing)
    started.run()
    compiled = batch.compile([batch.function(work.nothing)])
    part = batch.function(work.nothing)
    whole = batch.compile([part])
    with make_batch(num_workers=1) as other:
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
    for other in (Path("x"), read, (read,), {"a": write}):
        with pytest.raises(TypeError, match="writes="):
            batch.function(work.nothing, writes=other)  # type: ignore[arg-type]


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
    box: list[Any] = []
    itself = batch.function(work.same, box)
    box.append(itself.result)
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
