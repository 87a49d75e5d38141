"""Puts and gets of a DDict beside a managed dict, Redis over a Unix socket, and plain memory.

Values of 100 B and 100 KB are bytes, those of 10 MB float64 arrays. `what` names the operation,
the size, and the number of processes that do it at once, each on keys of its own.  A thousand keys
(eight of 10 MB) are overwritten again and again: all of them are there before the clock starts.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import pickle
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np

from _harness import Bench, Case, Meter, Result, Sample
from _redis import connect, redis_socket, server_binary

SIZES = {"100 B": 100, "100 KB": 100_000, "10 MB": 10_000_000}
PUT, GET, BORROW = "put", "get", "borrow"


class RedisDict(MutableMapping[int, Any]):
    """What one would write to use Redis as a dict: bytes as they are, the rest pickled."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.client = connect(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisDict, (self.path,)

    def __setitem__(self, key: int, value: Any) -> None:
        self.client.set(key, value if type(value) is bytes else pickle.dumps(value, 5))

    def __getitem__(self, key: int) -> Any:
        value = self.client.get(key)
        return pickle.loads(value) if value[:1] == b"\x80" else value

    def __delitem__(self, key: int) -> None:
        self.client.delete(key)

    def __len__(self) -> int:
        return int(self.client.dbsize())

    def __iter__(self) -> Any:
        return map(int, self.client.keys())


def value_of(size: str, i: int) -> Any:
    if size == "10 MB":
        return np.full(SIZES[size] // 8, i, dtype=np.float64)
    return bytes([i % 100]) * SIZES[size]


def keys_of(size: str, first: int = 0) -> range:
    return range(first, first + (8 if size == "10 MB" else 1000))


def put_all(mapping: Any, size: str, n: int, first: int = 0) -> None:
    keys = keys_of(size, first)
    values = [value_of(size, key) for key in keys]
    count = len(keys)
    for i in range(n):
        at = i % count
        mapping[keys[at]] = values[at]


def get_all(mapping: Any, size: str, n: int, first: int = 0) -> None:
    keys = keys_of(size, first)
    count = len(keys)
    for i in range(n):
        mapping[keys[i % count]]


def borrow_all(mapping: Any, size: str, n: int, first: int = 0) -> None:
    keys = keys_of(size, first)
    count = len(keys)
    for i in range(n):
        with mapping.borrow(keys[i % count]):
            pass


OPERATIONS: dict[str, Callable[..., None]] = {PUT: put_all, GET: get_all, BORROW: borrow_all}


def one_of_many(mapping: Any, what: str, n: int, first: int, ready: Any, go: Any) -> None:
    operation, size, _ = what.split(", ")
    put_all(mapping, size, len(keys_of(size)), first)
    ready.release()
    go.acquire()
    OPERATIONS[operation](mapping, size, n, first)


def measured(mapping: Any, options: argparse.Namespace) -> Sample:
    operation, size, processes = options.what.split(", ")
    if processes != "1":
        return measured_in(int(processes), mapping, options)
    put_all(mapping, size, len(keys_of(size)))
    put_all(mapping, size, len(keys_of(size)))
    run = OPERATIONS[operation]
    run(mapping, size, min(options.n, len(keys_of(size))))
    meter = Meter()
    run(mapping, size, options.n)
    sample = meter.stop(options.n)
    last = mapping[keys_of(size)[-1]]
    if not np.array_equal(last, value_of(size, keys_of(size)[-1])):
        sys.exit("a value came back wrong")
    return sample


def measured_in(processes: int, mapping: Any, options: argparse.Namespace) -> Sample:
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Semaphore(0)
    each = options.n // processes
    members = [
        context.Process(
            target=one_of_many, args=(mapping, options.what, each, 10_000 * i, ready, go)
        )
        for i in range(processes)
    ]
    for member in members:
        member.start()
    for _ in members:
        ready.acquire()
    meter = Meter()
    for _ in members:
        go.release()
    for member in members:
        member.join()
    sample = meter.stop(each * processes)
    if any(member.exitcode for member in members):
        sys.exit("a process failed")
    return sample


def alamo(options: argparse.Namespace) -> Sample:
    from alamo import DDict

    with DDict() as mapping:
        return measured(mapping, options)


def manager(options: argparse.Namespace) -> Sample:
    with multiprocessing.Manager() as service:
        return measured(service.dict(), options)


def redis(options: argparse.Namespace) -> Sample:
    with redis_socket() as path:
        return measured(RedisDict(path), options)


def memcpy(options: argparse.Namespace) -> Sample:
    """Copying into shared memory that has been touched before: what no store can beat."""
    size = options.what.split(", ")[1]
    length = len(memoryview(value_of(size, 0)).cast("B"))
    slots = [memoryview(mmap.mmap(-1, length)) for _ in keys_of(size)]
    mapping = SlotDict(slots)
    put_all(mapping, size, len(slots))
    meter = Meter()
    put_all(mapping, size, options.n)
    return meter.stop(options.n)


class SlotDict:
    """Shared memory of one slot a key."""

    def __init__(self, slots: list[memoryview]) -> None:
        self.slots = slots

    def __setitem__(self, key: int, value: Any) -> None:
        self.slots[key][:] = memoryview(value).cast("B")


def report(bench: Bench) -> None:
    quick = bench.options.quick
    counts = {"100 B": 100_000, "100 KB": 10_000, "10 MB": 200}
    goals = {
        (PUT, "100 B"): 12.0,
        (GET, "100 B"): 18.0,
        (PUT, "100 KB"): 7.0,
        (GET, "100 KB"): 12.0,
        (PUT, "10 MB"): 14.0,
        (GET, "10 MB"): 25.0,
    }
    has_redis = server_binary() is not None
    for (operation, size), goal in goals.items():
        what = f"{operation}, {size}, 1"
        n = counts[size] // (10 if quick else 1)
        slow = max(n // 10, 40)
        ours, managed = Case("alamo", n, what), Case("Manager().dict", slow, what)
        plain, bare = Case("Redis", slow, what), Case("memcpy", n, what)
        lent = Case("alamo", n, what.replace(GET, BORROW))
        cases = [ours, managed]
        if has_redis:
            cases.append(plain)
        if operation == PUT:
            cases.append(bare)
        elif size != "100 B":
            cases.append(lent)
        results = bench.compare(cases)
        rivals = {ours: managed, **dict.fromkeys(cases[2:], ours)}
        bench.print_results(f"{operation} {size}", results, rivals)
        bench.at_least(f"{what} / Manager", ratio(results, ours, managed), goal, "×")
        if has_redis and size == "100 B":
            bench.at_least(f"{what} / Redis", ratio(results, ours, plain), goal, "×")
        if operation == PUT and size == "10 MB":
            bench.at_least(f"{what} / memcpy", ratio(results, ours, bare), 0.6, "×")
    what = f"{PUT}, 100 B, 4"
    ours = Case("alamo", 20_000 if quick else 200_000, what)
    managed = Case("Manager().dict", 4_000 if quick else 20_000, what)
    results = bench.compare([ours, managed])
    bench.print_results("put 100 B, four processes", results, {ours: managed})
    bench.at_least(f"{what} / Manager", ratio(results, ours, managed), 10, "×")


def ratio(results: dict[Case, Result], a: Case, b: Case) -> float:
    return results[a].rate / results[b].rate


if __name__ == "__main__":
    sides = {"alamo": alamo, "Manager().dict": manager, "Redis": redis, "memcpy": memcpy}
    Bench(__file__, __doc__ or "", sides).main(report)
