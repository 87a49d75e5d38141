"""Tasks without accesses: their rate, their CPU time, and that their cost stays flat to a million.

The rivals run fewer tasks (a task costs them the same at every number); rates are compared.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from _harness import Bench, Case, Meter, Sample, run_program, warm
from _work import noop


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    n = options.n
    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        return run_program(batch, lambda b: [b.function(noop, i) for i in range(n)])


def pool(options: argparse.Namespace) -> Sample:
    n = options.n
    with multiprocessing.Pool(options.workers) as workers:
        workers.map(noop, range(2000))
        meter = Meter()
        results = list(workers.imap_unordered(noop, range(n), chunksize=1))
        sample = meter.stop(n)
    assert len(results) == n
    return sample


def executor(options: argparse.Namespace) -> Sample:
    n = options.n
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(noop, range(2000)))
        meter = Meter()
        futures = [workers.submit(noop, i) for i in range(n)]
        results = [future.result() for future in futures]
        sample = meter.stop(n)
    assert len(results) == n
    return sample


def report(bench: Bench) -> None:
    quick = bench.options.quick
    small, middle = Case("alamo", 10_000), Case("alamo", 100_000)
    pool_case = Case("pool.imap_unordered(1)", 10_000 if quick else 50_000)
    executor_case = Case("executor.submit", 3_000 if quick else 10_000)
    sizes = [small, middle] if quick else [small, middle, Case("alamo", 1_000_000)]
    results = bench.compare([small, small, *sizes, pool_case, executor_case])
    rivals = dict.fromkeys([middle, sizes[-1]], pool_case)
    bench.print_results("Tasks without accesses", results, rivals)
    for case in sizes[1:]:
        result, label = results[case], f"{case.n:,} tasks"
        bench.at_least(label, result.rate, 400_000, "/s")
        bench.at_least(f"{label} / Pool", result.rate / results[pool_case].rate, 7, "×")
        bench.at_least(f"{label} / Executor", result.rate / results[executor_case].rate, 30, "×")
        bench.cpu_goals(label, result, 1.8, 0.2, 2.0)
    costs = [results[case].task_us for case in sizes]
    label = f"most over least cost, {sizes[0].n:,} to {sizes[-1].n:,}"
    bench.at_most(label, max(costs) / min(costs), 1.15)


if __name__ == "__main__":
    sides = {"alamo": alamo, "pool.imap_unordered(1)": pool, "executor.submit": executor}
    Bench(__file__, __doc__ or "", sides).main(report)
