"""Fifty MPI jobs of two ranks of `true`, against a plain loop of `mpiexec`.

With two slots one job runs at a time, as in the loop. Each job's output is captured by rank.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from _harness import SAMPLE_LIMIT_S, Bench, Case, Meter, Sample, warm

RANKS = 2


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    with Batch(num_workers=RANKS) as batch:
        warm(batch)
        batch.job("true", num_procs=RANKS).run(timeout=SAMPLE_LIMIT_S)
        meter = Meter()
        jobs = [batch.job("true", num_procs=RANKS) for _ in range(options.n)]
        batch.compile(jobs).run(timeout=SAMPLE_LIMIT_S)
        if any(job.result.get() for job in jobs):
            sys.exit("true gave something else than 0")
        return meter.stop(options.n)


def loop(options: argparse.Namespace) -> Sample:
    from alamo.batch import launchers

    command = [launchers.find(python=False).path, "-n", str(RANKS), "true"]
    subprocess.run(command, check=True)
    meter = Meter()
    for _ in range(options.n):
        subprocess.run(command, check=True)
    return meter.stop(options.n)


def report(bench: Bench) -> None:
    n = 10 if bench.options.quick else 50
    own, plain = Case("alamo", n), Case("loop of mpiexec", n)
    results = bench.compare([own, plain])
    bench.print_results(f"MPI jobs of {RANKS} ranks of true", results, {own: plain})
    ratio = results[own].rate / results[plain].rate
    bench.at_least(f"{n} × mpiexec -n {RANKS} true as jobs, against a loop", ratio, 0.9, "×")


if __name__ == "__main__":
    Bench(__file__, __doc__ or "", {"alamo": alamo, "loop of mpiexec": loop}).main(report)
