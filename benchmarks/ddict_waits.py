"""How long a reader that waits for a key takes to see it, and what it burns meanwhile.

Beside it Redis' BLPOP. The writer's put and the reader's get are part of the delay.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from typing import Any

from _harness import Bench, Case, Meter, Sample
from _redis import connect, redis_socket, server_binary

PAUSE_S = 0.002
CONTEXT = multiprocessing.get_context("spawn")


def read_ddict(mapping: Any, n: int, ready: Any, results: Any) -> None:
    spans = []
    for i in range(n):
        ready.release()
        sent_s = mapping[i]
        spans.append(time.monotonic() - sent_s)
    results.send(statistics.median(spans))


def read_redis(path: str, n: int, ready: Any, results: Any) -> None:
    client = connect(path)
    client.ping()
    spans = []
    for i in range(n):
        ready.release()
        _, sent = client.blpop([str(i)])
        spans.append(time.monotonic() - float(sent))
    results.send(statistics.median(spans))


def measured(n: int, reader: Any, place: Any, put: Any) -> Sample:
    ready = CONTEXT.Semaphore(0)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=reader, args=(place, n, ready, sender))
    process.start()
    ready.acquire()
    meter = Meter()
    for i in range(n):
        if i:
            ready.acquire()
        time.sleep(PAUSE_S)  # until the reader waits
        put(i, time.monotonic())
    median_s = receiver.recv()
    process.join()
    return meter.stop(n, delay_us=median_s * 1e6)


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import DDict

    with DDict(wait_for_keys=True) as mapping:
        return measured(options.n, read_ddict, mapping, mapping.__setitem__)


def redis(options: argparse.Namespace) -> Sample:
    with redis_socket() as path:
        client = connect(path)
        return measured(options.n, read_redis, path, lambda i, s: client.rpush(str(i), s))


def report(bench: Bench) -> None:
    n = 200 if bench.options.quick else 1000
    ours, rival = Case("alamo", n), Case("Redis BLPOP", n)
    results = bench.compare([ours, rival] if server_binary() else [ours])
    for case, result in results.items():
        print(f"{case.side}: {result.extra('delay_us'):.0f} us\n")
    bench.at_most("a waiter is woken within, median", results[ours].extra("delay_us"), 150, " µs")


if __name__ == "__main__":
    Bench(__file__, __doc__ or "", {"alamo": alamo, "Redis BLPOP": redis}).main(report)
