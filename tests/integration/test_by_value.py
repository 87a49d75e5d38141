"""Classes and functions that workers cannot import: sent once a program, whoever refers to them."""

from __future__ import annotations

import functools
import gc
import math
import operator
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import _work as work
from alamo import Batch, SerializationError, UsageError

MANY = 200
SCALED = operator.methodcaller("scaled")


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What cloudpickle takes apart: classes and functions that go by value."""
    seen: list[Any] = []
    for name in ("_class_getstate", "_function_getstate"):
        original = getattr(cloudpickle.cloudpickle, name)

        def noting(obj: Any, original: Any = original) -> Any:
            seen.append(obj)
            return original(obj)

        monkeypatch.setattr(cloudpickle.cloudpickle, name, noting)
    return seen


def run(batch: Batch, tasks: list[Any]) -> list[Any]:
    batch.compile(tasks).run()
    return [task.get() for task in tasks]


def make_point() -> type:
    class Point:
        scale = 1

        def __init__(self, x: int) -> None:
            self.x = x
            self.seen: list[int] = []

        def scaled(self, by: int = 1) -> int:
            self.seen.append(by)
            return self.x * self.scale * by + len(self.seen) - 1

        def same(self) -> Any:
            return self

        @classmethod
        def made(cls, x: int) -> Any:
            return cls(x)

    return Point


def adder_of(k: int) -> Callable[[int], int]:
    return lambda x: x + k


# -- once a program ------------------------------------------------------------------------------


def test_a_class_is_taken_apart_once_a_compile(batch: Batch, reduced: list[Any]) -> None:
    Point = make_point()
    tasks = [batch.function(getattr, Point(i), "x") for i in range(MANY)]
    batch.compile(tasks)
    assert 0 < reduced.count(Point) <= 2
    reduced.clear()
    lists = [batch.function(len, [Point(i), {"p": Point(1)}]) for i in range(MANY)]
    batch.compile(lists)
    assert 0 < reduced.count(Point) <= 2


def test_functions_of_one_code_are_taken_apart_once(batch: Batch, reduced: list[Any]) -> None:
    def adder(k: int) -> Callable[[], int]:
        return lambda: k + offset

    offset = 10
    tasks = [batch.function(work.call, adder(i)) for i in range(MANY)]
    assert run(batch, tasks) == [i + 10 for i in range(MANY)]
    assert len(reduced) < 5
    reduced.clear()
    tasks = [batch.function(adder(i)) for i in range(MANY)]
    assert run(batch, tasks) == [i + 10 for i in range(MANY)]
    assert len(reduced) < 25


def test_methods_of_many_objects_and_of_one(batch: Batch, reduced: list[Any]) -> None:
    Point = make_point()
    points = [Point(i) for i in range(MANY)]
    assert run(batch, [batch.function(p.scaled, 2) for p in points]) == [2 * i for i in range(MANY)]
    assert reduced.count(Point) < 20
    reduced.clear()
    results = run(batch, [batch.function(points[3].same) for _ in range(MANY)])
    assert {r.x for r in results} == {3}
    assert reduced.count(Point) <= 2
    assert [m.x for m in run(batch, [batch.function(Point.made, i) for i in range(MANY)])] == list(
        range(MANY)
    )


def test_results_are_objects_of_the_class_here(batch: Batch) -> None:
    Point = make_point()
    results = run(batch, [batch.function(work.same, [Point(i), Point]) for i in range(MANY)])
    assert all(type(one) is kind is Point for one, kind in results)
    tasks = [batch.function(work.same, Point(5))]
    whole = batch.compile(tasks)
    kind, Point = weakref.ref(Point), None  # type: ignore[assignment, misc]
    gc.collect()
    whole.run()
    assert type(tasks[0].get()) is kind()  # it was kept for this
    del whole, tasks, results
    gc.collect()


def test_results_pass_through_other_workers(batch: Batch) -> None:
    Point = make_point()
    sources = [batch.function(Point, i) for i in range(20)]
    middle = [batch.function(work.same, [s.result]) for s in sources]
    after = [batch.function(getattr, work.Bag(m.result), "content") for m in middle]
    results = run(batch, [*sources, *middle, *after])[-20:]
    assert [r[0].x for r in results] == list(range(20))
    assert {type(r[0]) for r in results} == {Point}


# -- what the tasks see --------------------------------------------------------------------------


def test_every_task_gets_a_fresh_object(batch: Batch) -> None:
    Point = make_point()
    point = Point(5)
    assert run(batch, [batch.function(SCALED, point) for _ in range(MANY)]) == [5] * MANY
    held: list[int] = []

    def append() -> int:
        held.append(1)
        return len(held)

    assert run(batch, [batch.function(work.call, append) for _ in range(MANY)]) == [1] * MANY


def test_a_class_is_taken_as_it_is_at_each_compile(batch: Batch) -> None:
    Point = make_point()
    old = [batch.function(SCALED, Point(2)) for _ in range(MANY)]
    first = batch.compile(old)
    Point.scale = 10  # type: ignore[attr-defined]
    new = [batch.function(SCALED, Point(2)) for _ in range(MANY)]
    second = batch.compile(new)
    second.start()
    first.start()
    assert [t.get() for t in old] == [2] * MANY
    assert [t.get() for t in new] == [20] * MANY
    Point.scale = 100  # type: ignore[attr-defined]
    for i in range(10):
        Point.scale = i  # type: ignore[attr-defined]
        assert batch.function(SCALED, Point(2)).run() == 2 * i


def test_single_tasks_in_flight_see_their_own_state_of_a_class(batch: Batch) -> None:
    Point = make_point()
    tasks = []
    for i in range(50):
        Point.scale = i  # type: ignore[attr-defined]
        tasks.append(batch.function(SCALED, Point(2)))
        tasks[-1].start()
    assert [t.get() for t in tasks] == [2 * i for i in range(50)]


def test_a_function_is_taken_as_it_is_at_each_compile(batch: Batch) -> None:
    cell = 1

    def read() -> int:
        return cell

    first = batch.function(work.call, read)
    batch.compile([first]).run()
    cell = 2
    second = batch.function(work.call, read)
    batch.compile([second]).run()
    assert (first.get(), second.get()) == (1, 2)


SCRIPT = """
import abc, collections, dataclasses, enum, functools, typing
from alamo import Batch

class Color(enum.Enum):
    RED = 1
    BLUE = 2

class Pair(typing.NamedTuple):
    left: int
    right: int

@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    size: int = 3

class Slotted:
    __slots__ = ("a", "__weakref__")
    def __init__(self, a): self.a = a
    def __eq__(self, other): return type(other) is Slotted and self.a == other.a

class Base(abc.ABC):
    @abc.abstractmethod
    def name(self): ...

class Derived(Base):
    def __init__(self, i): self.i = i
    def name(self): return f"{type(self).__name__} {self.i} {super().__init__.__name__}"
    def __eq__(self, other): return type(other) is Derived and self.i == other.i

class Meta(type):
    def __len__(cls): return 7

class WithMeta(metaclass=Meta):
    def __init__(self, i): self.i = i
    def __eq__(self, other): return type(other) is WithMeta and self.i == other.i

class Stack(list):
    pass

class Failure(Exception):
    def __init__(self, code, item):
        super().__init__(f"failed with {code}")
        self.code, self.item = code, item

def same(value): return value
def name_of(value): return value.name()
def length(value): return len(type(value))
def fail(i, item): raise Failure(i, item)
def is_red(color): return color is Color.RED
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def apply(f, *args): return f(*args)
def make(k):
    def inner(x, *, y=k): "says so"; return x + y + k + fib(k % 5)
    inner.tag = k
    return inner
def describe(f): return f.__name__, f.__doc__, f.tag, f.__kwdefaults__, f(1)

def main():
    with Batch(num_workers=2) as batch:
        def run(tasks):
            batch.compile(tasks).run()
            return [t.get() for t in tasks]
        n = 50
        for make_one in (
            lambda i: Color(1 + i % 2), lambda i: Pair(i, 2), lambda i: Item(str(i)), Slotted,
            Derived, WithMeta, lambda i: Stack([i]), lambda i: [Item("x"), {i: Pair(1, i)}],
            lambda i: collections.deque([Derived(i)]),
        ):
            values = [make_one(i) for i in range(n)]
            back = run([batch.function(same, v) for v in values])
            assert back == values, (back[:3], values[:3])
            assert [type(b) for b in back] == [type(v) for v in values]
        assert run([batch.function(is_red, Color.RED) for _ in range(n)]) == [True] * n
        assert run([batch.function(name_of, Derived(i)) for i in range(n)]) == [
            f"Derived {i} __init__" for i in range(n)]
        assert run([batch.function(Derived(i).name) for i in range(n)]) == [
            f"Derived {i} __init__" for i in range(n)]
        assert run([batch.function(length, WithMeta(i)) for i in range(n)]) == [7] * n
        assert run([batch.function(describe, make(i)) for i in range(n)]) == [
            describe(make(i)) for i in range(n)]
        assert run([batch.function(apply, fib, 10) for i in range(n)]) == [55] * n
        assert run([batch.function(functools.partial(make(i), 3)) for i in range(n)]) == [
            make(i)(3) for i in range(n)]
        tasks = [batch.function(fail, i, Item(str(i))) for i in range(n)]
        batch.compile(tasks).start()
        for i, task in enumerate(tasks):
            try:
                task.get()
            except Failure as error:
                assert (error.code, error.item) == (i, Item(str(i))), error
            else:
                raise AssertionError("no failure")
        assert batch.function(same, Item("one")).run() == Item("one")
    print("all well")

if __name__ == "__main__":
    main()
"""


def test_a_script_with_classes_of_every_kind(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "all well\n"), done.stderr


def test_functions_keep_what_is_their_own(batch: Batch) -> None:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any) -> Any:
            """Not this one."""
            return function(*args), wrapped.__name__, wrapped.__doc__

        return wrapped

    @decorate
    def one(x: int = 3) -> int:
        """One."""
        return x

    @decorate
    def two() -> int:
        """Two."""
        return np.linalg.norm([3, 4]) + math.floor(1.5)  # type: ignore[return-value]

    tasks = [batch.function(work.call, f) for f in (one, two) for _ in range(2)]
    assert run(batch, tasks) == [(3, "one", "One.")] * 2 + [(6.0, "two", "Two.")] * 2

    def recursive(n: int) -> int:
        return 1 if n == 0 else n * recursive(n - 1)

    assert run(batch, [batch.function(work.call, recursive, i) for i in range(6)]) == [
        math.factorial(i) for i in range(6)
    ]

    def later() -> Any:
        return unset

    tasks = [batch.function(work.call, lambda: later)]
    assert callable(run(batch, tasks)[0])
    unset = 1


# -- handles, accesses and what cannot be sent -----------------------------------------------------


def test_a_handle_in_a_class_or_in_globals_of_a_function(batch: Batch) -> None:
    source = batch.function(work.same, 7)

    class Holder:
        handle = source.result

    tasks = [batch.function(getattr, Holder(), "handle") for _ in range(5)]
    scope = {"handle": source.result}
    exec("def read():\n    return handle", scope)
    tasks += [batch.function(work.call, scope["read"]) for _ in range(5)]
    assert run(batch, [source, *tasks]) == [7] * 11


def test_a_handle_in_one_function_of_many_is_refused(batch: Batch) -> None:
    source = batch.function(work.same, 7)
    handle = source.result

    def reader(k: int) -> Callable[[], Any]:
        return (lambda: (k, handle)) if k == 30 else (lambda: k)

    tasks = [batch.function(reader(k)) for k in range(40)]
    with pytest.raises(UsageError, match=r"the function of task.*give the handle as an argument"):
        batch.compile([source, *tasks])
    mixed = [batch.function(adder_of(k), source.result) for k in range(40)]
    assert run(batch, [source, *mixed])[1:] == [7 + k for k in range(40)]


def test_what_cannot_be_pickled_is_named(batch: Batch) -> None:
    def reader(k: int) -> Callable[..., Any]:
        generator = (i for i in ())
        return (lambda *_: generator) if k == 30 else (lambda *_: k)

    tasks = [batch.function(reader(k), name=f"number {k}") for k in range(40)]
    with pytest.raises(SerializationError, match=r"the function of task \d+ \(number 30\)"):
        batch.compile(tasks)
    tasks = [batch.function(reader(k % 30), (i for i in ())) for k in range(40)]
    with pytest.raises(SerializationError, match=r"argument 0 of task \d+"):
        batch.compile(tasks)

    class Bad:
        lock = sys.stdout.buffer

    with pytest.raises(SerializationError, match=r"argument 1 of task \d+"):
        batch.compile([batch.function(work.everything, 1, Bad())])
    assert run(batch, [batch.function(work.same, 1)]) == [1]


def test_tracebacks_and_failures_of_functions_of_their_own(batch: Batch) -> None:
    def failing(k: int) -> Callable[[], int]:
        return lambda: 1 // (k - 30)

    tasks = [batch.function(failing(k)) for k in range(40)]
    batch.compile(tasks).start()
    assert tasks[0].get() == -1
    with pytest.raises(ZeroDivisionError) as caught:
        tasks[30].get()
    assert "1 // (k - 30)" in caught.value.__notes__[0]
    assert caught.value.__notes__[0].count("  File ") == 1


# -- large things ----------------------------------------------------------------------------------


def test_large_globals_of_functions_are_sent_once(batch: Batch) -> None:
    scope: dict[str, Any] = {"table": np.arange(300_000), "words": ["word"] * 5000}
    exec(
        "def reader(k):\n    return lambda: int(table[k]) + len(words)",
        scope,
    )
    memory = batch._client.memory
    tasks = [batch.function(work.call, scope["reader"](k)) for k in range(MANY)]
    assert run(batch, tasks) == [5000 + k for k in range(MANY)]
    assert memory.held_bytes < 1 << 20


def test_large_objects_beside_small_ones(batch: Batch) -> None:
    Point = make_point()
    large, small = Point(1), [Point(i) for i in range(MANY)]
    large.payload = list(range(20_000))
    tasks = [batch.function(work.everything, s, large, [s], "x" * 10) for s in small]
    results = run(batch, tasks)
    assert [r[0].x for r in results] == list(range(MANY))
    assert all(r[0] is r[2][0] for r in results)
    assert all(len(r[1].payload) == 20_000 for r in results[:3])
    large.array = np.zeros(100_000)
    results = run(batch, [batch.function(work.everything, [large], s) for s in small[:10]])
    assert all(type(r[0][0]) is Point and r[0][0].array.sum() == 0 for r in results)


def test_many_small_arguments_over_the_limit(batch: Batch) -> None:
    Point = make_point()
    args = [[k, "x" * 100, Point(k)] for k in range(20)]
    tasks = [batch.function(work.everything, *args) for _ in range(30)]
    for result in run(batch, tasks):
        assert [one[2].x for one in result] == list(range(20))


def test_functions_that_recur_on_later_pages(batch: Batch) -> None:
    functions = [adder_of(k) for k in range(100)]
    local = [(lambda x, k=k: x + k) for k in range(100)]
    for group in (functions, local):
        tasks = [batch.function(group[i % 100], i) for i in range(5000)]
        assert run(batch, tasks) == [i + i % 100 for i in range(5000)]


def test_a_class_sent_on_by_a_task(batch: Batch) -> None:
    """A task is a client too, and its class is one that came by value."""
    Point = make_point()

    def fan_out(inner: Batch, point: Any) -> Any:
        tasks = [inner.function(work.same, type(point)(i)) for i in range(20)]
        inner.compile(tasks).run()
        assert all(type(t.get()) is type(point) for t in tasks)
        return [t.get() for t in tasks]

    results = run(batch, [batch.function(fan_out, batch, Point(k)) for k in range(3)])
    assert {type(one) for result in results for one in result} == {Point}
    assert [[one.x for one in result] for result in results] == [list(range(20))] * 3


def test_a_class_that_changes_before_each_start(batch: Batch) -> None:
    """Every worker is sent all parts of a program: there are not many in one."""
    Point = make_point()
    programs = set()
    for i in range(200):
        Point.scale = i  # type: ignore[attr-defined]
        task = batch.function(SCALED, Point(2))
        assert task.run() == 2 * i
        assert task.program is not None
        programs.add(task.program.number)
    assert len(programs) > 3
