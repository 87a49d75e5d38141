"""Tasks with accesses: a chain, a stencil, a layered random DAG with int, tuple and Path channels.

The rival is what one writes by hand without alamo: a loop over a `multiprocessing.Pool` that
submits a task when its predecessors, which the author has to know, are done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import random
import statistics
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import Bench, Case, Meter, Result, Sample, run_program, warm
from _work import Store, noop, same

WIDTH = 1000  # tasks in a layer of the random DAG
SIDE = 100  # of the stencil
SHORT_ROUNDS = 9  # a chain of 1000 takes milliseconds: one sample is the median of so many

Make = Callable[[Any], list[Any]]


def drawn(n: int) -> tuple[array[int], array[int]]:
    """For each task of a layered DAG two different tasks of the layer before it, as indices. Those
    of the first layer are negative: it reads what nobody writes."""
    choose = random.Random(1)
    first, second = array("l"), array("l")
    for i in range(n):
        base = (i // WIDTH - 1) * WIDTH
        a = choose.randrange(WIDTH)
        first.append(base + a)
        second.append(base + (a + choose.randrange(1, WIDTH)) % WIDTH)
    return first, second


def make_chain(n: int) -> Make:
    def make(batch: Any) -> list[Any]:
        store, read, write = Store(), batch.read, batch.write
        return [
            batch.function(noop, i, reads=read(store, i), writes=write(store, i + 1))
            for i in range(n)
        ]

    return make


def make_stencil(n: int) -> Make:
    """(t, i) reads (t - 1, i - 1 … i + 1), in a ring, and writes (t, i): 3 reads and 1 write."""

    def make(batch: Any) -> list[Any]:
        store, read, write = Store(), batch.read, batch.write
        return [
            batch.function(
                noop,
                i,
                reads=[
                    read(store, (t - 1, (i - 1) % SIDE)),
                    read(store, (t - 1, i)),
                    read(store, (t - 1, (i + 1) % SIDE)),
                ],
                writes=write(store, (t, i)),
            )
            for t in range(n // SIDE)
            for i in range(SIDE)
        ]

    return make


def make_int(n: int) -> Make:
    first, second = drawn(n)

    def make(batch: Any) -> list[Any]:
        store, read, write = Store(), batch.read, batch.write
        return [
            batch.function(noop, i, reads=[read(store, a), read(store, b)], writes=write(store, i))
            for i, (a, b) in enumerate(zip(first, second, strict=True))
        ]

    return make


def make_tuple(n: int) -> Make:
    first, second = drawn(n)

    def make(batch: Any) -> list[Any]:
        store, read, write = Store(), batch.read, batch.write
        return [
            batch.function(
                noop,
                i,
                reads=[read(store, divmod(a, WIDTH)), read(store, divmod(b, WIDTH))],
                writes=write(store, divmod(i, WIDTH)),
            )
            for i, (a, b) in enumerate(zip(first, second, strict=True))
        ]

    return make


def make_path(n: int) -> Make:
    """As in the documents' example: a base directory, and a `Path` made for each access."""
    first, second = drawn(n)

    def make(batch: Any) -> list[Any]:
        base, read, write = Path("/some/path/to/base_dir"), batch.read, batch.write
        return [
            batch.function(
                noop,
                i,
                reads=[read(base, Path(f"file_{a}")), read(base, Path(f"file_{b}"))],
                writes=write(base, Path(f"file_{i}")),
            )
            for i, (a, b) in enumerate(zip(first, second, strict=True))
        ]

    return make


MAKERS = {
    "chain": make_chain,
    "stencil": make_stencil,
    "dag int": make_int,
    "dag tuple": make_tuple,
    "dag path": make_path,
}


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    make = MAKERS[options.what](options.n)
    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        rounds = SHORT_ROUNDS if options.n <= 1000 else 1
        return median_sample([run_program(batch, make) for _ in range(rounds)])


def median_sample(samples: list[Sample]) -> Sample:
    """The sample in the middle, with the mean CPU time of all: CPU clocks of short runs jitter."""
    middle = sorted(samples, key=lambda sample: sample.wall_s)[len(samples) // 2]
    for role in middle.cpu_s:
        middle.cpu_s[role] = statistics.mean(sample.cpu_s[role] for sample in samples)
    return middle


def predecessors(what: str, n: int) -> list[list[int]]:
    if what == "chain":
        return [[i - 1] if i else [] for i in range(n)]
    if what == "stencil":
        if n % SIDE:
            sys.exit(f"a stencil has a multiple of {SIDE} tasks")
        return [
            [(t - 1) * SIDE + (i + d) % SIDE for d in (-1, 0, 1)] if t else []
            for t in range(n // SIDE)
            for i in range(SIDE)
        ]
    first, second = drawn(n)
    return [[j for j in pair if j >= 0] for pair in zip(first, second, strict=True)]


def pool_loop(options: argparse.Namespace) -> Sample:
    before = predecessors(options.what, options.n)
    with multiprocessing.Pool(options.workers) as pool:
        pool.map(noop, range(2000))
        meter = Meter()
        missing = [len(tasks) for tasks in before]
        after: list[list[int]] = [[] for _ in before]
        for task, tasks in enumerate(before):
            for earlier in tasks:
                after[earlier].append(task)
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for task, count in enumerate(missing):
            if not count:
                pool.apply_async(same, (task,), callback=done.put, error_callback=done.put)
        for _ in before:
            task = done.get()
            for later in after[task]:
                missing[later] -= 1
                if not missing[later]:
                    pool.apply_async(same, (later,), callback=done.put, error_callback=done.put)
        return meter.stop(options.n)


def goals(bench: Bench, result: Result, rate: float, rival: Result | None) -> None:
    case = result.case
    claim = f"{case.what} of {case.n:,}"
    bench.at_least(claim, result.rate, rate, "/s")
    if rival:
        bench.at_least(f"{claim} / Pool loop", result.rate / rival.rate, 5, "×")
    if case.what in ("dag int", "dag tuple"):
        bench.cpu_goals(claim, result, 5.5, 1.8, 2.2)


def report(bench: Bench) -> None:
    options = bench.options
    n = 20_000 if options.quick else 100_000
    rates = {
        Case("alamo", 1000, "chain"): 150_000,
        Case("alamo", SIDE * SIDE, "stencil"): 120_000,
        Case("alamo", n, "dag int"): 120_000,
        Case("alamo", n, "dag tuple"): 120_000,
        Case("alamo", n, "dag path"): 60_000,
    }
    if options.million:
        rates[Case("alamo", 1_000_000, "dag int")] = 100_000
        rates[Case("alamo", 1_000_000, "dag tuple")] = 100_000
    rivals = {
        "chain": Case("pool loop", 1000, "chain"),
        "stencil": Case("pool loop", SIDE * SIDE, "stencil"),
        "dag": Case("pool loop", 20_000, "dag int"),
    }
    results = bench.compare([*rates, *rivals.values()])
    rival_of = {case: rivals[case.what.split(maxsplit=1)[0]] for case in rates}
    bench.print_results("Tasks with accesses", results, rival_of)
    for case, rate in rates.items():
        rival = results[rival_of[case]] if case.what != "dag path" else None
        goals(bench, results[case], rate, rival)


if __name__ == "__main__":
    bench = Bench(__file__, __doc__ or "", {"alamo": alamo, "pool loop": pool_loop})
    bench.parser.add_argument("--million", action="store_true", help="the DAG of a million too")
    bench.main(report)
