"""Functions, an executable and an MPI job in one program, their order from files alone.

    write (function) ──► sort (executable) ──► moments (4 ranks with mpi4py) ──► report (function)

Readings of a sensor are written to a file, sorted by a program, read in parts by the ranks of an
MPI job, which together compute mean, deviation and median, and reported. Nothing says what waits
for what but the files that each step reads and writes.

Run it with a number of readings, for example `mixed_mpi.py 10000`; it needs an MPI launcher and
mpi4py: `pip install mpich mpi4py`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from alamo import Batch, Policy

RANKS = 4


def write(path: Path, count: int) -> int:
    """Readings of a sensor, one a line, in the order in which they came."""
    noise = random.Random(1)
    path.write_text("".join(f"{noise.gauss(20.0, 4.0):.6f}\n" for _ in range(count)))
    return count


def moments(sorted_path: Path, result_path: Path) -> tuple[int, float]:
    """Each rank reads its part of the file; together they know all of it.

    Returns:
        How many readings this rank had, and the mean that all agree on.
    """
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    # Parts are cut at bytes: a line belongs to the rank in whose part it begins.
    size = sorted_path.stat().st_size
    first, last = (size * (world.rank + k) // world.size for k in (0, 1))
    with open(sorted_path, "rb") as file:
        file.seek(max(0, first - 1))
        if first:
            file.readline()
        values = []
        while file.tell() < last:
            values.append(float(file.readline()))
    count = world.allreduce(len(values))
    mean = world.allreduce(math.fsum(values)) / count
    variance = world.allreduce(math.fsum([(v - mean) ** 2 for v in values])) / (count - 1)
    before = world.exscan(len(values)) or 0
    middle = {(count - 1) // 2, count // 2}
    found = world.gather([values[i - before] for i in middle if 0 <= i - before < len(values)])
    print(f"rank {world.rank} of {world.size}: {len(values)} readings")
    if world.rank == 0:
        median = statistics.fmean(value for part in found for value in part)
        result = {"count": count, "mean": mean, "deviation": math.sqrt(variance), "median": median}
        result_path.write_text(json.dumps(result))
    return len(values), mean


def report(path: Path) -> dict[str, float]:
    """What the job found."""
    result: dict[str, float] = json.loads(path.read_text())
    return result


def is_right(found: dict[str, float], path: Path) -> bool:
    """Compare with a serial computation."""
    values = [float(line) for line in path.read_text().splitlines()]
    exact = {
        "count": len(values),
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values),
        "median": statistics.median(values),
    }
    return all(math.isclose(found[name], exact[name], rel_tol=1e-9) for name in exact)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readings", type=int, nargs="?", default=200_000)
    count = parser.parse_args().readings
    with tempfile.TemporaryDirectory() as name, Batch() as batch:
        base = Path(name)
        raw, ordered, result = base / "raw.txt", base / "sorted.txt", base / "moments.json"
        start = time.perf_counter()
        written = batch.function(write, raw, count, writes=batch.write(raw))
        # stdin= and stdout= say by themselves what the program reads and writes.
        program = batch.process(["sort", "-n"], stdin=raw, stdout=ordered)
        job = batch.job(
            moments,
            (ordered, result),
            num_procs=RANKS,
            # Where there are fewer slots than ranks they share them.
            policy=Policy(oversubscribe=True),
            reads=batch.read(ordered),
            writes=batch.write(result),
        )
        summed = batch.function(report, result, reads=batch.read(result))
        batch.compile([written, program, job, summed], name="readings").run()
        took_s = time.perf_counter() - start
        found = summed.result.get()
        print(job.stdout.get(), end="")
        print(", ".join(f"{key} {value:,.6g}" for key, value in found.items()), end="")
        print(f"; {took_s:.2f} s")
        if sum(part for part, _ in job.result.get()) != count or not is_right(found, raw):
            print("WRONG: not what a serial computation gives")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
