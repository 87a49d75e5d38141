"""Functions and classes of every kind travel: by name, by value, of a notebook."""

from __future__ import annotations

import enum
import functools
import math
import operator
import sys
import types
import typing
from collections import OrderedDict, namedtuple
from pathlib import PosixPath
from typing import Any

import numpy as np

import _work as work
from alamo import Batch

# -- functions ---------------------------------------------------------------------------------


def module_function(x: int) -> int:
    return x + offset


offset = 1000


def test_functions_of_every_kind(batch: Batch) -> None:
    base = 10

    def closure(x: int) -> int:
        return x + base

    def recursive(n: int) -> int:
        return 1 if n == 0 else n * recursive(n - 1)

    adder = work.Adder(5)
    tasks = [
        batch.function(work.add, 1, 2),
        batch.function(module_function, 1),
        batch.function(lambda x: x + 1, 1),
        batch.function(closure, 1),
        batch.function(recursive, 5),
        batch.function(functools.partial(work.add, 1), 2),
        batch.function(functools.partial(closure, 5)),
        batch.function(functools.partial(lambda a, *, b: a + b, 1, b=7)),
        batch.function(work.plus_three, 4),
        batch.function(adder, 1),
        batch.function(adder.times, 3),
        batch.function(work.Adder(7).times, 3),
        batch.function(work.Adder.named),
        batch.function(work.Adder.double, 4),
        batch.function(len, "abc"),
        batch.function("a,b".split, ","),
        batch.function([3, 1, 2].__getitem__, 0),
        batch.function(int, "5"),
        batch.function(work.Bag, 5),
        batch.function(operator.attrgetter("real"), 5),
        batch.function(np.sum, [1, 2]),
        batch.function(np.float64(2.5).is_integer),
        batch.function(typing.cast, int, 5),
        batch.function(pow, 2, 10),
        batch.function(math.sqrt, 2),
        batch.function(operator.itemgetter(1), [1, 2]),
        batch.function(str.upper, "up"),
        batch.function(dict, [(1, 2)]),
        batch.function(np.add, 1, 2),
    ]
    wanted = [
        3, 1001, 2, 11, 120, 3, 15, 8, 7, 6, 15, 21, "Adder", 8, 3, ["a", "b"], 3, 5,
        work.Bag(5), 5, 3, False, 5, 1024, math.sqrt(2), 2, "UP", {1: 2}, 3,
    ]  # fmt: skip
    batch.compile(tasks).run()
    assert [t.result.get() for t in tasks] == wanted


def test_a_function_by_value_is_taken_as_it_is_at_each_compile(batch: Batch) -> None:
    state = [1]

    def read() -> list[int]:
        return state

    adder = work.Adder(1)
    method = adder.times
    for i in (1, 2, 3):
        state[0] = adder.base = i
        tasks = [batch.function(read), batch.function(method, 10), batch.function(adder, 100)]
        batch.compile(tasks).run()
        assert [t.result.get() for t in tasks] == [[i], 10 * i, 100 + i]
        assert batch.function(read).run() == [i]
        assert batch.function(method, 10).run() == 10 * i


def test_functions_alternate(batch: Batch) -> None:
    """Each by-value function is pickled once a compile, not once a task."""
    functions = [lambda x, k=k: (k, x) for k in range(3)]
    tasks = [batch.function(functions[i % 3], i) for i in range(6000)]
    with work.cheap(5):
        batch.compile(tasks).run()
    assert [t.result.get() for t in tasks] == [(i % 3, i) for i in range(6000)]


def test_a_function_that_cannot_be_loaded_there_says_so(batch: Batch) -> None:
    module = types.ModuleType("made_up")
    exec("def f():\n    return 5", module.__dict__)
    sys.modules["made_up"] = module
    try:
        assert batch.function(module.f).run() == 5
    finally:
        del sys.modules["made_up"]


NOTEBOOK = """
k = 5
def helper(x): return x + k
def f(x): return helper(x) * 2
class Point:
    def __init__(self, x): self.x = x
    def moved(self): return Point(self.x + k)
def move(p): return p.moved()
"""


def test_code_run_by_exec_as_in_a_notebook(batch: Batch) -> None:
    for name in ("__main__", "notebook", None):
        space: dict[str, Any] = {"__name__": name} if name else {}
        exec(NOTEBOOK, space)
        assert batch.function(space["f"], 1).run() == 12
        moved = batch.function(space["move"], space["Point"](1)).run()
        assert type(moved) is space["Point"]
        assert moved.x == 6


# -- classes -----------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


Pair = namedtuple("Pair", "a b")


def test_classes_of_importable_modules(batch: Batch) -> None:
    values = [work.Bag(1), work.Adder, PosixPath("/x"), OrderedDict(a=1), Pair(1, 2), Colour.RED]
    tasks = [batch.function(work.same, v) for v in values]
    batch.compile(tasks).run()
    for task, value in zip(tasks, values):
        result = task.result.get()
        assert type(result) is type(value)
        assert result == value
