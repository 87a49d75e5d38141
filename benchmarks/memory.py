"""Memory of client, manager and workers over the empty service, with a million results held.

Held are the list of tasks with their handles, the results, and (with accesses) the store's keys.
"""

from __future__ import annotations

import argparse
import gc
import time

import _machine
from _harness import SAMPLE_LIMIT_S, Bench, Case, Meter, Result, Sample, print_table, warm
from _work import noop
from dag import make_int

STAGES = ("made", "compiled", "done", "got")
ROLES = ("client", "manager", "workers", "unmapped")


def settled_bytes() -> dict[str, int]:
    gc.collect()
    time.sleep(0.3)
    return _machine.tree_memory_bytes()


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    n = options.n
    make = make_int(n)
    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        empty = settled_bytes()
        extra: dict[str, float] = {f"empty {role}": size for role, size in empty.items()}

        def note(stage: str) -> None:
            for role, size in settled_bytes().items():
                extra[f"{stage} {role}"] = (size - empty[role]) / n

        meter = Meter()
        if options.what == "plain":
            tasks = [batch.function(noop, i) for i in range(n)]
        else:
            tasks = make(batch)
        note("made")
        program = batch.compile(tasks)
        note("compiled")
        program.start()
        program.wait(timeout=SAMPLE_LIMIT_S)
        note("done")
        results = [task.result.get() for task in tasks]
        note("got")
        assert len(results) == n
        return meter.stop(n, **extra)


def total(result: Result, stage: str) -> float:
    return result.median(lambda s: sum(s.extra[f"{stage} {role}"] for role in ROLES))


def report(bench: Bench) -> None:
    n = 100_000 if bench.options.quick else 1_000_000
    plain, accesses = Case("alamo", n, "plain"), Case("alamo", n, "3 accesses")
    results = bench.compare([plain, accesses])
    rows = []
    for case, result in results.items():
        empty = [f"{result.extra(f'empty {role}') / 2**20:.1f} MiB" for role in ROLES]
        rows.append([case.what, "empty service", f"{total(result, 'empty') / 2**20:.1f} MiB"])
        rows[-1] += empty
        for stage in STAGES:
            sizes = [f"{result.extra(f'{stage} {role}'):.0f}" for role in ROLES]
            rows.append([case.what, stage, f"{total(result, stage):.0f}", *sizes])
    title = f"Bytes a task over the empty service, {n:,} tasks"
    print_table(title, ["case", "stage", "all", *ROLES], rows)
    # What is held most is promised: results as they arrive (done) or as objects (got).
    for case, goal in ((plain, 400), (accesses, 1280)):
        most = max(total(results[case], stage) for stage in ("done", "got"))
        bench.at_most(f"{n:,} tasks, {case.what}", most, goal, " B a task")


if __name__ == "__main__":
    Bench(__file__, __doc__ or "", {"alamo": alamo}).main(report)
