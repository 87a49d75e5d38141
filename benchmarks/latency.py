"""One no-op on an idle service; a service from nothing to its first result; its end."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from _harness import Bench, Case, Meter, Sample, print_table, warm
from _work import noop

PAUSE_S = 0.002  # before each no-op of the second kind: by then every process and core sleeps
BACK_TO_BACK, PAUSED = "back to back", "after a pause"
KINDS = (BACK_TO_BACK, PAUSED)


def timed_s(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def round_trips(action: Callable[[], object], options: argparse.Namespace) -> Sample:
    meter = Meter()
    times = []
    n = options.n
    for _ in range(n):
        if options.what == PAUSED:
            time.sleep(PAUSE_S)
        times.append(timed_s(action))
    times.sort()
    return meter.stop(n, median_us=statistics.median(times) * 1e6, p90_us=times[n * 9 // 10] * 1e6)


def alamo_run(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        return round_trips(lambda: batch.function(noop, 0).run(), options)


def executor_run(options: argparse.Namespace) -> Sample:
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(noop, range(2000)))
        return round_trips(lambda: workers.submit(noop, 0).result(), options)


def pool_run(options: argparse.Namespace) -> Sample:
    with multiprocessing.Pool(options.workers) as workers:
        workers.map(noop, range(2000))
        return round_trips(lambda: workers.apply(noop, (0,)), options)


def alamo_start(options: argparse.Namespace) -> Sample:
    start = time.perf_counter()
    from alamo import Batch

    import_s = time.perf_counter() - start
    meter = Meter()
    batch = Batch(num_workers=options.workers)
    batch.function(noop, 0).run()
    meter.mark("first result")

    def end() -> None:
        batch.close()
        batch.join()

    end_s = timed_s(end)
    return meter.stop(1, import_s=import_s, first_s=meter.phases_s["first result"], end_s=end_s)


def executor_start(options: argparse.Namespace) -> Sample:
    meter = Meter()
    workers = ProcessPoolExecutor(options.workers)
    workers.submit(noop, 0).result()
    meter.mark("first result")
    end_s = timed_s(workers.shutdown)
    return meter.stop(1, import_s=0.0, first_s=meter.phases_s["first result"], end_s=end_s)


SIDES = {
    "alamo run": alamo_run,
    "executor run": executor_run,
    "pool run": pool_run,
    "alamo start": alamo_start,
    "executor start": executor_start,
}


def report(bench: Bench) -> None:
    n = 100 if bench.options.quick else 400
    sides = ("alamo", "executor", "pool")
    runs = {(side, what): Case(f"{side} run", n, what) for what in KINDS for side in sides}
    own_start, rival_start = Case("alamo start", 1), Case("executor start", 1)
    results = bench.compare([*runs.values(), own_start, rival_start])
    names = ("median_us", "p90_us")
    rows = [[c.name, *(f"{results[c].extra(k):.0f}" for k in names)] for c in runs.values()]
    head = ["case", "median, µs", "90 of 100 are below, µs"]
    print_table("One no-op on an idle service", head, rows)
    names = ("import_s", "first_s", "end_s")
    rows = [
        [c.name, *(f"{results[c].extra(k) * 1e3:.1f}" for k in names)]
        for c in (own_start, rival_start)
    ]
    head = ["case", "import, ms", "from nothing to first result, ms", "end, ms"]
    print_table("Start and end", head, rows)
    for what in KINDS:
        own, rival = (results[runs[side, what]].extra("median_us") for side in sides[:2])
        if what == BACK_TO_BACK:
            bench.at_most(f"one no-op run(), median, {what}", own, 250, " µs")
        bench.at_most(f"one no-op run() / Executor, {what}", own / rival, 1.3, "×")
    bench.at_most("Batch() to first result", results[own_start].extra("first_s"), 0.2, " s")
    bench.at_most("close + join", results[own_start].extra("end_s"), 0.1, " s")


if __name__ == "__main__":
    Bench(__file__, __doc__ or "", SIDES).main(report)
