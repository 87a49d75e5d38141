"""Small puts and gets of a DDict over Valkey beside bare redis-py on the same server."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from _harness import Bench, Case, Meter, Sample
from _redis import connect, redis_socket, server_binary

VALUE = b"x" * 100
KEYS = 1000


def put_all(mapping: Any, n: int) -> None:
    for i in range(n):
        mapping[i % KEYS] = VALUE


def get_all(mapping: Any, n: int) -> None:
    for i in range(n):
        if mapping[i % KEYS] != VALUE:
            sys.exit("a value came back wrong")


class Bare:
    """redis-py as it is, one command an operation."""

    def __init__(self, path: str) -> None:
        client = connect(path)
        self._set, self._get = client.set, client.get

    def __setitem__(self, key: int, value: bytes) -> None:
        self._set(key, value)

    def __getitem__(self, key: int) -> Any:
        return self._get(key)


def measured(mapping: Any, options: argparse.Namespace) -> Sample:
    run = put_all if options.what == "put" else get_all
    put_all(mapping, KEYS)
    run(mapping, min(KEYS, options.n))
    meter = Meter()
    run(mapping, options.n)
    return meter.stop(options.n)


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import DDict

    with redis_socket() as path:
        mapping = DDict(url=f"unix://{path}")
        try:
            return measured(mapping, options)
        finally:
            mapping.destroy()


def bare(options: argparse.Namespace) -> Sample:
    with redis_socket() as path:
        return measured(Bare(path), options)


def report(bench: Bench) -> None:
    if server_binary() is None:
        print("no redis-server and no valkey-server is here: skipped\n")
        return
    n = 2_000 if bench.options.quick else 20_000
    for what in ("put", "get"):
        ours, rival = Case("alamo", n, what), Case("redis-py", n, what)
        results = bench.compare([ours, rival])
        bench.print_results(f"{what} 100 B over Valkey", results, {ours: rival})
        ratio = results[ours].rate / results[rival].rate
        bench.at_least(f"{what} / bare redis-py", ratio, 0.7, "×")


if __name__ == "__main__":
    Bench(__file__, __doc__ or "", {"alamo": alamo, "redis-py": bare}).main(report)
