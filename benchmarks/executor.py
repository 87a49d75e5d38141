"""Calls by `submit`, and all their results: AlamoExecutor beside ProcessPoolExecutor."""

from __future__ import annotations

import argparse
from concurrent.futures import Executor, ProcessPoolExecutor

from _harness import Bench, Case, Meter, Sample
from _work import noop


def measure(workers: Executor, options: argparse.Namespace) -> Sample:
    n = options.n
    list(workers.map(noop, range(2000)))
    meter = Meter()
    if options.what == "map":
        results = list(workers.map(noop, range(n)))
    elif options.what == "one by one":
        results = [workers.submit(noop, i).result() for i in range(n)]
    else:
        futures = [workers.submit(noop, i) for i in range(n)]
        meter.mark("submit")
        results = [future.result() for future in futures]
        meter.mark("result")
    sample = meter.stop(n)
    assert results == [None] * n
    return sample


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import AlamoExecutor

    with AlamoExecutor(options.workers) as workers:
        return measure(workers, options)


def executor(options: argparse.Namespace) -> Sample:
    with ProcessPoolExecutor(options.workers) as workers:
        return measure(workers, options)


def report(bench: Bench) -> None:
    n, once = (5_000, 500) if bench.options.quick else (20_000, 2_000)
    sizes = {"submit": n, "map": n, "one by one": once}
    rivals = {
        Case("alamo", size, what): Case("executor", size, what) for what, size in sizes.items()
    }
    results = bench.compare([case for pair in rivals.items() for case in pair])
    bench.print_results("Calls of a no-op", results, rivals)
    for case, goal in zip(rivals, (5, 5, 0.75)):
        ratio = results[case].rate / results[rivals[case]].rate
        bench.at_least(f"{case.what} / ProcessPoolExecutor", ratio, goal, "×")


if __name__ == "__main__":
    Bench(__file__, __doc__ or "", {"alamo": alamo, "executor": executor}).main(report)
