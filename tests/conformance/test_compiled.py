"""Compiled tasks: their handles by uid, their failures, lists of every size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pytest

import _work as work
import alamo
from alamo import Batch, UpstreamFailed

# -- handles -----------------------------------------------------------------------------------


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
        assert whole.stderr.get(tuid=task.uid, timeout=60) == task.stderr.get() == f"err{i}"
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
    """A lookup that walks all uids would take many seconds here."""
    tasks = [batch.function(work.nothing) for _ in range(10_000)][::-1]
    handles = batch.compile(tasks).run()
    with work.cheap(2):
        assert sum(1 for r, _, _ in handles.values() if r.get() is None) == 10_000


def test_a_compiled_task_of_one_needs_no_uid(batch: Batch) -> None:
    task = batch.function(work.say, "one")
    whole = batch.compile([task])
    handles = whole.run()
    assert whole.result.get() is None
    assert whole.stdout.get() == "one"
    assert whole.stdout.get(timeout=60) == whole.stdout.get(task.uid) == "one"
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


def test_long_chain(batch: Batch) -> None:
    tasks = [batch.function(work.same, 0)]
    for _ in range(1000):
        tasks.append(batch.function(work.add, tasks[-1].result, 1))
    batch.compile(tasks).run()
    assert tasks[-1].result.get() == 1000


# -- failures ----------------------------------------------------------------------------------


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
