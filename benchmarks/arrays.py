"""Five hundred tasks, each with a numpy array of 1 MB in and one of 1 MB out; all results are held.

Of two kinds: every task is given an array of its own, or all are given the same one (which alamo
ships once, and a rival every time).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from _harness import SAMPLE_LIMIT_S, Bench, Case, Meter, Sample, warm
from _work import add_one

ITEMS = 1_000_000 // 8
WARM = 32
OWN, SAME = "own arrays", "same array"


def arrays(n: int, what: str = OWN) -> list[np.ndarray]:
    if what == SAME:
        return [np.zeros(ITEMS)] * n
    return [np.full(ITEMS, i, dtype=np.float64) for i in range(n)]


def checked(sample: Sample, given: list[np.ndarray], results: list[np.ndarray]) -> Sample:
    for i, (before, after) in enumerate(zip(given, results, strict=True)):
        if after.shape != (ITEMS,) or after[0] != before[0] + 1 or after[-1] != before[-1] + 1:
            sys.exit(f"array {i} came back wrong")
    return sample


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    given = arrays(options.n, options.what)
    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        first = [batch.function(add_one, array) for array in arrays(WARM)]
        batch.compile(first).run(timeout=60)
        del first
        meter = Meter()
        tasks = [batch.function(add_one, array) for array in given]
        meter.mark("make")
        program = batch.compile(tasks)
        meter.mark("compile")
        program.start()
        program.wait(timeout=SAMPLE_LIMIT_S)
        meter.mark("run")
        results = [task.result.get() for task in tasks]
        meter.mark("get")
        return checked(meter.stop(options.n), given, results)


def executor(options: argparse.Namespace) -> Sample:
    given = arrays(options.n, options.what)
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(add_one, arrays(WARM)))
        meter = Meter()
        futures = [workers.submit(add_one, array) for array in given]
        results = [future.result() for future in futures]
        return checked(meter.stop(options.n), given, results)


def pool(options: argparse.Namespace) -> Sample:
    given = arrays(options.n, options.what)
    with multiprocessing.Pool(options.workers) as workers:
        workers.map(add_one, arrays(WARM))
        meter = Meter()
        results = list(workers.imap(add_one, given, chunksize=1))
        return checked(meter.stop(options.n), given, results)


def report(bench: Bench) -> None:
    n = 100 if bench.options.quick else 500
    sides = ("alamo", "executor.submit", "pool.imap(1)")
    cases = {(side, what): Case(side, n, what) for what in (OWN, SAME) for side in sides}
    rivals = {
        case: cases[sides[1], what] for (side, what), case in cases.items() if side != sides[1]
    }
    results = bench.compare(cases.values())
    bench.print_results("Tasks with a 1 MB array in and a 1 MB array out", results, rivals)
    for what in (OWN, SAME):
        ratio = results[cases["alamo", what]].rate / results[cases[sides[1], what]].rate
        bench.at_least(f"{n} tasks, {what} / Executor", ratio, 5, "×")
        bench.aim_at_least(f"{n} tasks, {what} / Executor", ratio, 7, "×")


if __name__ == "__main__":
    sides = {"alamo": alamo, "executor.submit": executor, "pool.imap(1)": pool}
    Bench(__file__, __doc__ or "", sides).main(report)
