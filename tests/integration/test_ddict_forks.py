"""A process that forks while it uses an embedded DDict, and its child."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import _data_children as children
import numpy as np
import pytest

import _work as work
from alamo import DDict, UsageError

LARGE = 30_000


@pytest.fixture
def d() -> Iterator[DDict[Any, Any]]:
    with DDict() as one:
        yield one
        one.destroy()


def use(d: DDict[Any, Any], name: Any) -> None:
    """All kinds of use, by a child."""
    d[name] = np.full(LARGE, 7)
    assert (d[name] == 7).all()
    with d.transaction():
        d[name, "in"] = 1
        assert d[name, "in"] == 1
    with d.borrow(name) as view:
        assert view[0] == 7
    assert d.pop(name)[0] == 7
    del d[name, "in"]


@pytest.mark.parametrize("forks", [20, pytest.param(300, marks=pytest.mark.soak)])
def test_while_threads_write(d: DDict[Any, Any], forks: int) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def write(number: int) -> None:
        i = 0
        try:
            while not stop.is_set():
                i += 1
                d[number] = i
                d[number, "large"] = np.full(LARGE, i)
                with d.transaction():
                    d[number, "a"] = d[number, "b"] = i
                assert d[number] == i
                assert d[number, "large"][-1] == i
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        pids = []
        for i in range(forks):
            pids.append(children.fork(use, d, ("child", i)))
            if len(pids) == 4:
                assert children.end_of(pids.pop(0)) == 0
        assert [children.end_of(pid) for pid in pids] == [0] * len(pids)
    finally:
        stop.set()
        for thread in threads:
            thread.join(work.PATIENCE_S)
    assert not errors
    assert len(d) == 12


def test_inside_a_loan(d: DDict[Any, Any]) -> None:
    """The child's end of the block leaves the parent's reading alone."""
    d["lent"] = np.arange(LARGE)

    with d.borrow("lent") as view:

        def leave_and_use() -> None:
            assert view[-1] == LARGE - 1
            use(d, "child")

        with children.child(leave_and_use):
            pass
        for i in range(20):  # which would take the place of what is lent, if it were free
            d["lent"] = np.full(LARGE, i)
        assert (view == np.arange(LARGE)).all()
    use(d, "parent")


def test_a_loan_that_a_child_ends_too(d: DDict[Any, Any]) -> None:
    d["lent"] = np.arange(LARGE)
    read, write = os.pipe()
    with d.borrow("lent") as view:
        pid = os.fork()
    if pid == 0:
        try:
            use(d, "child")
            os.write(write, b"well")
        finally:
            os._exit(0)
    assert children.end_of(pid) == 0
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"well"
    assert len(view) == LARGE


def test_inside_a_transaction(d: DDict[Any, Any]) -> None:
    """It is the parent's: the child may not use it, nor end it."""
    d["a"] = 0

    def use_it() -> None:
        with pytest.raises(UsageError, match="forked inside a transaction"):
            d["a"] = 2
        with pytest.raises(UsageError, match="forked inside a transaction"):
            d.get("a")

    with d.transaction():
        d["a"] = 1
        with children.child(use_it):
            pass
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert d["a"] in (0, 1)
            d["child"] = 3
            status = 0
        finally:
            os._exit(status)
    assert children.end_of(pid) == 0
    assert d == {"a": 1, "child": 3}


def test_a_child_that_outlives_its_parents_handle() -> None:
    d: DDict[Any, Any] = DDict({"a": 1})
    place = d.stats()["place"]
    read, write = os.pipe()

    def wait_and_use(d: DDict[Any, Any]) -> None:
        os.read(read, 1)
        use(d, "child")
        assert d["a"] == 1
        d.close()
        assert not os.path.exists(place)

    pid = children.fork(wait_and_use, d)
    d.close()
    os.write(write, b"1")
    assert children.end_of(pid) == 0
    assert not os.path.exists(place)


def test_grandchildren(d: DDict[Any, Any]) -> None:
    def beget(depth: int) -> None:
        use(d, depth)
        if depth:
            with children.child(beget, depth - 1):
                d["with", depth] = depth

    beget(3)
    assert d == {("with", depth): depth for depth in (1, 2, 3)}


def test_a_child_opens_what_its_parent_has_open(d: DDict[Any, Any]) -> None:
    handle = pickle.dumps(d)

    def open_it() -> None:
        with pickle.loads(handle) as same:
            use(same, "opened")
        use(d, "inherited")

    for _ in range(3):
        with children.child(open_it):
            use(d, "parent")
