"""Scripts that use a Batch: functions and classes of their own, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import _work as work

# -- functions and classes of a script ---------------------------------------------------------


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


@pytest.mark.parametrize("mode", ["importlib", "prepend"])
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


# -- exits -------------------------------------------------------------------------------------


def test_a_script_that_forgets_to_close(tmp_path: Path) -> None:
    work.run_script(
        tmp_path,
        "import sys, time\n"
        "from alamo import Batch\n"
        "def f(path):\n"
        "    time.sleep(0.2)\n"
        "    open(path, 'w').close()\n"
        "batch = Batch(num_workers=1)\n"
        "batch.function(f, 'done').start()\n",
    )
    assert (tmp_path / "done").exists()


def test_a_script_that_crashes(tmp_path: Path) -> None:
    with work.quick():
        done = work.run_script(
            tmp_path,
            "import time\n"
            "from alamo import Batch\n"
            "batch = Batch(num_workers=1)\n"
            "batch.function(time.sleep, 60).start()\n"
            "print(batch._client.manager_pid, flush=True)\n"
            "raise ValueError('my crash')\n",
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: my crash")
    assert not work.alive(int(done.stdout))


def test_sys_exit_is_a_clean_exit(tmp_path: Path) -> None:
    done = work.run_script(
        tmp_path,
        "import sys\nfrom alamo import Batch\n"
        "batch = Batch(num_workers=1)\n"
        "batch.function(lambda: open('done', 'w').close()).start()\n"
        "sys.exit(3)\n",
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert (tmp_path / "done").exists()


def test_a_process_that_dies_without_a_word(tmp_path: Path) -> None:
    done = work.run_script(
        tmp_path,
        "import os, time\nfrom alamo import Batch\n"
        "batch = Batch(num_workers=2)\n"
        "pids = [batch.function(os.getpid).run(), batch._client.manager_pid]\n"
        "batch.function(time.sleep, 60).start()\n"
        "print(*pids, flush=True)\n"
        "os._exit(0)\n",
        check=False,
    )
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 2
    work.wait_until(lambda: not any(map(work.alive, pids)))


WAITING = """
import sys, time
from alamo import Batch
def main():
    with Batch(num_workers=2) as batch:
        tasks = [batch.function(time.sleep, 60) for _ in range(4)]
        whole = batch.compile(tasks)
        whole.start()
        single = batch.function(time.sleep, 60)
        single.start()
        print("waiting", flush=True)
        {wait}
main()
"""


@pytest.mark.parametrize(
    "wait",
    ["whole.wait()", "whole.wait(1e9)", "single.result.get()", "batch.close(); batch.join()"],
)
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, wait: str) -> None:
    """As a terminal does it: the whole process group gets SIGINT."""
    script = tmp_path / "script.py"
    script.write_text(WAITING.format(wait=wait))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    parent = psutil.Process(process.pid)
    work.wait_until(lambda: len(parent.children(recursive=True)) >= 4)
    family = parent.children(recursive=True)
    with work.quick():
        os.killpg(process.pid, signal.SIGINT)
        _, text = process.communicate(timeout=work.PATIENCE_S)
    assert process.returncode in (1, -signal.SIGINT)
    assert "KeyboardInterrupt" in text
    assert text.count("Traceback") == 1, text
    work.wait_until(lambda: not any(work.alive(p.pid) for p in family))


def test_a_thread_may_hold_the_only_reference(tmp_path: Path) -> None:
    done = work.run_script(
        tmp_path,
        "import threading\nfrom alamo import Batch\n"
        "def use():\n"
        "    with Batch(num_workers=1) as batch:\n"
        "        print(batch.function(len, 'abc').run())\n"
        "threads = [threading.Thread(target=use) for _ in range(3)]\n"
        "[t.start() for t in threads]\n"
        "[t.join() for t in threads]\n",
    )
    assert done.stdout == "3\n3\n3\n"


def test_start_up_does_not_need_the_scripts_directory(tmp_path: Path) -> None:
    """Modules of the user's that shadow Python's own do not reach manager and nursery."""
    for name in ("random", "selectors", "token", "heapq"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadow')\n")
    code = (
        "import sys\nfrom alamo import Batch\nsys.path.insert(0, '.')\n"
        "with Batch(num_workers=1) as b: print(b.function(len, 'ab').run())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "2\n", done.stderr
