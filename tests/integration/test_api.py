"""The documented calls: making tasks, starting them, waiting, and what their handles give."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import operator
import threading
import time
import types
import warnings
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

import _work as work
import alamo
import alamo.batch.batch
from alamo import AsyncDict, AsyncValue, Batch, Task


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


# -- names -----------------------------------------------------------------------------------


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


def test_accesses_of_every_form_order_tasks(batch: Batch, tmp_path: Path) -> None:
    """The writer is slow to come: a reader that did not wait would find nothing."""
    d = tmp_path
    forms = (
        lambda f, *a: batch.function(f, *a[:-1], writes=a[-1]),
        lambda f, *a: batch.function(f, *a[:-1], writes=[a[-1]]),
        lambda f, *a: batch.function(f, a[:-1], a[-1]),
        lambda f, *a: batch.function(f, a[:-1], [a[-1]]),
    )
    for k, form in enumerate(forms):
        target = str(d / f"file{k}")
        writer = form(work.write_text, target, "written", batch.write(d, f"file{k}"))
        reader = batch.function(work.read_text, target, reads=batch.read(target))
        slow = batch.function(time.sleep, 0.01, writes=batch.write(d, f"file{k}"))
        batch.compile([slow, writer, reader]).run()
        assert reader.result.get() == "written"


def test_task_read_and_write(batch: Batch, tmp_path: Path) -> None:
    target = tmp_path / "data"
    slow, writer, reader = (
        batch.function(time.sleep, 0.02),
        batch.function(work.write_text, target, "by task"),
        batch.function(work.read_text, target),
    )
    slow.write(tmp_path, "data")
    assert writer.read(tmp_path, "data") is None  # type: ignore[func-returns-value]
    assert writer.write(tmp_path, PurePosixPath("data")) is None  # type: ignore[func-returns-value]
    reader.read(target)
    batch.compile([slow, writer, reader]).run()
    assert reader.result.get() == "by task"


def test_accesses_on_objects_of_any_kind(batch: Batch) -> None:
    """Hashable by equality, unhashable by identity, domains with hazards switched off."""
    unhashable = [1]
    loose = alamo.CommunicationObject(alamo.CommunicationDomain(raw=False), "10.0.0.1")
    tasks = [
        batch.function(
            time.sleep, 0.01, writes=[batch.write(("a", 1), 7), batch.write(unhashable)]
        ),
        batch.function(work.same, 1, reads=batch.read(("a", 1), 7)),
        batch.function(work.same, 2, reads=batch.read(unhashable, "any channel", 3)),
        batch.function(
            work.same, 3, reads=batch.read(loose, 80), writes=batch.write(loose, 80, 443)
        ),
    ]
    batch.compile(tasks).run()
    assert [t.result.get() for t in tasks] == [None, 1, 2, 3]


def test_domains_switch_hazards_off(batch: Batch, tmp_path: Path) -> None:
    """Without RAW a reader may meet its writer: both run at once."""
    loose = alamo.CommunicationObject(
        alamo.CommunicationDomain(raw=False, war=False, waw=False), "x"
    )
    pair = [
        batch.function(work.meet, str(tmp_path), "w", "r", writes=batch.write(loose)),
        batch.function(work.meet, str(tmp_path), "r", "w", reads=batch.read(loose)),
    ]
    batch.compile(pair).run(timeout=work.PATIENCE_S)


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


# -- compiled tasks ----------------------------------------------------------------------------


def test_compiled_start_gives_handles_by_uid(batch: Batch) -> None:
    tasks = [batch.function(work.same, i * i) for i in range(5)]
    whole = batch.compile(tasks)
    handles = whole.start()
    assert isinstance(handles, Mapping)
    assert list(handles) == list(handles.keys()) == [t.uid for t in tasks]
    assert len(handles) == 5
    whole.wait()
    for result, stdout, stderr in handles.values():
        assert isinstance(result.get(), int)
        assert stdout.get() == stderr.get() == ""
    for uid, (result, _, _) in handles.items():
        assert result.get() == handles[uid][0].get()
    assert tasks[0].uid in handles
    assert -1 not in handles
    assert 0 not in handles
    assert "x" not in handles
    assert None not in handles
    with pytest.raises(KeyError):
        handles[tasks[-1].uid + 1000]
    assert handles.get(12345678901) is None
    assert "5" in repr(handles)


def test_compiled_run_returns_the_mapping(batch: Batch) -> None:
    tasks = [batch.function(work.same, i) for i in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handles = batch.compile(tasks).run()
    assert [handles[t.uid][0].get() for t in tasks] == [0, 1, 2]


def test_handles_of_a_compiled_task_take_a_uid(batch: Batch) -> None:
    tasks = [batch.function(work.say, f"out{i}", f"err{i}") for i in range(3)]
    whole = batch.compile(tasks)
    whole.run()
    for i, task in enumerate(tasks):
        assert whole.stdout.get(task.uid) == task.stdout.get() == f"out{i}"
        assert whole.stderr.get(tuid=task.uid, timeout=5) == task.stderr.get() == f"err{i}"
        assert whole.result.get(np.int64(task.uid)) is None  # type: ignore[arg-type]
        assert task.result.get(task.uid) is None
        assert whole.get(task.uid) is None


def test_handles_of_any_order_of_uids(batch: Batch) -> None:
    """Uids out of sequence, and joins between the elements."""
    tasks = [batch.function(work.same, i) for i in range(200)]
    reads = [batch.function(work.same, -1, reads=batch.read("o")) for _ in range(100)]
    writes = [batch.function(work.same, -2, writes=batch.write("o")) for _ in range(3)]
    order = [*tasks[::-2], *reads, writes[0], *tasks[::2], writes[1], *reads[:0], writes[2]]
    whole = batch.compile(order)
    handles = whole.run()
    assert list(handles) == [t.uid for t in order]
    assert len(handles) == len(order)
    assert [handles[t.uid][0].get() for t in order] == [t.result.get() for t in order]
    for wrong in (0, -1, tasks[0].uid - 1, whole.uid, 1 << 70):
        with pytest.raises(alamo.UsageError, match="not that of a subtask"):
            whole.result.get(wrong, timeout=1)


def test_looking_handles_up_stays_fast(batch: Batch) -> None:
    """A lookup that walks all uids would take a minute here."""
    tasks = [batch.function(work.nothing) for _ in range(30_000)][::-1]
    handles = batch.compile(tasks).run()
    with work.quick(5):
        assert sum(1 for r, _, _ in handles.values() if r.get() is None) == 30_000


def test_a_compiled_task_of_one_needs_no_uid(batch: Batch) -> None:
    task = batch.function(work.say, "one")
    whole = batch.compile([task])
    handles = whole.run()
    assert whole.result.get() is None
    assert whole.stdout.get() == "one"
    assert whole.stdout.get(timeout=1) == whole.stdout.get(task.uid) == "one"
    assert list(handles) == [task.uid]


def test_a_compiled_task_of_one_with_joins_about(batch: Batch) -> None:
    """``get()`` finds the one task although elements for joins stand before it."""
    readers = [batch.function(work.nothing, reads=batch.read("j")) for _ in range(200)]
    batch.compile([*readers, batch.function(work.same, 1, writes=batch.write("j"))]).run()


def test_tasks_take_other_sequences_and_sizes(batch: Batch) -> None:
    for count in (1, 2, 1023, 1024, 1025, 3000):
        tasks = tuple(batch.function(work.same, i) for i in range(count))
        batch.compile(tasks).run()
        assert [t.result.get() for t in tasks] == list(range(count))


def test_failures_of_a_compiled_task_are_counted_in_one_warning(batch: Batch) -> None:
    bad = [batch.function(work.fail, ValueError(i)) for i in range(3)]
    good = [batch.function(work.same, i) for i in range(4)]
    after = batch.function(work.add, bad[0].result, good[0].result)
    whole = batch.compile([*bad, *good, after], name="mixed")
    with pytest.warns(RuntimeWarning, match=r"^3 of 8 tasks failed .* and 1 did not run") as caught:
        handles = whole.run()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [handles[t.uid][0].get() for t in good] == [0, 1, 2, 3]
    with pytest.raises(ExceptionGroup, match="3 of 8 tasks") as group:
        whole.raise_failures()
    assert sorted(e.args[0] for e in group.value.exceptions) == [0, 1, 2]
    assert {type(e) for e in group.value.exceptions} == {ValueError}
    with pytest.raises(alamo.UpstreamFailed) as upstream:
        after.result.get()
    assert upstream.value.uid == after.uid
    assert upstream.value.root_uid == bad[0].uid
    assert isinstance(upstream.value.__cause__, ValueError)
    assert after.stdout.get() == ""


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


def test_task_attributes(batch: Batch) -> None:
    task = batch.function(work.nothing)
    whole = batch.compile([task])
    assert isinstance(task, Task)
    assert isinstance(whole, Task)
    assert task.batch is batch
    assert whole.compiled
    assert not task.compiled
    whole.run()


# -- timeouts ----------------------------------------------------------------------------------


def test_timeouts_are_honoured(batch: Batch, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    single = batch.function(work.wait_for_file, gate)
    single.start()
    part = batch.function(work.wait_for_file, gate)
    whole = batch.compile([part])
    whole.start()
    for wait in (
        lambda: single.result.get(timeout=0.5),
        lambda: single.stdout.get(None, 0.5),
        lambda: single.wait(0.5),
        lambda: part.result.get(timeout=0.5),
        lambda: whole.wait(timeout=0.5),
    ):
        with work.quick(0.7), pytest.raises(TimeoutError, match=r"task \d+") as error:
            wait()
        assert isinstance(error.value, alamo.WaitTimeout)
    for timeout in (0, -1, -math.inf, 0.0, np.float32(0), np.int64(0), 1e-9):
        with work.quick(0.2), pytest.raises(TimeoutError):
            single.result.get(timeout=timeout)  # type: ignore[arg-type]
    Path(gate).touch()
    for timeout in (None, 1e9, math.inf, alamo.default_timeout, 1e300, 1 << 70, np.float64(5)):
        assert single.result.get(timeout=timeout) == gate  # type: ignore[arg-type]
    whole.wait(math.inf)


def test_long_timeouts_are_accepted_while_waiting(batch: Batch, tmp_path: Path) -> None:
    for k, timeout in enumerate((None, 1e9, math.inf, 1e300, 10)):
        gate = tmp_path / str(k)
        task = batch.function(work.wait_for_file, str(gate))
        task.start()
        timer = threading.Timer(0.02, gate.touch)
        timer.start()
        task.wait(timeout)
        timer.join()


@pytest.mark.parametrize("timeout", ["1", math.nan, [1], object(), True])
def test_impossible_timeouts(batch: Batch, tmp_path: Path, timeout: object) -> None:
    task = batch.function(work.wait_for_file, str(tmp_path / "gate"))
    task.start()
    with pytest.raises(alamo.UsageError, match="timeout"):
        task.wait(timeout)  # type: ignore[arg-type]
    (tmp_path / "gate").touch()
    task.wait()


def test_run_with_a_timeout(batch: Batch, tmp_path: Path) -> None:
    task = batch.function(work.wait_for_file, str(tmp_path / "gate"))
    with work.quick(0.5), pytest.raises(TimeoutError):
        task.run(timeout=0.1)
    (tmp_path / "gate").touch()
    assert task.result.get() == str(tmp_path / "gate")


# -- many at once ------------------------------------------------------------------------------


def test_many_threads_submit_at_once(batch: Batch) -> None:
    """Each thread with functions of its own: a mix-up of function numbers would show."""

    def client(k: int) -> None:
        offset = k * 1000
        mine = lambda x, offset=offset: x + offset  # noqa: E731
        other = lambda x, offset=offset: x - offset  # noqa: E731
        for turn in range(5):
            tasks = [batch.function((mine, other)[i % 2], i) for i in range(40)]
            batch.compile(tasks).run(timeout=work.PATIENCE_S)
            wanted = [i - offset if i % 2 else i + offset for i in range(40)]
            assert [t.result.get() for t in tasks] == wanted
            assert batch.function(mine, turn).run(timeout=work.PATIENCE_S) == turn + offset
            assert batch.function(work.add, turn, k).run(timeout=work.PATIENCE_S) == turn + k

    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(client, k) for k in range(16)]:
            done.result()


def test_many_threads_wait_for_one_task(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    with ThreadPoolExecutor(20) as threads:
        waits = [threads.submit(task.result.get) for _ in range(10)]
        waits += [threads.submit(task.wait) for _ in range(10)]
        gate.touch()
        for wait in waits:
            wait.result(timeout=work.PATIENCE_S)


def test_many_threads_take_one_large_result(batch: Batch) -> None:
    for _ in range(5):
        task = batch.function(np.arange, 100_000)
        task.start()
        task.wait()
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(AsyncDict.get, [task.result] * 8))
        assert all(r is results[0] for r in results)
        again = batch.function(np.ones, 100_000).run()
        assert (results[0] == np.arange(100_000)).all()
        assert (again == 1).all()


def test_async_code_waits_in_threads(batch: Batch) -> None:
    async def main() -> list[int]:
        tasks = [batch.function(work.same, i) for i in range(8)]
        handles = [t.start()[0] for t in tasks]
        return await asyncio.gather(*(asyncio.to_thread(h.get) for h in handles))

    assert asyncio.run(main()) == list(range(8))


def test_two_batches_in_one_process(batch: Batch) -> None:
    with Batch(num_workers=np.int64(1)) as other:  # type: ignore[arg-type]
        assert other.function(work.pid).run() != batch.function(work.pid).run()
        with pytest.raises(alamo.GraphError, match="another Batch"):
            batch.compile([other.function(work.nothing)])
        task = other.function(work.same, "other")
        mine = batch.function(work.same, "mine")
        task.start()
        mine.start()
        assert (task.result.get(), mine.result.get()) == ("other", "mine")
    assert batch.function(work.same, 1).run() == 1


def test_long_chain(batch: Batch) -> None:
    tasks = [batch.function(work.same, 0)]
    for _ in range(1000):
        tasks.append(batch.function(work.add, tasks[-1].result, 1))
    batch.compile(tasks).run()
    assert tasks[-1].result.get() == 1000


def test_functions_of_the_standard_library(batch: Batch) -> None:
    tasks = [
        batch.function(pow, 2, 10),
        batch.function(math.sqrt, 2),
        batch.function(operator.itemgetter(1), [1, 2]),
        batch.function(str.upper, "up"),
        batch.function("joined".replace, "j", "J"),
        batch.function(int, "12"),
        batch.function(dict, [(1, 2)]),
        batch.function(np.add, 1, 2),
    ]
    batch.compile(tasks).run()
    wanted = [1024, math.sqrt(2), 2, "UP", "Joined", 12, {1: 2}, 3]
    assert [t.result.get() for t in tasks] == wanted


# -- memory ------------------------------------------------------------------------------------


def test_dropping_everything_frees_it() -> None:
    """Also after failures were raised here, whose tracebacks hold frames and so tasks."""

    def use(batch: Batch) -> None:
        task = batch.function(work.fail, ValueError("x"))
        with contextlib.suppress(ValueError):
            task.run()
        after = batch.function(work.same, task)
        with contextlib.suppress(alamo.UsageError):
            after.start()
        first = batch.function(work.fail, ValueError("y"))
        second = batch.function(work.same, first.result)
        whole = batch.compile([first, second])
        whole.start()
        whole.wait()
        for one in (first, second):
            with contextlib.suppress(ValueError, alamo.UpstreamFailed):
                one.result.get()

    batch = Batch(num_workers=1)
    use(batch)
    seen = weakref.ref(batch)
    program = weakref.ref(_last_program(batch))
    batch.close()
    batch.join()
    del batch
    gc.collect()
    assert seen() is None
    assert program() is None


def _last_program(batch: Batch) -> object:
    task = batch.function(work.nothing)
    task.run()
    return task.program
