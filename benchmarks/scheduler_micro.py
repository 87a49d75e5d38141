"""What the scheduler alone costs: microseconds an element, driven by ideal workers.

No process, no socket: events go straight into the machine, and a worker "runs" a chunk by reporting
it whole when its turn comes. Times are CPU time of this process, the best of the rounds: what is
sought is the cost of the code, not of the machine's other work. Predecessors are made beforehand,
by nearest edges, in pages of 1000 as the client sends them.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import random
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from alamo.core import events as ev
from alamo.core.scheduler import Scheduler

PAGE = 1000
SIDE = 100
WIDTH = 1000
ORDER_ONLY = 0x8000_0000
RUN_S = 2e-6  # run time of an element of the ideal worker: a no-op with its time stamps

Page = tuple[int, bytes, bytes]


def pages_of(before: list[list[int]]) -> list[Page]:
    pages = []
    for first in range(0, len(before), PAGE):
        ends, preds = array("I"), array("I")
        for row in before[first : first + PAGE]:
            preds.extend(row)
            ends.append(len(preds))
        pages.append((len(ends), ends.tobytes(), preds.tobytes()))
    return pages


def ranks_of(before: list[list[int]]) -> bytes:
    """Longest path to the end, as the client computes it."""
    ranks = array("I", bytes(4 * len(before)))
    for element in range(len(before) - 1, -1, -1):
        above = ranks[element] + 1
        for other in before[element]:
            other &= ORDER_ONLY - 1
            if ranks[other] < above:
                ranks[other] = above
    return ranks.tobytes()


def chain(n: int) -> list[list[int]]:
    return [[i - 1] if i else [] for i in range(n)]


def stencil(n: int) -> list[list[int]]:
    return [
        [(t - 1) * SIDE + (i + d) % SIDE for d in (-1, 0, 1)] if t else []
        for t in range(n // SIDE)
        for i in range(SIDE)
    ]


def layered(n: int) -> list[list[int]]:
    """Each reads two of the layer before it."""
    choose = random.Random(1)
    rows: list[list[int]] = []
    for i in range(n):
        base = (i // WIDTH - 1) * WIDTH
        a = choose.randrange(WIDTH)
        b = (a + choose.randrange(1, WIDTH)) % WIDTH
        rows.append([base + a, base + b] if base >= 0 else [])
    return rows


def fan(n: int) -> list[list[int]]:
    """One, then n - 2 that need it, then one that needs all of these."""
    return [[], *([0] for _ in range(n - 2)), list(range(1, n - 1))]


class Driver:
    """Ideal workers: each runs its chunks at once, first dealt first done."""

    def __init__(self, slots: int, run_s: float) -> None:
        self.scheduler = Scheduler(slots)
        self.run_s = run_s
        self.slots = slots
        self.now_s = 0.0
        self.chunks = 0
        self.dealt: deque[ev.Deal] = deque()
        for worker in range(slots):
            self.handle(ev.WorkerReady(worker))

    def handle(self, event: ev.Event) -> None:
        events = [event]
        for event in events:
            for effect in self.scheduler.handle(event, self.now_s):
                if effect.__class__ is ev.Deal:
                    self.dealt.append(effect)
                elif effect.__class__ is ev.Recall:  # too late: all has begun
                    events.append(ev.WorkerResumed(effect.worker))

    def run(self) -> None:
        dealt, handle = self.dealt, self.handle
        while dealt:
            deal = dealt.popleft()
            chunk = deal.chunk
            count = len(chunk.elements)
            self.now_s += count * self.run_s / self.slots
            self.chunks += 1
            handle(ev.ChunkFinished(deal.worker, chunk.number, count, (), count * self.run_s))


def measure(
    pages: list[Page], ranks: bytes, slots: int, run_s: float
) -> tuple[float, float, int, Driver]:
    driver = Driver(slots, run_s)
    gc.collect()
    start_s = time.process_time()
    driver.handle(ev.ProgramOpened(0))
    for count, ends, preds in pages:
        driver.handle(ev.PageAdded(0, count, ends, preds))
    middle_s = time.process_time()
    driver.handle(ev.ProgramStarted(0, ranks))
    driver.run()
    end_s = time.process_time()
    if driver.scheduler.programs:
        sys.exit("the program is not done")
    return middle_s - start_s, end_s - middle_s, driver.chunks, driver


def case(
    name: str, make: Callable[[int], list[list[int]]] | None, n: int, slots: int, run_s: float
) -> tuple[str, int, list[Page], bytes, int, float]:
    if make is None:
        return name, n, [(n, b"", b"")], b"", slots, run_s
    before = make(n)
    return name, n, pages_of(before), ranks_of(before), slots, run_s


GOALS = {"plain": 0.05, "layered": 1.2}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--profile", action="store_true", help="print a profile of each case")
    options = parser.parse_args()
    cases = [
        ("plain", None, 1_000_000, 2, RUN_S),
        ("plain, 10 ms each", None, 100_000, 2, 0.01),
        ("plain, 10 ms each, 64 slots", None, 100_000, 64, 0.01),
        ("chain", chain, 1000, 2, RUN_S),
        ("stencil", stencil, SIDE * SIDE, 2, RUN_S),
        ("stencil, 10 ms each", stencil, SIDE * SIDE, 2, 0.01),
        ("layered", layered, 100_000, 2, RUN_S),
        ("layered of a million", layered, 1_000_000, 2, RUN_S),
        ("fan out and in", fan, 100_000, 2, RUN_S),
    ]
    print(
        f"{'case':30} {'n':>9} {'chunks':>7} {'ingest':>7} {'run':>7} {'sum':>7} µs/element  goal"
    )
    for name, make, n, slots, run_s in cases:
        if options.only not in name:
            continue
        _, _, pages, ranks, _, _ = case(name, make, n, slots, run_s)
        rounds = max(options.rounds, 50) if n <= 1000 else options.rounds
        profile = cProfile.Profile() if options.profile else None
        best = (1e9, 1e9, 0)
        for _ in range(1 if profile else rounds):
            if profile:
                profile.enable()
            taken = measure(pages, ranks, slots, run_s)[:3]
            if profile:
                profile.disable()
            best = min(best, taken, key=lambda t: t[0] + t[1])
        ingest, run, chunks = best[0] / n * 1e6, best[1] / n * 1e6, best[2]
        goal = GOALS.get(name)
        verdict = f"{goal} {'met' if ingest + run <= goal else 'MISSED'}" if goal else ""
        print(f"{name:30} {n:9,} {chunks:7} {ingest:7.3f} {run:7.3f} {ingest + run:7.3f}", end="")
        print(f"             {verdict}", flush=True)
        if profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(15)


if __name__ == "__main__":
    main()
