"""What goes into tasks and comes out: handles, snapshots, arrays, functions, classes."""

from __future__ import annotations

import enum
import functools
import operator
import pickle
import subprocess
import sys
import types
import typing
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest

import _work as work
import alamo
from alamo import Batch


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


# -- handles as arguments ------------------------------------------------------------------------


def test_handles_become_values(batch: Batch) -> None:
    source = batch.function(work.say, "out", "err")
    number = batch.function(work.same, 7)
    deep = batch.function(
        work.same,
        {
            "list": [number.result, [source.stdout]],
            "tuple": (source.stderr, {"k": number.result}),
            "bag": work.Bag(number.result, [source.result]),
        },
    )
    several = batch.function(work.everything, number.result, number.result, 1, source.stdout)
    batch.compile([source, number, deep, several]).run()
    assert deep.result.get() == {
        "list": [7, ["out"]],
        "tuple": ("err", {"k": 7}),
        "bag": work.Bag(7, [None]),
    }
    assert several.result.get() == (7, 7, 1, "out")


def test_handles_in_closures_partials_and_local_classes(batch: Batch) -> None:
    class Holder:
        def __init__(self, value: Any) -> None:
            self.value = value

    @dataclass
    class Local:
        value: Any

    source = batch.function(work.same, 7)
    handle = source.result
    tasks = [
        batch.function(work.call, lambda: handle),
        batch.function(work.call, functools.partial(work.add, handle), 1),
        batch.function(operator.attrgetter("value"), Holder(handle)),
        batch.function(operator.attrgetter("value"), Local([handle])),
        batch.function(operator.attrgetter("value.value"), Holder(Local(handle))),
    ]
    batch.compile([source, *tasks]).run()
    assert [t.result.get() for t in tasks] == [7, 8, 7, [7], 7]


def test_handles_order_tasks(batch: Batch, tmp_path: Path) -> None:
    """The source ends only when all others that do not need it have run."""
    gate = tmp_path / "gate"
    source = batch.function(work.wait_for_file, str(gate))
    needs = [batch.function(work.everything, i, [source.result]) for i in range(20)]
    free = [batch.function(work.same, i) for i in range(20)]
    opener = batch.function(work.write_text, gate, "")
    batch.compile([source, *needs, *free, opener]).run(timeout=work.PATIENCE_S)
    assert [t.result.get() for t in needs] == [(i, [str(gate)]) for i in range(20)]


def test_handles_of_large_values(batch: Batch) -> None:
    """In blocks, within one chunk and across, several times, in lists and by different workers."""
    for _ in range(3):
        source = batch.function(np.arange, 50_000)
        text = batch.function(operator.mul, "ab", 100_000)
        both = batch.function(work.everything, source.result, [text.result, source.result])
        chain = [batch.function(work.add, source.result, 1)]
        for _ in range(20):
            chain.append(batch.function(work.add, chain[-1].result, 1))
        fan = [batch.function(np.sum, source.result) for _ in range(20)]
        again = batch.function(np.sum, chain[-1].result)
        batch.compile([source, text, both, *chain, *fan, again]).run(timeout=work.PATIENCE_S)
        a, (b, c) = both.result.get()
        assert (a == np.arange(50_000)).all()
        assert b == "ab" * 100_000
        assert (c == a).all()
        assert (chain[-1].result.get() == np.arange(50_000) + 21).all()
        total = sum(range(50_000))
        assert {t.result.get() for t in fan} == {total}
        assert again.result.get() == total + 21 * 50_000
        assert (source.result.get() == np.arange(50_000)).all()


def test_handles_of_failed_printing_tasks(batch: Batch) -> None:
    source = batch.function(work.fail_loudly, "help")
    needs = batch.function(work.same, source.stdout)
    with pytest.warns(RuntimeWarning):
        batch.compile([source, needs]).run()
    with pytest.raises(alamo.UpstreamFailed):
        needs.result.get()
    assert source.stdout.get() == "help\n"


def test_every_task_gets_its_own_copy_of_an_output(batch: Batch) -> None:
    source = batch.function(work.same, [0])
    changers = [batch.function(work.change, source.result, i) for i in range(10)]
    big = batch.function(work.same, list(range(30_000)))
    big_changers = [batch.function(work.change, big.result, i) for i in range(5)]
    batch.compile([source, *changers, big, *big_changers]).run()
    assert [t.result.get() for t in changers] == [[0, i] for i in range(10)]
    assert [t.result.get()[-2:] for t in big_changers] == [[29_999, i] for i in range(5)]
    assert source.result.get() == [0]


# -- snapshots and sharing -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5000, 100_000])
def test_arguments_are_taken_at_compile(batch: Batch, size: int) -> None:
    values, array = [0] * size, np.zeros(size)
    tasks = [batch.function(work.everything, values, array) for _ in range(4)]
    whole = batch.compile(tasks)
    values[0] = 1
    array[0] = 1
    whole.run()
    for task in tasks:
        seen, seen_array = task.result.get()
        assert seen[0] == seen_array[0] == 0
        assert len(seen) == len(seen_array) == size


@pytest.mark.parametrize("size", [1, 5000, 100_000])
def test_arguments_of_single_tasks_are_taken_at_start(batch: Batch, size: int) -> None:
    values, array = [0] * size, np.zeros(size)
    tasks = []
    for i in range(5):
        values[0], array[0] = i, i
        tasks.append(batch.function(work.everything, values, array))
        tasks[-1].start()
    for i, task in enumerate(tasks):
        seen, seen_array = task.result.get()
        assert seen[0] == seen_array[0] == i


@pytest.mark.parametrize("size", [1, 5000])
def test_every_task_gets_a_fresh_copy(batch: Batch, size: int) -> None:
    values = [0] * size
    tasks = [batch.function(work.change, values, i) for i in range(50)]
    batch.compile(tasks).run()
    assert [t.result.get()[-1] for t in tasks] == list(range(50))
    assert {len(t.result.get()) for t in tasks} == {size + 1}
    array = np.zeros(20_000)
    adders = [batch.function(operator.iadd, array, i) for i in range(10)]
    batch.compile(adders).run()
    assert [t.result.get()[0] for t in adders] == list(range(10))


def test_one_object_given_twice_to_a_task_is_one_object_there(batch: Batch) -> None:
    for value in ([1], list(range(5000)), np.zeros(50_000)):
        task = batch.function(operator.is_, value, value)
        assert batch.compile([task]).run()[task.uid][0].get() is True
        assert batch.function(operator.is_, value, value).run() is True


def test_an_object_that_recurs_is_pickled_once(batch: Batch) -> None:
    shared = work.CountsLoads(2000)
    work.CountsLoads.pickled = 0
    tasks = [batch.function(operator.attrgetter("data"), shared) for _ in range(1000)]
    batch.compile(tasks).run()
    assert work.CountsLoads.pickled <= 2
    assert tasks[-1].result.get() == "x" * 2000


def test_a_shared_object_may_hold_handles(batch: Batch) -> None:
    source = batch.function(work.same, 3)
    shared = work.Bag(["x" * 5000, source.result])
    tasks = [batch.function(operator.attrgetter("content"), shared) for _ in range(30)]
    batch.compile([source, *tasks]).run()
    assert all(t.result.get() == ["x" * 5000, 3] for t in tasks)


def test_temporary_arguments_do_not_get_mixed_up(batch: Batch) -> None:
    """Objects whose id is used again within one compile."""
    tasks = [batch.function(work.everything, [i], np.full(3000, i), "s" * 2000) for i in range(300)]
    batch.compile(tasks).run()
    for i, task in enumerate(tasks):
        first, second, _ = task.result.get()
        assert first == [i]
        assert (second == i).all()
    for i in range(100):
        assert batch.function(work.same, [i] * 600).run() == [i] * 600


def test_many_single_tasks_with_large_arguments(batch: Batch) -> None:
    """More than one program's worth, in flight at once, with large results."""
    handles = [batch.function(work.add, np.full(10_000, i), 1).start()[0] for i in range(100)]
    for i, handle in enumerate(handles):
        assert (handle.get() == i + 1).all()
    singles = [batch.function(work.same, i).start()[0] for i in range(2500)]
    assert [h.get() for h in singles] == list(range(2500))


def test_large_arguments_of_single_tasks_behind_a_compile(batch: Batch) -> None:
    """They are in their block before the worker is told of it."""
    batch.compile([batch.function(np.sum, np.full(100_000, i)) for i in range(5)]).run()
    held = [np.full(200_000, i) for i in range(12)]
    handles = [batch.function(work.everything, a, i).start()[0] for i, a in enumerate(held)]
    for handle in handles:
        array, i = handle.get()
        assert (array == i).all()


def test_many_threads_send_large_arguments(batch: Batch) -> None:
    def client(k: int) -> None:
        for i in range(4):
            arrays = [np.full(60_000, 100 * k + 10 * i + j) for j in range(5)]
            tasks = [batch.function(work.same, a) for a in arrays]
            batch.compile(tasks).run(timeout=work.PATIENCE_S)
            for task, array in zip(tasks, arrays):
                assert (task.result.get() == array).all()
            alone = batch.function(work.add, arrays[0], arrays[1]).run(timeout=work.PATIENCE_S)
            assert (alone == arrays[0] + arrays[1]).all()

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(client, k) for k in range(6)]:
            done.result()


# -- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 100, 8191, 8192, 8193, 200_000])
def test_arrays_in_and_out(batch: Batch, count: int) -> None:
    array = np.arange(count, dtype=float)
    result = batch.function(work.same, array).run()
    assert (result == array).all()
    assert result.dtype == array.dtype
    assert result.flags.writeable
    if count:
        result[0] = 5
        assert array[0] == 0
    inside = batch.function(work.same, {"a": [array, array[: count // 2]]}).run()
    assert (inside["a"][0] == array).all()
    assert inside["a"][0].flags.writeable


def test_arrays_of_every_kind(batch: Batch) -> None:
    base = np.arange(60_000.0).reshape(200, 300)
    readonly = base.copy()
    readonly.flags.writeable = False
    arrays = [
        base,
        base.T,
        np.asfortranarray(base),
        base[::2, ::3],
        base[:, 5],
        base.astype("f4"),
        base.astype("S10"),
        base.astype(object)[:50],
        np.array(5.0),
        np.zeros((0, 5)),
        base > 5,
        np.zeros(9000, dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array(base, base > 5),
        readonly,
    ]
    tasks = [batch.function(work.same, a) for a in arrays]
    batch.compile(tasks).run()
    for task, array in zip(tasks, arrays):
        result = task.result.get()
        assert result.shape == array.shape
        assert result.dtype == array.dtype
        assert type(result) is type(array)
        assert np.array_equal(np.asarray(result), np.asarray(array))
        assert result.flags.writeable == array.flags.writeable or array is readonly
    buffer = pickle.PickleBuffer(bytearray(b"x" * 100_000))
    assert bytes(batch.function(bytes, buffer).run()) == b"x" * 100_000


def test_results_stay_what_they_are(batch: Batch) -> None:
    """Blocks are filled again with later results; earlier ones must not change."""
    kept = []
    for i in range(30):
        task = batch.function(np.full, 20_000, i)
        task.start()
        task.wait()
        if i % 3 == 0:
            kept.append((i, task.result.get()))
        elif i % 3 == 1:
            kept.append((i, batch.function(np.full, 20_000, i).run()))
    more = [batch.function(np.full, 20_000, -1) for _ in range(30)]
    batch.compile(more).run()
    for i, array in kept:
        assert (array == i).all()
        array += 1
    for i, array in kept:
        assert (array == i + 1).all()


# -- functions -----------------------------------------------------------------------------------


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
    ]
    wanted = [
        3, 1001, 2, 11, 120, 3, 15, 8, 7, 6, 15, 21, "Adder", 8, 3, ["a", "b"], 3, 5,
        work.Bag(5), 5, 3, False, 5,
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
    with work.quick(5):
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


# -- classes -------------------------------------------------------------------------------------


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


SCRIPT = """
import dataclasses, enum, sys
from alamo import Batch
import numpy as np

counter = 0

class Path(type(__import__("pathlib").Path())):
    pass

@dataclasses.dataclass
class Point:
    x: int
    made = []

    def count(self):
        global counter
        counter += 1
        return counter

class Colour(enum.Enum):
    RED = 1

class Trouble(Exception):
    def __init__(self, a, *, b):
        super().__init__(f"{a}-{b}")
        self.a, self.b = a, b

class Slotted:
    __slots__ = ("v",)
    def __init__(self, v): self.v = v

@dataclasses.dataclass(slots=True)
class Record:
    a: int
    b: list = dataclasses.field(default_factory=list)

def move(point, by):
    assert isinstance(point, Point)
    return Point(point.x + by)

def colour(c):
    return [c, Colour.RED, c is Colour.RED]

def trouble():
    raise Trouble(1, b=[2])

def nested(n):
    return batch.function(move, Point(n), 1).run().x

def chain(points):
    return sum(p.x for p in points)

if __name__ == "__main__":
    with Batch(num_workers=2) as batch:
        Point.made.append(1)
        count = Point.count
        tasks = [batch.function(move, Point(i), 1) for i in range(200)]
        last = batch.function(chain, [t.result for t in tasks])
        batch.compile([*tasks, last]).run()
        results = [t.result.get() for t in tasks]
        assert all(type(r) is Point for r in results)
        assert results == [Point(i + 1) for i in range(200)], results[:3]
        assert last.result.get() == sum(range(1, 201))
        # the class is still the one of this script
        assert Point.count is count
        assert results[0].count() == 1 and counter == 1
        assert Point.made == [1]
        c, red, same = batch.function(colour, Colour.RED).run()
        assert c is red is Colour.RED and same
        try:
            batch.function(trouble).run()
        except Trouble as error:
            assert (error.a, error.b) == (1, [2])
            assert "in trouble" in error.__notes__[0]
        else:
            raise AssertionError
        assert batch.function(lambda s: type(s.v), Slotted(Point(1))).run() is Point
        assert type(batch.function(lambda: Slotted(3)).run()) is Slotted
        record = batch.function(lambda r: Record(r.a + 1, [r]), Record(1)).run()
        assert record == Record(2, [Record(1)])
        assert batch.function(nested, 5).run() == 6
        assert [batch.function(nested, i).start()[0].get() for i in range(5)] == [1, 2, 3, 4, 5]
        nests = [batch.function(nested, i) for i in range(40)]
        batch.compile(nests).run()
        assert [t.result.get() for t in nests] == [i + 1 for i in range(40)]
        assert batch.function(lambda p: p.name, Path("/a/b")).run() == "b"
        assert type(batch.function(lambda p: p, Path("/a/b")).run()) is Path
        read = batch.function(lambda: 1, reads=batch.read(Path("/a"), Path("b")))
        batch.compile([read]).run()
        x = np.arange(100000.)
        assert (batch.function(lambda a: a + x, x).run() == 2 * x).all()
    print("fine")
"""


def test_a_script_with_functions_and_classes_of_its_own(tmp_path: Path) -> None:
    assert work.run_script(tmp_path, SCRIPT).stdout == "fine\n"


def test_a_script_run_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "package"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "fine\n", done.stderr


IMPORTLIB_TEST = """
import operator
from dataclasses import dataclass
import functools
import pytest
from alamo import Batch

@dataclass
class Point:
    x: int

class Trouble(Exception):
    def __init__(self, a, *, b):
        super().__init__(a)
        self.b = b

def double(p):
    return Point(p.x * 2)

def fail():
    raise Trouble(1, b=2)

def test_all():
    with Batch(num_workers=1) as batch:
        assert batch.function(operator.attrgetter("x"), Point(1)).run() == 1
        assert batch.function(list, [Point(2)]).run() == [Point(2)]
        assert type(batch.function(double, Point(2)).run()) is Point
        assert batch.function(functools.partial(double, Point(4))).run() == Point(8)
        assert batch.function(map, double, [Point(1)]).run().__next__() == Point(2)
        with pytest.raises(Trouble) as caught:
            batch.function(fail).run()
        assert caught.value.b == 2
"""


@pytest.mark.parametrize("mode", ["importlib", "prepend", "append"])
def test_in_a_test_module_of_pytest(tmp_path: Path, mode: str) -> None:
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    (inner / "test_inside.py").write_text(IMPORTLIB_TEST)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--import-mode={mode}",
            str(inner),
        ],
        check=False,
        cwd=tmp_path.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 passed" in done.stdout, done.stdout


LATE_PATH = """
import sys
from alamo import Batch
with Batch(num_workers=1) as batch:
    batch.function(len, "a").run()
    sys.path.append(sys.argv[1])
    import late_module
    assert batch.function(late_module.f, 1).run() == 6
    assert type(batch.function(late_module.make, 3).run()) is late_module.C
    assert batch.function(lambda c: c.v, late_module.C(4)).run() == 4
print("fine")
"""


def test_a_path_added_after_the_batch_was_made(tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "late_module.py").write_text(
        "k = 5\nclass C:\n    def __init__(self, v): self.v = v\n"
        "def f(x): return x + k\ndef make(v): return C(v)\n"
    )
    done = work.run_script(tmp_path, LATE_PATH, str(tmp_path / "late"))
    assert done.stdout == "fine\n"
