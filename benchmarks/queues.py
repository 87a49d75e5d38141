"""Messages of a Queue from one process to another, beside the queues of multiprocessing.

`what` names the size of a message, or "idle": how long a message takes to a consumer that waits
for it, the median of many.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from typing import Any

import numpy as np

from _harness import Bench, Case, Meter, Result, Sample

SIZES = {"100 B": 100, "100 KB": 100_000, "10 MB": 10_000_000}
IDLE = "idle"
PAUSE_S = 0.002
CONTEXT = multiprocessing.get_context("spawn")


def message_of(size: str, i: int) -> Any:
    if size == "10 MB":
        return np.full(SIZES[size] // 8, i, dtype=np.float64)
    return bytes([i % 100]) * SIZES[size]


def consume(queue: Any, size: str, n: int, ready: Any, finished: Any) -> None:
    for _ in range(min(n, 50)):
        queue.get()
    ready.release()
    for _ in range(n):
        last = queue.get()
    if not np.array_equal(last, message_of(size, n - 1)):
        sys.exit("a message came out wrong")
    finished.release()


def delays(queue: Any, n: int, ready: Any, results: Any) -> None:
    ready.release()
    spans = []
    for _ in range(n):
        sent_s = queue.get()
        spans.append(time.monotonic() - sent_s)
        ready.release()
    results.send(statistics.median(spans))


def measured(queue: Any, options: argparse.Namespace) -> Sample:
    if options.what == IDLE:
        return idle(queue, options.n)
    ready, finished = CONTEXT.Semaphore(0), CONTEXT.Semaphore(0)
    process = CONTEXT.Process(
        target=consume, args=(queue, options.what, options.n, ready, finished)
    )
    process.start()
    messages = [message_of(options.what, i) for i in range(min(options.n, 100))]
    last = message_of(options.what, options.n - 1)
    count = len(messages)
    for i in range(min(options.n, 50)):
        queue.put(messages[i])
    ready.acquire()
    meter = Meter()
    for i in range(options.n - 1):
        queue.put(messages[i % count])
    queue.put(last)
    finished.acquire()
    sample = meter.stop(options.n)
    process.join()
    if process.exitcode:
        sys.exit("the consumer failed")
    return sample


def idle(queue: Any, n: int) -> Sample:
    ready = CONTEXT.Semaphore(0)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=delays, args=(queue, n, ready, sender))
    process.start()
    meter = Meter()
    for _ in range(n):
        ready.acquire()
        time.sleep(PAUSE_S)  # until the consumer waits
        queue.put(time.monotonic())
    median_s = receiver.recv()
    process.join()
    return meter.stop(n, delay_us=median_s * 1e6)


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import Queue

    queue = Queue()
    try:
        return measured(queue, options)
    finally:
        queue.destroy()


def mp_queue(options: argparse.Namespace) -> Sample:
    return measured(CONTEXT.Queue(), options)


def simple_queue(options: argparse.Namespace) -> Sample:
    return measured(CONTEXT.SimpleQueue(), options)


def report(bench: Bench) -> None:
    quick = bench.options.quick
    for size, n in {"100 B": 200_000, "100 KB": 10_000, "10 MB": 200}.items():
        n //= 10 if quick else 1
        ours, full = Case("alamo", n, size), Case("mp.Queue", max(n // 4, 40), size)
        simple = Case("mp.SimpleQueue", max(n // 2, 40), size)
        results = bench.compare([ours, full, simple])
        bench.print_results(f"messages of {size}", results, {ours: full, simple: full})
        if size == "100 B":
            claim = f"{size}, one to one / SimpleQueue"
            bench.at_least(claim, ratio(results, ours, simple), 1, "×")
        if size == "10 MB":
            bench.at_least(f"{size} / mp.Queue", ratio(results, ours, full), 4, "×")
    n = 200 if quick else 1000
    ours, full = Case("alamo", n, IDLE), Case("mp.Queue", n, IDLE)
    simple = Case("mp.SimpleQueue", n, IDLE)
    results = bench.compare([ours, full, simple])
    delays_us = {case: result.extra("delay_us") for case, result in results.items()}
    for case, delay_us in delays_us.items():
        print(f"{case.side}: {delay_us:.0f} us to a consumer that waits\n")
    bench.at_most("idle delay / mp.Queue", delays_us[ours] / delays_us[full], 0.6, "×")


def ratio(results: dict[Case, Result], a: Case, b: Case) -> float:
    return results[a].rate / results[b].rate


if __name__ == "__main__":
    sides = {"alamo": alamo, "mp.Queue": mp_queue, "mp.SimpleQueue": simple_queue}
    Bench(__file__, __doc__ or "", sides).main(report)
