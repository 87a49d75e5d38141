"""Two thousand short sleeps of uneven length: how close two workers come to the ideal time.

The ideal is the sum of the durations as measured in the workers over the number of workers.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

from _harness import SAMPLE_LIMIT_S, Bench, Case, Meter, Sample, warm
from _work import nap, noop

MEAN_S = 0.005
SIGMA = 1.0


def durations_s(n: int) -> list[float]:
    """Lognormal, with the mean exactly as named."""
    choose = random.Random(1)
    values = [choose.lognormvariate(math.log(MEAN_S) - SIGMA**2 / 2, SIGMA) for _ in range(n)]
    return [value * MEAN_S * n / sum(values) for value in values]


def share(sample: Sample, taken_s: list[float], workers: int) -> Sample:
    sample.extra["share"] = sum(taken_s) / workers / sample.wall_s
    return sample


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    naps = durations_s(options.n)
    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        meter = Meter()
        tasks = [batch.function(nap, duration_s) for duration_s in naps]
        program = batch.compile(tasks)
        program.start()
        program.wait(timeout=SAMPLE_LIMIT_S)
        taken_s = [task.result.get() for task in tasks]
        return share(meter.stop(options.n), taken_s, options.workers)


def pool(options: argparse.Namespace) -> Sample:
    naps = durations_s(options.n)
    with multiprocessing.Pool(options.workers) as workers:
        workers.map(noop, range(2000))
        meter = Meter()
        taken_s = list(workers.imap_unordered(nap, naps, chunksize=1))
        return share(meter.stop(options.n), taken_s, options.workers)


def executor(options: argparse.Namespace) -> Sample:
    naps = durations_s(options.n)
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(noop, range(2000)))
        meter = Meter()
        taken_s = [future.result() for future in [workers.submit(nap, s) for s in naps]]
        return share(meter.stop(options.n), taken_s, options.workers)


def report(bench: Bench) -> None:
    n = 400 if bench.options.quick else 2000
    own, pool_case = Case("alamo", n), Case("pool.imap_unordered(1)", n)
    results = bench.compare([own, pool_case, Case("executor.submit", n)])
    bench.print_results(f"Sleeps, lognormal, mean {MEAN_S * 1e3:.0f} ms", results, {own: pool_case})
    for case, result in results.items():
        if case == own:
            claim = f"{n:,} sleeps: ideal time over time taken"
            bench.at_least(claim, result.extra("share"), 0.98)
        else:
            print(f"{case.name}: ideal time over time taken {result.extra('share'):.3f}")
    print()


if __name__ == "__main__":
    sides = {"alamo": alamo, "pool.imap_unordered(1)": pool, "executor.submit": executor}
    Bench(__file__, __doc__ or "", sides).main(report)
