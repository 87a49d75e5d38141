"""Arrays: a million no-ops mapped over a range, what their results weigh, and short sleeps.

The rivals get all results too. `executor.map` in chunks of 256, `pool.map` in the chunks that it
chooses (four a worker: nothing can be seen or taken back before a quarter of the whole is done),
joblib batching by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

from _harness import SAMPLE_LIMIT_S, Bench, Case, Meter, Sample, print_table, warm
from _work import nap, noop, same
from memory import ROLES, settled_bytes, total

MEAN_S = 0.001
SIGMA = 1.0


def durations_s(n: int) -> list[float]:
    """Lognormal, with the mean exactly as named."""
    choose = random.Random(1)
    values = [choose.lognormvariate(math.log(MEAN_S) - SIGMA**2 / 2, SIGMA) for _ in range(n)]
    return [value * MEAN_S * n / sum(values) for value in values]


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        batch.map(noop, range(20_000)).run()
        if options.what == "memory":
            return alamo_memory(batch, options.n)
        if options.what == "sleeps":
            naps = durations_s(options.n)
            meter = Meter()
            taken_s = batch.map(nap, naps).run()
            sample = meter.stop(options.n)
            sample.extra["share"] = sum(taken_s) / options.workers / sample.wall_s
            return sample
        meter = Meter()
        results = batch.map(noop, range(options.n)).run(timeout=SAMPLE_LIMIT_S)
        sample = meter.stop(options.n)
    assert results == [None] * options.n
    return sample


def alamo_memory(batch: object, n: int) -> Sample:
    """Bytes an element over the empty service, as results come and as a list of them."""
    empty = settled_bytes()
    extra: dict[str, float] = {f"empty {role}": size for role, size in empty.items()}

    def note(stage: str) -> None:
        for role, size in settled_bytes().items():
            extra[f"{stage} {role}"] = (size - empty[role]) / n

    meter = Meter()
    task = batch.map(same, range(n))  # type: ignore[attr-defined]
    task.start()
    task.wait(timeout=SAMPLE_LIMIT_S)
    note("done")
    results = task.result.get()
    note("got")
    assert results == list(range(n))
    return meter.stop(n, **extra)


def executor(options: argparse.Namespace) -> Sample:
    n = options.n
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(noop, range(20_000), chunksize=256))
        meter = Meter()
        results = list(workers.map(noop, range(n), chunksize=256))
        sample = meter.stop(n)
    assert len(results) == n
    return sample


def pool(options: argparse.Namespace) -> Sample:
    n = options.n
    with multiprocessing.Pool(options.workers) as workers:
        workers.map(noop, range(20_000))
        meter = Meter()
        results = workers.map(noop, range(n))
        sample = meter.stop(n)
    assert len(results) == n
    return sample


def joblib(options: argparse.Namespace) -> Sample:
    from joblib import Parallel, delayed

    n = options.n
    with Parallel(n_jobs=options.workers) as parallel:
        parallel(delayed(noop)(i) for i in range(20_000))
        meter = Meter()
        results = parallel(delayed(noop)(i) for i in range(n))
        sample = meter.stop(n)
    assert len(results) == n
    return sample


def report(bench: Bench) -> None:
    quick = bench.options.quick
    n = 100_000 if quick else 1_000_000
    own = Case("alamo", n)
    executor_case, pool_case = Case("executor.map(256)", n // 4), Case("pool.map", n)
    joblib_case = Case("joblib", n // 20)
    rivals = [executor_case, pool_case]
    if importlib.util.find_spec("joblib"):
        rivals.append(joblib_case)
    else:
        print("joblib is not installed (it is in the extra `dev`): not compared\n")
    results = bench.compare([own, *rivals])
    bench.print_results("No-ops mapped over a range", results, {own: executor_case})
    label, rate = f"map of {n:,}", results[own].rate
    bench.at_least(label, rate, 4_000_000, "/s")
    bench.at_least(f"{label} / executor.map(256)", rate / results[executor_case].rate, 2.5, "×")
    if joblib_case in results:
        bench.at_least(f"{label} / joblib", rate / results[joblib_case].rate, 5, "×")
    bench.aim_at_least(f"{label} / pool.map", rate / results[pool_case].rate, 1, "×")
    report_memory(bench, n)
    report_sleeps(bench, 1000 if quick else 10_000)


def report_memory(bench: Bench, n: int) -> None:
    case = Case("alamo", n, "memory")
    result = bench.compare([case])[case]
    empty = [f"{result.extra(f'empty {role}') / 2**20:.1f} MiB" for role in ROLES]
    rows = [["empty service", f"{total(result, 'empty') / 2**20:.1f} MiB", *empty]]
    for stage in ("done", "got"):
        sizes = [f"{result.extra(f'{stage} {role}'):.0f}" for role in ROLES]
        rows.append([stage, f"{total(result, stage):.0f}", *sizes])
    title = f"Bytes an element over the empty service, {n:,} elements with int results"
    print_table(title, ["stage", "all", *ROLES], rows)
    most = max(total(result, stage) for stage in ("done", "got"))
    bench.at_most(f"{n:,} int results held", most, 120, " B an element")


def report_sleeps(bench: Bench, n: int) -> None:
    case = Case("alamo", n, "sleeps")
    results = bench.compare([case])
    bench.print_results(f"Sleeps, lognormal, mean {MEAN_S * 1e3:.0f} ms", results, {})
    claim = f"{n:,} sleeps: ideal time over time taken"
    bench.at_least(claim, results[case].extra("share"), 0.97)


if __name__ == "__main__":
    sides = {"alamo": alamo, "executor.map(256)": executor, "pool.map": pool, "joblib": joblib}
    Bench(__file__, __doc__ or "", sides).main(report)
