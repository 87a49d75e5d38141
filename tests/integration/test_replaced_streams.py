"""Streams that a task replaces are put back before the next task of its chunk."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import _work as work
from alamo import Batch


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=1) as one:
        for _ in range(3):  # so that short tasks go in large chunks
            one.compile([one.function(work.nothing) for _ in range(2000)]).run()
        yield one


def replace() -> None:
    sys.stdout = io.StringIO()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def replace_one() -> None:
    setattr(sys, "stderr", None)  # noqa: B010


def delete() -> None:
    del sys.stdout
    del sys.stderr


def redirect() -> str:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print("inside")
    print("outside")
    return text.getvalue()


def fail_inside() -> None:
    replace()
    raise ValueError("inside")


@pytest.mark.parametrize("breaker", [replace, replace_one, delete, redirect, fail_inside])
def test_the_next_task_of_the_chunk_has_its_own(batch: Batch, breaker: Callable[..., Any]) -> None:
    tasks = []
    for i in range(500):
        tasks.append(batch.function(breaker))
        tasks.append(batch.function(work.say, f"out {i}", f"err {i}"))
    batch.compile(tasks).start()
    speakers = tasks[1::2]
    assert [t.stdout.get() for t in speakers] == [f"out {i}" for i in range(500)]
    assert [t.stderr.get() for t in speakers] == [f"err {i}" for i in range(500)]
    if breaker is redirect:
        assert {t.get() for t in tasks[::2]} == {"inside\n"}
        assert {t.stdout.get() for t in tasks[::2]} == {"outside\n"}


def test_sys_is_what_it_was(batch: Batch) -> None:
    def look() -> Any:
        sys.my_own = 5  # type: ignore[attr-defined]
        own = sys.my_own  # type: ignore[attr-defined]
        del sys.my_own  # type: ignore[attr-defined]
        return own, isinstance(sys, ModuleType), repr(sys), "stdout" in vars(sys), dir(sys) != []

    assert batch.function(look).run() == (5, True, "<module 'sys' (built-in)>", True, True)

    def make() -> Callable[[], int]:
        return lambda: sys.maxsize

    assert batch.function(make).run()() == sys.maxsize

    def send_on(inner: Batch) -> Any:
        task = inner.function(lambda: (sys.maxsize, sys.__name__))
        inner.compile([task]).run()
        return task.get()

    assert batch.function(send_on, batch).run() == (sys.maxsize, "sys")
