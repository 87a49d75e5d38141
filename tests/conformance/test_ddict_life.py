"""Handles: making, closing, destroying, showing, and what tasks may do with them."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest
from _engines import MakeBatch
from _stores import MakeDDict
from test_reprs import Checked

import _work as work
from alamo import Batch, DataStoreError, DDict, UsageError


def test_a_closed_handle_says_so(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    other = pickle.loads(pickle.dumps(d))
    with d:
        assert d["a"] == 1
    d.close()
    uses = [
        lambda: d["a"],
        lambda: d.__setitem__("a", 1),
        lambda: "a" in d,
        lambda: len(d),
        lambda: list(d),
        lambda: d.update(a=1),
        lambda: d.transaction().__enter__(),
        lambda: d.wait_for("a"),
        d.stats,
        lambda: pickle.dumps(d),
        d.destroy,
        lambda: d.fetch_add("a"),
    ]
    for use in uses:
        with pytest.raises(UsageError, match="was closed"):
            use()
    assert "closed" in repr(d)
    assert other["a"] == 1
    assert d == other
    other.close()


def test_a_destroyed_one_is_gone_for_all(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    other, handle = pickle.loads(pickle.dumps(d)), pickle.dumps(d)
    d.destroy()
    with pytest.raises(UsageError, match="destroyed"):
        d["a"]
    for use in (lambda: other["a"], lambda: other.update(a=1), lambda: len(other)):
        with pytest.raises(DataStoreError, match=r"destroyed|gone"):
            use()
    other.close()
    with pytest.raises(DataStoreError):
        pickle.loads(handle)


def test_closing_inside_a_borrow(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": np.ones(1_000_000)})
    with d.borrow("a") as view:
        d.close()
        assert view.sum() == 1_000_000


def test_closing_while_other_threads_are_inside(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": np.ones(1_000_000), "n": 0})
    inside = threading.Barrier(4)
    sums, ended = [], []

    def borrow() -> None:
        with d.borrow("a") as view:
            inside.wait(work.PATIENCE_S)
            inside.wait(work.PATIENCE_S)
            sums.append(view.sum())

    def change() -> None:
        with d.transaction():
            d["n"] = 1
            inside.wait(work.PATIENCE_S)
            inside.wait(work.PATIENCE_S)
        ended.append(True)

    threads = [threading.Thread(target=do) for do in (borrow, borrow, change)]
    for thread in threads:
        thread.start()
    inside.wait(work.PATIENCE_S)
    d.close()
    inside.wait(work.PATIENCE_S)
    for thread in threads:
        thread.join(work.PATIENCE_S)
    assert (sums, ended) == ([1_000_000, 1_000_000], [True])


@pytest.mark.needs("names")
def test_a_name_is_one_dictionary(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1}, name="some name/é", wait_for_keys=True)
    same = make_ddict({"b": 2}, name="some name/é")
    other = make_ddict(name="another")
    assert d == same == {"a": 1, "b": 2}
    assert not same.wait_for_keys
    assert other == {}
    assert d.name == "some name/é"
    assert pickle.loads(pickle.dumps(d)).name == d.name
    assert "some name/é" in repr(d)
    d.destroy()
    assert make_ddict(name="some name/é") == {}


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="url="):
        DDict(url="valkey://localhost", directory=".")
    with pytest.raises(ValueError, match="amount of memory"):
        DDict(total_mem="plenty")
    with pytest.raises(UsageError, match=r"whole number of bytes .* not 1.5"):
        DDict(total_mem=1.5)  # type: ignore[arg-type]
    with DDict(total_mem=1e8) as d:  # type: ignore[arg-type]
        assert d.stats()["bytes_limit"] <= 100_000_000
    with pytest.raises(UsageError, match="a name is a str, not 5"):
        DDict(name=5)  # type: ignore[arg-type]


@pytest.mark.needs("one shard")
def test_showing(make_ddict: MakeDDict) -> None:
    d = make_ddict({"<a>": 1, True: 2}, wait_for_keys=True)
    assert "2 keys, waits for keys" in repr(d)
    d.freeze()
    shown = Checked(d._repr_html_()).text
    assert "2 keys, waits for keys, frozen" in shown
    assert "'<a>'" in shown
    d.unfreeze()
    d.update(dict.fromkeys(range(100)))
    assert "..." in Checked(d._repr_html_()).text
    d.close()
    assert "closed" in Checked(d._repr_html_()).text
    assert "DDict" in repr(DDict.__new__(DDict))


# -- in tasks --------------------------------------------------------------------------------


def add_one(d: DDict[Any, Any], i: int) -> int:
    d[i + 1] = d[i] + 1
    return int(d[i + 1])


@pytest.fixture
def shared(make_ddict: MakeDDict, batch: Batch, request: pytest.FixtureRequest) -> DDict[Any, Any]:
    """A DDict that the tasks of this engine can open."""
    here = "processes" not in request.getfixturevalue("engine").capabilities
    if not here and "handles" not in request.getfixturevalue("store").capabilities:
        pytest.skip("tasks run in other processes, where a handle of this store does not open")
    return make_ddict({0: 0})


def test_tasks_are_ordered_by_the_keys_they_name(shared: DDict[Any, Any], batch: Batch) -> None:
    tasks = [
        batch.function(
            add_one, shared, i, reads=batch.read(shared, i), writes=batch.write(shared, i + 1)
        )
        for i in range(100)
    ]
    batch.compile(tasks).run()
    assert [task.result.get() for task in tasks] == list(range(1, 101))
    assert shared == {i: i for i in range(101)}


def test_the_same_key_of_another_handle_and_another_type(
    shared: DDict[Any, Any], batch: Batch
) -> None:
    other = pickle.loads(pickle.dumps(shared))
    first = batch.function(work.fail, OSError("no"), writes=batch.write(shared, 1))
    second = batch.function(work.nothing, reads=batch.read(other, True))
    third = batch.function(work.nothing, reads=batch.read(other, 2))
    program = batch.compile([first, second, third])
    program.start()
    program.wait(work.PATIENCE_S)
    assert [task.state for task in (first, second, third)] == ["failed", "skipped", "done"]


def test_a_key_that_the_dictionary_refuses_is_no_channel(
    shared: DDict[Any, Any], batch: Batch
) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        batch.read(shared, [1])
    with pytest.raises(TypeError, match="register_key_encoder"):
        batch.write(shared, object())


@pytest.mark.needs("nesting", "handles")
def test_a_batch_in_a_dictionary(make_ddict: MakeDDict, make_batch: MakeBatch) -> None:
    d = make_ddict()
    with make_batch(num_workers=2) as batch:
        d["batch"] = batch
        with d["batch"] as other:
            assert other.function(pow, 2, 5).run() == 32
        del d["batch"]
