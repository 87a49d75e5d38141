"""Five hundred tasks, each with a numpy array of 1 MB in and one of 1 MB out.

All arrays differ, so no side can ship one for many tasks; all results are held.
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


def arrays(n: int) -> list[np.ndarray]:
    return [np.full(ITEMS, i, dtype=np.float64) for i in range(n)]


def checked(sample: Sample, results: list[np.ndarray]) -> Sample:
    for i, result in enumerate(results):
        if result.shape != (ITEMS,) or result[0] != i + 1 or result[-1] != i + 1:
            sys.exit(f"array {i} came back wrong")
    return sample


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    given = arrays(options.n)
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
        return checked(meter.stop(options.n), results)


def executor(options: argparse.Namespace) -> Sample:
    given = arrays(options.n)
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(add_one, arrays(WARM)))
        meter = Meter()
        futures = [workers.submit(add_one, array) for array in given]
        results = [future.result() for future in futures]
        return checked(meter.stop(options.n), results)


def pool(options: argparse.Namespace) -> Sample:
    given = arrays(options.n)
    with multiprocessing.Pool(options.workers) as workers:
        workers.map(add_one, arrays(WARM))
        meter = Meter()
        results = list(workers.imap(add_one, given, chunksize=1))
        return checked(meter.stop(options.n), results)


def report(bench: Bench) -> None:
    n = 100 if bench.options.quick else 500
    own, rival, pool_case = Case("alamo", n), Case("executor.submit", n), Case("pool.imap(1)", n)
    results = bench.compare([own, rival, pool_case])
    title = "Tasks with a 1 MB array in and a 1 MB array out"
    bench.print_results(title, results, {own: rival, pool_case: rival})
    ratio = results[own].rate / results[rival].rate
    bench.at_least(f"{n} arrays / Executor", ratio, 5, "×")
    bench.aim_at_least(f"{n} arrays / Executor", ratio, 7, "×")


if __name__ == "__main__":
    sides = {"alamo": alamo, "executor.submit": executor, "pool.imap(1)": pool}
    Bench(__file__, __doc__ or "", sides).main(report)
