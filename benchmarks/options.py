"""What needs, a time limit and retries add to the cost of no-op functions.

Each side is the same tasks with one option more; elements of an array likewise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from _harness import Bench, Case, Meter, Sample, run_program, warm
from _work import noop

#: Most that an option may add.
DEARER_MAX = 1.1

SIDES: dict[str, Callable[[], dict[str, Any]]] = {
    "none": dict,
    "timeout": lambda: {"timeout": 60.0},
    "retries": lambda: {"retries": 3},
    "memory": lambda: {"policy": _policy(memory="100 MiB")},
    "2 cores": lambda: {"policy": _policy(cores=2)},
    "timeout, retries, memory": lambda: {
        "timeout": 60.0,
        "retries": 3,
        "policy": _policy(memory="100 MiB"),
    },
}


def _policy(**needs: Any) -> Any:
    from alamo import Policy

    return Policy(**needs)


def tasks(side: str) -> Callable[[argparse.Namespace], Sample]:
    """Tasks with the options of a side."""

    def run(args: argparse.Namespace) -> Sample:
        from alamo import Batch

        options = SIDES[side]()
        with Batch(num_workers=args.workers) as batch:
            warm(batch)
            batch.function(noop, 0, **options).run()  # workers for what it needs are there
            return run_program(
                batch, lambda b: [b.function(noop, i, **options) for i in range(args.n)]
            )

    return run


def elements(side: str) -> Callable[[argparse.Namespace], Sample]:
    """Elements of an array with the options of a side."""

    def run(args: argparse.Namespace) -> Sample:
        from alamo import Batch

        options = SIDES[side]()
        with Batch(num_workers=args.workers) as batch:
            warm(batch)
            batch.function(noop, 0, **options).run()
            meter = Meter()
            array = batch.map(noop, range(args.n), **options)
            array.run()
            array.result.get()
            return meter.stop(args.n)

    return run


def report(bench: Bench) -> None:
    quick = bench.options.quick
    for title, kind, n in (
        ("Tasks", "tasks", 20_000 if quick else 100_000),
        ("Elements of an array", "elements", 100_000 if quick else 1_000_000),
    ):
        cases = {side: Case(f"{kind}: {side}", n) for side in SIDES}
        results = bench.compare(cases.values())
        none = cases["none"]
        rivals = {case: none for side, case in cases.items() if side != "none"}
        bench.print_results(f"{title} with options", results, rivals)
        for side, case in cases.items():
            # One at a time is what two cores for each on two slots means; CPU time is comparable.
            if side not in ("none", "2 cores"):
                dearer = results[case].task_us / results[none].task_us
                bench.at_most(f"{kind} with {side} / without", dearer, DEARER_MAX, "×")


if __name__ == "__main__":
    sides = {f"tasks: {side}": tasks(side) for side in SIDES}
    sides |= {f"elements: {side}": elements(side) for side in SIDES}
    Bench(__file__, __doc__ or "", sides).main(report)
