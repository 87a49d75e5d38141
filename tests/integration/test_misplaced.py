"""Accesses and handles where none can be: refused at once, with a word on what to do."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import _work as work
from alamo import Batch, UsageError


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=1) as one:
        yield one


def misplaced(access: Any) -> list[tuple[Any, ...]]:
    """Arguments with an access inside, which is no call form."""
    return [
        (access, 1),
        ([access], 1),
        ({"reads": access},),
        ((1, [2, (access,)]), 3),
        (work.Bag(access),),
        (["x" * 5000, access], 1),
        (functools.partial(work.add, access),),
    ]


@pytest.mark.parametrize("case", range(7))
def test_an_access_inside_an_argument(batch: Batch, case: int) -> None:
    for access in (batch.read({"a": 1}, "key"), batch.write("/x", "file")):
        args = misplaced(access)[case]
        task = batch.function(work.same, *args, name="mine")
        for submit in (lambda: batch.compile([task]), task.start):  # noqa: B023
            with pytest.raises(UsageError, match="is an access, not an argument") as caught:
                submit()
            assert "an argument of task" in str(caught.value)
            assert "(mine)" in str(caught.value)
            assert repr(access) in str(caught.value)
    assert batch.function(work.same, 5).run() == 5


def test_an_access_in_a_closure(batch: Batch) -> None:
    access = batch.read("/x")
    with pytest.raises(UsageError, match=r"the function of task \d+: <READ '/x'> is an access"):
        batch.compile([batch.function(lambda: access)])


def test_elsewhere_accesses_are_ordinary_objects(batch: Batch) -> None:
    access = batch.read("/x", "a", "b")
    for one in (pickle.loads(pickle.dumps(access)), copy.copy(access), copy.deepcopy(access)):
        assert repr(one) == repr(access)
    assert repr(batch.function(batch.__class__.read, None, "/x").run()) == repr(batch.read("/x"))


def test_a_handle_in_a_function(batch: Batch) -> None:
    source = batch.function(work.same, 1, name="first")
    handle = source.result
    with pytest.raises(UsageError, match="give the handle as an argument") as caught:
        batch.compile([source, batch.function(lambda: handle, name="second")])
    text = str(caught.value)
    assert text.startswith("the function of task")
    assert "(second)" in text
    assert f"the result handle of {source.title()}" in text
    for other in (batch.function(lambda: handle), batch.function(work.same, [handle])):
        with pytest.raises(UsageError, match=r"given to a task started by itself.*get\(\)"):
            other.start()
