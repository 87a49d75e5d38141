"""How every benchmark here measures.

Each sample runs in a process of its own: `script --sample SIDE --n N` starts its service (alamo or
a rival), warms it up, runs the work once and prints the measurement as JSON. So no side sees the
other's heap, threads or idle workers, and first-touch page faults count as they do for a user. The
parent alternates the sides, A B A B, waits for a quiet machine before each sample, takes medians,
and prints what was measured beside the goals.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import _machine

SAMPLE_LIMIT_S = 600
QUIET_CORES = 0.1
DISTURBED_CORES = 0.2


@dataclasses.dataclass
class Sample:
    """One measurement: times in seconds over n tasks."""

    n: int
    wall_s: float
    phases_s: dict[str, float] = dataclasses.field(default_factory=dict)
    cpu_s: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: dict[str, float] = dataclasses.field(default_factory=dict)
    other_cores: float = 0.0  # cores busy with processes outside the tree, before or meanwhile


class Meter:
    """Wall clock, phases and CPU time of the process tree from here to `stop`."""

    def __init__(self) -> None:
        gc.collect()
        self.phases_s: dict[str, float] = {}
        self.busy_s = _machine.machine_busy_s()
        self.cpu = _machine.tree_cpu_s()
        self.start_s = self.last_s = time.perf_counter()

    def mark(self, phase: str) -> None:
        now_s = time.perf_counter()
        self.phases_s[phase] = now_s - self.last_s
        self.last_s = now_s

    def stop(self, n: int, **extra: float) -> Sample:
        wall_s = time.perf_counter() - self.start_s
        cpu = _machine.cpu_between_s(self.cpu, _machine.tree_cpu_s())
        busy_s = _machine.machine_busy_s() - self.busy_s
        # /proc/stat counts in steps of 10 ms: over a short run it says nothing.
        other = max(0.0, busy_s - sum(cpu.values())) / wall_s if wall_s > 0.3 else 0.0
        return Sample(n, wall_s, self.phases_s, cpu, extra, other)


@dataclasses.dataclass(frozen=True)
class Case:
    """One side at one size; `what` chooses among the kinds of work of a script."""

    side: str
    n: int
    what: str = ""

    @property
    def name(self) -> str:
        return f"{self.side} {self.what}".strip()


@dataclasses.dataclass
class Result:
    """The samples of one case, and their medians."""

    case: Case
    samples: list[Sample]

    def median(self, value: Callable[[Sample], float]) -> float:
        return statistics.median(value(sample) for sample in self.samples)

    @property
    def task_us(self) -> float:
        return self.median(lambda s: s.wall_s / s.n) * 1e6

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return 1e6 / self.task_us

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles (of two or three samples: the extremes) in the
        wall clock, over the median."""
        walls = sorted(sample.wall_s for sample in self.samples)
        if len(walls) < 2:
            return 0.0
        cut = len(walls) // 4
        return (walls[-1 - cut] - walls[cut]) / 2 / statistics.median(walls)

    def cpu_us(self, role: str) -> float:
        return self.median(lambda s: s.cpu_s.get(role, 0.0) / s.n) * 1e6

    def extra(self, name: str) -> float:
        return self.median(lambda s: s.extra[name])

    @property
    def phases(self) -> str:
        """Microseconds a task: make + compile + …"""
        names = self.samples[0].phases_s
        parts = (self.median(lambda s, p=p: s.phases_s[p] / s.n) * 1e6 for p in names)
        return " + ".join(f"{part:.2f}" for part in parts)

    @property
    def disturbed(self) -> int:
        """How many of the samples had other work beside them."""
        return sum(sample.other_cores > DISTURBED_CORES for sample in self.samples)


Results = dict[Case, Result]
Side = Callable[[argparse.Namespace], Sample]


class Bench:
    """One script: its sides by name, its options, its tables."""

    def __init__(self, script: str, doc: str, sides: dict[str, Side]) -> None:
        self.script = script
        self.sides = sides
        self.goals: list[list[str]] = []
        self.missed = 0
        self.parser = argparse.ArgumentParser(description=doc.split("\n", maxsplit=1)[0])
        add = self.parser.add_argument
        add("--repeat", type=int, default=0, help="samples a case (default 5; 2 with --quick)")
        add("--quick", action="store_true", help="smaller sizes, fewer samples: a look, no result")
        add("--workers", type=int, default=2, help="workers on every side (default 2)")
        add("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine")
        add("--strict", action="store_true", help="exit with 1 when a goal is missed")
        add("--sample", choices=sorted(sides), help="take one sample of this side and print it")
        add("--n", type=int, default=1000, help="tasks in that sample")
        add("--what", default="", help="kind of work in that sample")

    def main(self, report: Callable[[Bench], None], argv: Sequence[str] | None = None) -> None:
        self.options = self.parser.parse_args(argv)
        if self.options.sample:
            sample = self.sides[self.options.sample](self.options)
            print(json.dumps(dataclasses.asdict(sample)))
            return
        self.repeat = self.options.repeat or (2 if self.options.quick else 5)
        print(f"{_machine.description()}; medians of {self.repeat}\n", flush=True)
        report(self)
        self.print_goals()
        sys.exit(1 if self.missed and self.options.strict else 0)

    def compare(self, cases: Iterable[Case]) -> Results:
        """Takes samples of all cases in turn, round after round. A case given twice gets twice as
        many: what is short is noisy."""
        order = list(cases)
        results = {case: Result(case, []) for case in order}
        for _ in range(self.repeat):
            for case in order:
                results[case].samples.append(self.take(case))
        return results

    def take(self, case: Case) -> Sample:
        other_cores = self.wait_quiet()
        command = [sys.executable, self.script, "--sample", case.side, "--n", str(case.n)]
        command += ["--what", case.what, "--workers", str(self.options.workers)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=SAMPLE_LIMIT_S, check=False
        )
        if done.returncode:
            sys.exit(f"{self.script}: the sample {case} ended with status {done.returncode}")
        sample = Sample(**json.loads(done.stdout.splitlines()[-1]))
        sample.other_cores = max(sample.other_cores, other_cores)
        return sample

    def wait_quiet(self) -> float:
        """Waits for it, within patience; returns how many cores were busy at last."""
        deadline = time.monotonic() + self.options.patience
        while (busy := _machine.busy_cores()) > QUIET_CORES and time.monotonic() < deadline:
            pass
        return busy

    # What was measured

    def print_results(self, title: str, results: Results, rivals: dict[Case, Case]) -> None:
        """`rivals` gives, for a case, the case that its ratio in tasks a second is taken to."""
        head = ["case", "n", "tasks/s", "±", "µs a task", "phases, µs a task"]
        head += ["CPU µs client / manager / workers", "disturbed", "ratio"]
        rows = []
        for case, result in results.items():
            cpu = " / ".join(f"{result.cpu_us(r):.2f}" for r in ("client", "manager", "workers"))
            row = [case.name, f"{case.n:,}", f"{result.rate:,.0f}", f"{result.spread:.0%}"]
            row += [f"{result.task_us:.2f}", result.phases, cpu]
            row.append(f"{result.disturbed}/{len(result.samples)}")
            rival = rivals.get(case)
            row.append(f"{result.rate / results[rival].rate:.1f}× {rival.name}" if rival else "")
            rows.append(row)
        print_table(title, head, rows)

    # What was promised

    def at_least(self, claim: str, value: float, goal: float, unit: str = "") -> None:
        self.add_goal(claim, f"≥ {number(goal)}{unit}", f"{number(value)}{unit}", value >= goal)

    def at_most(self, claim: str, value: float, goal: float, unit: str = "") -> None:
        self.add_goal(claim, f"≤ {number(goal)}{unit}", f"{number(value)}{unit}", value <= goal)

    def aim_at_least(self, claim: str, value: float, aim: float, unit: str = "") -> None:
        """More than was promised: below it nothing is missed."""
        verdict = "reached" if value >= aim else "below"
        self.goals.append([claim, f"aim {number(aim)}{unit}", f"{number(value)}{unit}", verdict])

    def add_goal(self, claim: str, goal: str, measured: str, met: bool) -> None:
        self.missed += not met
        self.goals.append([claim, goal, measured, "met" if met else "MISSED"])

    def cpu_goals(self, claim: str, result: Result, client: float, manager: float, workers: float):
        goals = {"client": client, "manager": manager, "workers": workers}
        for role, goal in goals.items():
            self.at_most(f"{claim}: CPU of {role} a task", result.cpu_us(role), goal, " µs")

    def print_goals(self) -> None:
        note = " (--quick: no result)" if self.options.quick else ""
        print_table(f"Goals{note}", ["claim", "goal", "measured", ""], self.goals)


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Markdown, aligned."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    print(f"### {title}\n")
    for i, row in enumerate(table):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
        if i == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)


def warm(batch: Any) -> None:
    """Both workers have run tasks, and the client's code paths have been taken."""
    from _work import noop

    tasks = [batch.function(noop, i) for i in range(2000)]
    batch.compile(tasks).run(timeout=60)
    for task in tasks:
        task.result.get()


def run_program(batch: Any, make: Callable[[Any], list[Any]]) -> Sample:
    """From making the tasks to the last `get()`, of one compiled program."""
    meter = Meter()
    tasks = make(batch)
    meter.mark("make")
    program = batch.compile(tasks)
    meter.mark("compile")
    program.start()
    program.wait(timeout=SAMPLE_LIMIT_S)
    meter.mark("run")
    results = [task.result.get() for task in tasks]
    meter.mark("get")
    sample = meter.stop(len(tasks))
    if results != [None] * len(tasks):
        sys.exit("a no-op gave something else than None")
    return sample
