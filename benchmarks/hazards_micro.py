"""Microseconds a task of hazard inference: make the accesses, infer and drain by pages of 1024.

Run: python benchmarks/hazards_micro.py [repeats]

Each line is the best of the repeats: "infer" is HazardTracker alone, called as the compiler
does, on accesses made before; "access" the making of the DataAccess objects.  Machine, date and
numbers go in the commit.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

from alamo.batch.compiler import PAGE
from alamo.core.access import READ, WRITE, DataAccess, make_access
from alamo.core.edges import Page
from alamo.core.graph import Dag
from alamo.core.hazards import HazardTracker

Program = list[tuple[tuple[DataAccess, ...], tuple[DataAccess, ...]]]


def _cwd() -> str:
    return "/work"


def _program(obj: object, keys: list[tuple[list[object], list[object]]]) -> Program:
    return [
        (
            tuple([make_access(obj, (k,), READ, _cwd) for k in reads]),
            tuple([make_access(obj, (k,), WRITE, _cwd) for k in writes]),
        )
        for reads, writes in keys
    ]


def chain(n: int = 100_000) -> list[tuple[list[object], list[object]]]:
    """Task i reads i and writes i + 1."""
    return [([i], [i + 1]) for i in range(n)]


def stencil(
    width: int = 100, steps: int = 100, key: Callable[[int, int], object] = lambda t, i: (t, i)
) -> list[tuple[list[object], list[object]]]:
    """Cell (t + 1, i) needs its three neighbours at t."""
    return [
        ([key(t, j) for j in (i - 1, i, i + 1) if 0 <= j < width], [key(t + 1, i)])
        for t in range(steps)
        for i in range(width)
    ]


def layered(
    n: int = 100_000, width: int = 1000, key: Callable[[int], object] = int
) -> list[tuple[list[object], list[object]]]:
    """Each task reads two random results of the layer before and writes its own."""
    rng = random.Random(1)
    tasks: list[tuple[list[object], list[object]]] = []
    for i in range(n):
        base = (i // width - 1) * width
        reads = [key(base + rng.randrange(width)) for _ in range(2)] if base >= 0 else []
        tasks.append((reads, [key(i)]))
    return tasks


def monitor(n: int = 20_000) -> Program:
    """Write a new channel, then read the whole object, again and again."""
    d: list[int] = []
    read = (make_access(d, (), READ, _cwd),)
    return [
        e for i in range(n // 2) for e in (((), (make_access(d, (i,), WRITE, _cwd),)), (read, ()))
    ]


def several(n: int = 20_000) -> Program:
    """Every task names its two reads in one access."""
    d: list[int] = []
    return [
        ((make_access(d, (i, i + 7), READ, _cwd),), (make_access(d, (i + 9,), WRITE, _cwd),))
        for i in range(n)
    ]


def infer(program: Program) -> tuple[float, HazardTracker, list[Page]]:
    """Seconds to infer a program page by page, as the compiler does for arguments without handles.

    Splitting a page's reads from its writes is outside: the compiler takes them from the tasks.
    """
    cuts = [
        ([reads for reads, _ in page], [writes for _, writes in page])
        for page in (program[start : start + PAGE] for start in range(0, len(program), PAGE))
    ]
    begin = time.perf_counter()
    tracker = HazardTracker()
    pages: list[Page] = []
    for reads, writes in cuts:
        placed: list[int] = []
        tracker.add_all(reads, writes, repeat(()), placed)
        pages.append(tracker.drain())
    return time.perf_counter() - begin, tracker, pages


def measure(name: str, obj: object, keys: list[tuple[list[object], list[object]]]) -> None:
    """Print one line."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    n = len(keys)
    make = best = 1e9
    for _ in range(repeats):
        begin = time.perf_counter()
        program = _program(obj, keys)
        make = min(make, time.perf_counter() - begin)
        best = min(best, infer(program)[0])
    accesses = sum(len(r) + len(w) for r, w in keys)
    print(
        f"{name:34} {n:8} tasks  infer {best / n * 1e6:5.2f} us/task "
        f"{best / accesses * 1e6:5.2f} us/access   access {make / accesses * 1e6:5.2f} us"
    )


def main() -> None:
    """Run all of it."""
    d: list[int] = []
    measure("chain, int", d, chain())
    measure("stencil 100x100, int", d, stencil(key=lambda t, i: t * 100 + i))
    measure("stencil 100x100, in place, int", d, stencil(key=lambda t, i: t % 2 * 100 + i))
    measure("stencil 100x100, tuple", d, stencil())
    measure("layered 100k fan-in 2, int", d, layered())
    names = [Path(f"file_{i}") for i in range(100_000)]
    paths = layered(key=names.__getitem__)
    measure("layered 100k fan-in 2, Path", Path("/scratch/run"), paths)
    print(f"write and monitor: {min(infer(monitor())[0] for _ in range(5)) / 20_000 * 1e6:.2f} us")
    best = min(infer(several())[0] for _ in range(5))
    print(f"two channels in one read: {best / 20_000 * 1e6:.2f} us")
    memory()
    graph()


def memory() -> None:
    """Print the bytes a channel costs the tracker."""
    program = _program([], [([], [i]) for i in range(200_000)])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    _, tracker, _ = infer(program)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"memory: {(after - before) / 200_000:.0f} bytes a channel ({tracker.count} elements)")


def graph() -> None:
    """Print the cost of ranks an element and edge."""
    dag = Dag.of_pages(infer(_program([], layered()))[2])
    begin = time.perf_counter()
    dag.ranks()
    seconds = time.perf_counter() - begin
    print(f"ranks: {seconds / (len(dag) + len(dag.preds)) * 1e6:.2f} us an element and edge")
    begin = time.perf_counter()
    dag.levels()
    print(f"levels: {(time.perf_counter() - begin) / (len(dag) + len(dag.preds)) * 1e6:.2f} us")


if __name__ == "__main__":
    main()
