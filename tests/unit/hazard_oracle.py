"""The definition of hazards by brute force, and random programs to hold the tracker against it.

The oracle knows no nearest edges, joins or regions: it compares all pairs of elements, and it
plays the program on versions of every cell to learn whose data a read sees.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from alamo.core.access import (
    FILES,
    READ,
    WHOLE,
    WRITE,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    make_access,
)
from alamo.core.edges import INDEX, ORDER_ONLY
from alamo.core.graph import Dag
from alamo.core.hazards import HazardTracker

STANDARD = CommunicationDomain()
ALL_DOMAINS = [CommunicationDomain(*flags) for flags in product((False, True), repeat=4)]

Element = tuple[tuple[DataAccess, ...], tuple[DataAccess, ...], tuple[int, ...]]
Program = list[Element]


# -- the oracle --


def region_of(access: DataAccess) -> tuple[tuple[Any, ...], CommunicationDomain]:
    """The place of a single-channel access in the tree of all data, and its rules."""
    obj = access.obj
    if obj is FILES:
        return ("files", *(part for part in access.channel.split("/") if part)), STANDARD
    rules = obj.domain if isinstance(obj, CommunicationObject) else STANDARD
    name = obj if isinstance(obj, (CommunicationObject, int)) else id(obj)
    return ((name,) if access.channel is WHOLE else (name, access.channel)), rules


def split(accesses: tuple[DataAccess, ...]) -> list[DataAccess]:
    """One access a channel."""
    return [DataAccess(a.obj, c, a.mode) for a in accesses for c in (a.channels or (WHOLE,))]


def overlap(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """One region holds the other."""
    n = min(len(a), len(b))
    return a[:n] == b[:n]


class Oracle:
    """What must be ordered, and whose data each element sees, by definition."""

    def __init__(self, program: Program) -> None:
        regions: list[list[tuple[tuple[Any, ...], bool, CommunicationDomain]]] = []
        for reads, writes, _ in program:
            regions.append(
                [(*region_of(a)[:1], False, region_of(a)[1]) for a in split(reads)]
                + [(*region_of(a)[:1], True, region_of(a)[1]) for a in split(writes)]
            )
        self.closure = self._close(program, regions)
        self.data = self._play(program, regions)

    @staticmethod
    def _close(program: Program, regions: list[Any]) -> list[int]:
        closure: list[int] = []
        for j, mine in enumerate(regions):
            before = 0
            for i in range(j - 1, -1, -1):
                if before >> i & 1:
                    continue
                if i in program[j][2] or any(
                    overlap(a, b) and getattr(rules, "wr"[not x] + "a" + "wr"[not y])
                    for (b, y, rules) in regions[i]
                    for (a, x, _) in mine
                ):
                    before |= 1 << i | closure[i]
            closure.append(before)
        return closure

    @staticmethod
    def _play(program: Program, regions: list[Any]) -> list[set[int]]:
        cells = {region for mine in regions for region, _, _ in mine}
        version: dict[tuple[Any, ...], int] = {}
        history: list[tuple[int, tuple[Any, ...]]] = []
        data: list[set[int]] = []
        for j, mine in enumerate(regions):
            seen = set(program[j][2])
            for region, write, rules in mine:
                if write or not rules.raw:
                    continue
                if rules.waw:
                    seen |= {
                        version[c] for c in cells if c[: len(region)] == region and c in version
                    }
                else:
                    seen |= {i for i, other in history if overlap(region, other)}
            data.append(seen)
            for region, write, _ in mine:
                if write:
                    history.append((j, region))
                    for c in cells:
                        if c[: len(region)] == region:
                            version[c] = j
        return data


# -- running the tracker --


def infer(program: Program, page: int = 7) -> tuple[Dag, list[int]]:
    """The whole graph, drained by pages, and the index of each element."""
    tracker = HazardTracker()
    index: list[int] = []
    pages = []
    for reads, writes, inputs in program:
        if reads or writes or inputs:
            index.append(tracker.add(reads, writes, tuple(index[i] for i in inputs)))
        else:
            index.append(tracker.add_plain(1))
        if len(index) % page == 0:
            pages.append(tracker.drain())
    pages.append(tracker.drain())
    assert [p.first for p in pages] == [sum(q.count for q in pages[:k]) for k in range(len(pages))]
    dag = Dag.of_pages(pages)
    dag.check()
    assert len(dag) == tracker.count
    return dag, index


def compare(program: Program) -> Dag:
    """Hold the inferred graph against the oracle."""
    dag, index = infer(program)
    truth = Oracle(program)
    element = {k: i for i, k in enumerate(index)}
    assert dag.joins == set(range(len(dag))) - set(index)
    reach: list[int] = []
    data: list[set[int]] = []
    for k in range(len(dag)):
        before, sees = 0, set()
        entries = dag.entries(k)
        if k in dag.joins:
            assert len({e & ORDER_ONLY for e in entries}) == 1, "a join mixes data and order"
        for e in entries:
            p = e & INDEX
            before |= reach[p]
            if p in element:
                before |= 1 << element[p]
            if not e & ORDER_ONLY:
                sees |= {element[p]} if p in element else data[p]
        reach.append(before)
        data.append(sees)
    for i, k in enumerate(index):
        assert data[k] == truth.data[i], f"element {i} sees the wrong data: {program[i]}"
        assert reach[k] == truth.closure[i], f"element {i} has a wrong past: {program[i]}"
    return dag


def some(rng: random.Random, draw: Any, mode: int, most: int = 2) -> tuple[DataAccess, ...]:
    """Up to ``most`` random accesses."""
    return tuple(draw(rng, mode) for _ in range(rng.choice([0, *range(most + 1)])))


def random_program(rng: random.Random, n: int, draw: Any, inputs: bool = True) -> Program:
    """A random program of ``n`` elements; ``draw(rng, mode)`` makes an access."""
    program: Program = []
    for i in range(n):
        args: tuple[int, ...] = ()
        if inputs and i and rng.random() < 0.1:
            args = tuple({rng.randrange(i) for _ in range(2)})
        program.append((some(rng, draw, READ), some(rng, draw, WRITE), args))
    return program


def channel_draw(objects: list[Any], channels: int, whole: float, several: float = 0.1) -> Any:
    """Accesses of channels, with some of whole objects and some of several channels."""

    def draw(rng: random.Random, mode: int) -> DataAccess:
        obj = rng.choice(objects)
        if rng.random() < whole:
            return make_access(obj, (), mode, cwd)
        k = rng.randrange(2, 4) if rng.random() < several else 1
        return make_access(obj, tuple(rng.randrange(channels) for _ in range(k)), mode, cwd)

    return draw


def path_draw(names: int, depth: int) -> Any:
    """Accesses of paths of up to ``depth`` levels, also of their directories."""

    def draw(rng: random.Random, mode: int) -> DataAccess:
        length = min(rng.randrange(1, depth + 2), depth)
        parts = [f"n{rng.randrange(names)}" for _ in range(length)]
        if rng.random() < 0.02:
            return make_access("/", (), mode, cwd)
        return make_access("/" + "/".join(parts), (), mode, cwd)

    return draw


def cwd() -> str:
    """Where the tests pretend to be."""
    return "/home"


def flags(rules: CommunicationDomain) -> str:
    """A name for a domain."""
    return "+".join(f for f in ("rar", "raw", "war", "waw") if getattr(rules, f)) or "none"
