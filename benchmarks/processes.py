"""Short executables with their output captured, beside what else starts them two at a time.

`what` may be "4 GiB": the client holds that much touched memory, which it must not pay for when
processes start; or "x", an argument.  `xargs -n1` can give its command nothing but one, and GNU
true with one loads its messages, which takes it a third longer: both are shown.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor

from _harness import Bench, Case, Meter, Sample, warm

TRUE = shutil.which("true") or "/bin/true"
HELD_BYTES = 4 << 30
HELD, WITH_ARGUMENT = "4 GiB", "x"


def held(what: str) -> bytearray:
    """Memory that is really there."""
    return bytearray(b"x") * (HELD_BYTES if what == HELD else 1)


def command(what: str) -> list[str]:
    return [TRUE, "x"] if what == WITH_ARGUMENT else [TRUE]


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Batch

    memory = held(options.what)
    with Batch(num_workers=options.workers) as batch:
        warm(batch)
        batch.compile([batch.process([TRUE]) for _ in range(20)]).run(timeout=60)
        meter = Meter()
        tasks = [batch.process(command(options.what)) for _ in range(options.n)]
        meter.mark("make")
        program = batch.compile(tasks)
        meter.mark("compile")
        program.start()
        program.wait(timeout=600)
        meter.mark("run")
        results = [(task.result.get(), task.stdout.get(), task.stderr.get()) for task in tasks]
        meter.mark("get")
        sample = meter.stop(options.n)
    assert results == [(0, "", "")] * options.n
    assert memory
    return sample


def arguments(n: int) -> bytes:
    return b"x\n" * n


def starter(command: list[str], options: argparse.Namespace) -> Sample:
    meter = Meter()
    done = subprocess.run(command, input=arguments(options.n), capture_output=True, check=True)
    sample = meter.stop(options.n)
    assert not done.stdout
    return sample


def xargs(options: argparse.Namespace) -> Sample:
    # With -I each line starts a command that the line is put into, here nowhere.
    mode = "-n1" if options.what == WITH_ARGUMENT else "-I{}"
    return starter(["xargs", f"-P{options.workers}", mode, TRUE], options)


def parallel(options: argparse.Namespace) -> Sample:
    return starter(["parallel", f"-j{options.workers}", TRUE], options)


def run_true(what: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(command(what), capture_output=True, check=True)
    return done.returncode, done.stdout, done.stderr


def executor(options: argparse.Namespace) -> Sample:
    memory = held(options.what)
    with ProcessPoolExecutor(options.workers) as workers:
        list(workers.map(run_true, [options.what] * 20))
        meter = Meter()
        results = list(workers.map(run_true, [options.what] * options.n))
        sample = meter.stop(options.n)
    assert results == [(0, b"", b"")] * options.n
    assert memory
    return sample


def is_gnu_parallel() -> bool:
    """The moreutils have a program of that name too."""
    found = shutil.which("parallel")
    if found is None:
        return False
    done = subprocess.run([found, "--version"], capture_output=True, check=False)
    return b"GNU parallel" in done.stdout


def report(bench: Bench) -> None:
    n = 400 if bench.options.quick else 2000
    ours, large = Case("alamo", n), Case("alamo", n, HELD)
    xargs_case, executor_case = Case("xargs -P", n), Case("ProcessPoolExecutor", n)
    arguments_too = [Case(case.side, n, WITH_ARGUMENT) for case in (ours, xargs_case)]
    cases = [ours, xargs_case, executor_case, large, *arguments_too]
    parallel_case = Case("GNU parallel -j", n // 10)
    with_parallel = is_gnu_parallel()
    if with_parallel:
        cases.append(parallel_case)
    else:
        print("GNU parallel is not installed: skipped\n")
    results = bench.compare(cases)
    bench.print_results(
        "Executables",
        results,
        {
            ours: xargs_case,
            large: ours,
            executor_case: xargs_case,
            arguments_too[0]: arguments_too[1],
        },
    )
    rate, xargs_rate = results[ours].rate, results[arguments_too[1]].rate
    bench.at_least(
        f"{n:,} × true / xargs -P -n1, which gives an argument", rate / xargs_rate, 1.3, "×"
    )
    bench.at_least(f"{n:,} × true / xargs -P", rate / results[xargs_case].rate, 1.3, "×")
    both = [results[case].rate for case in arguments_too]
    bench.at_least(f"{n:,} × true x / xargs -P -n1", both[0] / both[1], 1.3, "×")
    bench.at_least(f"{n:,} × true / Executor", rate / results[executor_case].rate, 1.3, "×")
    if with_parallel:
        bench.at_least(f"{n:,} × true / parallel -j", rate / results[parallel_case].rate, 6, "×")
    bench.at_least("from a client of 4 GiB / from a small one", results[large].rate / rate, 0.95)


if __name__ == "__main__":
    sides = {
        "alamo": alamo,
        "xargs -P": xargs,
        "ProcessPoolExecutor": executor,
        "GNU parallel -j": parallel,
    }
    Bench(__file__, __doc__ or "", sides).main(report)
