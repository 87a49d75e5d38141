"""Hazard inference against a brute-force reading of its definition.

The oracle knows no nearest edges, joins or regions: it compares all pairs of elements, and it
plays the program on versions of every cell to learn whose data a read sees.
"""

from __future__ import annotations

import gc
import random
import weakref
from array import array
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alamo.core import domains, summary
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
from alamo.core.graph import Dag
from alamo.core.hazards import ORDER_ONLY, HazardTracker, Page
from alamo.errors import GraphError

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
    name = obj if isinstance(obj, CommunicationObject) else id(obj)
    return ((name,) if access.channel is WHOLE else (name, access.channel)), rules


def split(accesses: tuple[DataAccess, ...]) -> list[DataAccess]:
    """One access a channel."""
    return [
        DataAccess(a.obj, c, a.mode) for a in accesses for c in (a.channels or (WHOLE,))
    ]


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
                        version[c]
                        for c in cells
                        if c[: len(region)] == region and c in version
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
            p = e & ~ORDER_ONLY
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
    return "/work"


@pytest.fixture(params=["as shipped", "joins everywhere"])
def joins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run also with joins from two edges on and binary summaries."""
    if request.param == "joins everywhere":
        monkeypatch.setattr(domains, "JOIN_EDGES_MIN", 2)
        monkeypatch.setattr(summary, "JOIN_EDGES_MIN", 2)
        monkeypatch.setattr(summary, "_FANOUT_BITS", 1)
        monkeypatch.setattr(summary, "_FANOUT", 2)


def flags(rules: CommunicationDomain) -> str:
    """A name for a domain."""
    return "+".join(f for f in ("rar", "raw", "war", "waw") if getattr(rules, f)) or "none"


# -- properties --


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_with_channels(seed: int, joins: None) -> None:
    """Channels and whole objects: exactly the order and the data of the definition."""
    rng = random.Random(seed)
    objects: list[Any] = [[], {}, 5]
    for whole, channels in ((0.0, 4), (0.05, 30), (0.3, 5), (0.6, 40)):
        compare(random_program(rng, 90, channel_draw(objects[: 1 + seed % 3], channels, whole)))


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_with_paths(seed: int, joins: None) -> None:
    """Nested directories: a path stands for all below it."""
    rng = random.Random(seed)
    for names, depth in ((2, 3), (3, 2), (4, 4), (40, 1)):
        compare(random_program(rng, 80, path_draw(names, depth)))


@pytest.mark.parametrize("rules", ALL_DOMAINS, ids=flags)
def test_random_programs_in_domains(rules: CommunicationDomain, joins: None) -> None:
    """Each of the 16 flag sets orders what it says and nothing else."""
    rng = random.Random(1)
    for seed, whole in product(range(2), (0.05, 0.4)):
        objects = [CommunicationObject(rules, "host"), {}][: 1 + seed]
        compare(random_program(rng, 60, channel_draw(objects, 3 + 20 * seed, whole)))


@pytest.mark.parametrize("shape", ["rounds", "interleaved", "readers", "rewrites", "mixed"])
def test_whole_and_channel_patterns(shape: str, joins: None) -> None:
    """The patterns that joins are for, checked in full at a small size."""
    compare(adversary(shape, 40, {}))


access_strategy = st.tuples(
    st.sampled_from(["d", "o", "f"]), st.integers(0, 3), st.integers(0, 2)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(access_strategy, max_size=3), st.lists(access_strategy, max_size=2)),
        max_size=14,
    ),
    st.sampled_from(ALL_DOMAINS),
)
def test_small_programs(shape: list[Any], rules: CommunicationDomain) -> None:
    """Hypothesis looks for the smallest program that breaks the definition."""
    d: dict[int, int] = {}
    obj = CommunicationObject(rules, 7)

    def access(spec: tuple[str, int, int], mode: int) -> DataAccess:
        kind, a, b = spec
        if kind == "f":
            return make_access("/r", ("a/b/c"[: 2 * a + 1] + "x" * b,)[: a + b], mode, cwd)
        return make_access(d if kind == "d" else obj, (a,) if b else (), mode, cwd)

    compare(
        [
            (tuple(access(s, READ) for s in reads), tuple(access(s, WRITE) for s in writes), ())
            for reads, writes in shape
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_only_nearest_edges_between_channels(seed: int) -> None:
    """Without whole accesses the edges are exactly last write and reads since."""
    rng = random.Random(seed)
    program = random_program(rng, 200, channel_draw([{}], 6, 0.0), inputs=False)
    dag, _ = infer(program)
    last: dict[Any, int] = {}
    since: dict[Any, list[int]] = {}
    for i, (reads, writes, _) in enumerate(program):
        data = {last[a.channel] for a in split(reads) if a.channel in last}
        for a in split(reads):
            since.setdefault(a.channel, []).append(i)
        order: set[int] = set()
        for a in split(writes):
            before = since.get(a.channel) or [last[c] for c in (a.channel,) if c in last]
            order |= set(before) - {i} - data
        for a in split(writes):
            last[a.channel] = i
            since[a.channel] = []
        assert set(dag.entries(i)) == data | {p | ORDER_ONLY for p in order}


# -- edges stay linear --


def adversary(shape: str, n: int, obj: Any) -> Program:
    """A program of about 3 n elements whose naive graph has n * n edges."""

    def r(*c: Any) -> Element:
        return ((make_access(obj, c, READ, cwd),), (), ())

    def w(*c: Any) -> Element:
        return ((), (make_access(obj, c, WRITE, cwd),), ())

    if shape == "rounds":  # many writes, many whole reads, many writes again
        return [w(i) for i in range(n)] + [r()] * n + [w(i) for i in range(n)] + [r(), w()]
    if shape == "interleaved":  # a monitor after each new channel
        return [e for i in range(n) for e in (w(i), r())] + [w()]
    if shape == "readers":  # whole reads between rewrites of one and of all channels
        return [e for i in range(n) for e in (r(), w(i % 3), w(i))]
    if shape == "rewrites":  # one of many channels changes, then everything is read
        rng = random.Random(3)
        return [w(i) for i in range(n)] + [e for _ in range(n) for e in (w(rng.randrange(n)), r())]
    return [e for i in range(n) for e in (w(i), r(), r(i), *([w()] if i % 50 == 49 else []))]


@pytest.mark.parametrize("shape", ["rounds", "interleaved", "readers", "rewrites", "mixed"])
@pytest.mark.parametrize("rules", [None, "rar", "no waw", "no raw", "no war"])
def test_edges_stay_linear(shape: str, rules: str | None) -> None:
    """No mix of whole and channel accesses makes edges in the square of the program."""
    domain = {
        "rar": CommunicationDomain(rar=True),
        "no waw": CommunicationDomain(waw=False),
        "no raw": CommunicationDomain(raw=False),
        "no war": CommunicationDomain(war=False),
    }
    obj: Any = CommunicationObject(domain[rules], 1) if rules else {}
    program = adversary(shape, 1000, obj)
    dag, _ = infer(program)
    assert len(dag.preds) < 40 * len(program)
    assert len(dag) < 4 * len(program)


def test_a_write_of_a_directory_read_by_many() -> None:
    """Directories: a thousand listings and a thousand new files stay linear."""
    listing = ((make_access("/d", (), READ, cwd),), (), ())
    files = [((), (make_access(f"/d/{i % 3}/f{i}", (), WRITE, cwd),), ()) for i in range(1000)]
    dag, _ = infer([e for f in files for e in (f, listing)])
    assert len(dag.preds) < 80_000


# -- single cases --


def edges_of(*elements: tuple[str, str]) -> list[tuple[int, int, str]]:
    """Edges with their kinds; an element is (channels read, channels written)."""
    obj: dict[str, int] = {}
    dag, _ = infer(
        [
            (
                tuple(make_access(obj, (c,), READ, cwd) for c in reads),
                tuple(make_access(obj, (c,), WRITE, cwd) for c in writes),
                (),
            )
            for reads, writes in elements
        ]
    )
    return [(p, i, dag.kind(p, i)) for p, i in dag.edges()]


def test_a_read_at_the_start_is_recorded() -> None:
    """[read A, write A] gives the WAR edge that the predecessor lost."""
    assert edges_of(("A", ""), ("", "A")) == [(0, 1, "order")]


def test_a_read_depends_on_the_last_write() -> None:
    """[write, write, read, read]: both reads depend on the second write, by data."""
    found = edges_of(("", "A"), ("", "A"), ("A", ""), ("A", ""))
    assert found == [(0, 1, "order"), (1, 2, "data"), (1, 3, "data")]


def test_read_and_write_of_one_datum() -> None:
    """An update depends on the one before, by data, and not on itself."""
    assert edges_of(("A", "A"), ("A", "A"), ("A", "A")) == [(0, 1, "data"), (1, 2, "data")]


def test_data_wins_over_order() -> None:
    """Two hazards between the same elements are one edge, and data if any is."""
    assert edges_of(("B", "A"), ("A", "B")) == [(0, 1, "data")]


def test_a_whole_read_sees_every_writer() -> None:
    """Whole write A, channel write B, whole read C: C has data of both."""
    d: dict[int, int] = {}
    whole_w, whole_r = make_access(d, (), WRITE, cwd), make_access(d, (), READ, cwd)
    dag, _ = infer(
        [((), (whole_w,), ()), ((), (make_access(d, (1,), WRITE, cwd),), ()), ((whole_r,), (), ())]
    )
    assert [(p, i, dag.kind(p, i)) for p, i in dag.edges()] == [
        (0, 1, "order"),
        (0, 2, "data"),
        (1, 2, "data"),
    ]


def test_argument_edges() -> None:
    """An argument is a data edge, once, whatever the accesses say besides."""
    d: dict[int, int] = {}
    read, write = make_access(d, (1,), READ, cwd), make_access(d, (1,), WRITE, cwd)
    dag, _ = infer([((read,), (), ()), ((), (), (0,)), ((), (write,), (0, 1))])
    assert [(p, i, dag.kind(p, i)) for p, i in dag.edges()] == [
        (0, 1, "data"),
        (0, 2, "data"),
        (1, 2, "data"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("/a", "b/c"), ("/a/b", "c"), True),
        (("x", "y"), ("/work/x", "y"), True),
        (("/a/./b/../c",), ("/a", "c"), True),
        (("/a",), ("/a/b/c",), True),
        (("/a/b",), ("/a/bc",), False),
        (("//a",), ("/a",), True),
    ],
)
def test_equal_paths_are_equal_data(one: Any, other: Any, same: bool) -> None:
    """Paths compare by absolute normal form, whichever way base and name are split."""
    program: Program = [
        ((), (make_access(one[0], one[1:], WRITE, cwd),), ()),
        ((make_access(other[0], other[1:], READ, cwd),), (), ()),
    ]
    assert infer(program)[0].edges() == ([(0, 1)] if same else [])


def test_objects_by_equality_or_identity() -> None:
    """Hashable objects compare by equality, others by identity, ours by their datum."""

    class Handle:
        __hash__ = None  # type: ignore[assignment]

        def __init__(self, number: int) -> None:
            self.number = number

        def __alamo_datum__(self) -> tuple[str, int]:
            return ("handle", self.number)

    def edges(a: Any, b: Any) -> list[tuple[int, int]]:
        w, r = make_access(a, (1,), WRITE, cwd), make_access(b, (1,), READ, cwd)
        return infer([((), (w,), ()), ((r,), (), ())])[0].edges()

    assert edges((1, 2), (1, 2)) == [(0, 1)]
    assert edges([1], [1]) == []
    assert edges(Handle(1), Handle(1)) == [(0, 1)]
    assert edges(Handle(1), Handle(2)) == []
    assert edges(Handle(1), ("handle", 1)) == []
    rules = CommunicationDomain(rar=True)
    assert edges(CommunicationObject(rules, 1), CommunicationObject(rules, 1)) == [(0, 1)]
    assert edges(CommunicationObject(rules, 1), CommunicationObject(STANDARD, 1)) == []


def test_unhashable_channel() -> None:
    """A channel without a hash is an error that shows the access."""
    tracker = HazardTracker()
    for channels in (([1],), (1, [2]), ((1, [2]),)):
        with pytest.raises(GraphError, match=r"hashable.*list|hashable.*tuple"):
            tracker.add((make_access({}, channels, READ, cwd),), ())


def test_many_short_lived_equal_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes a new equal object for each access is ordered and bounded."""
    monkeypatch.setattr("alamo.core.regions._KNOWN_OBJECTS_MAX", 10)
    tracker = HazardTracker()
    for i in range(100):
        access = make_access((1, int(f"{i % 2}00")), ("x",), WRITE, cwd)
        tracker.add((), (access,))
    assert array("I", tracker.drain().preds).tolist() == [i | ORDER_ONLY for i in range(98)]


def test_plain_elements_cost_no_columns() -> None:
    """Plain elements only move the counter, and their pages have no columns."""
    tracker = HazardTracker()
    assert tracker.add_plain(1_000_000_000) == 0
    assert tracker.drain() == Page(0, 1_000_000_000, b"", b"", [])
    assert tracker.add_plain(2) == 1_000_000_000
    access = make_access({}, (1,), WRITE, cwd)
    tracker.add((), (access,))
    tracker.add((), (access,))
    tracker.add_plain(3)
    page = tracker.drain()
    assert page.first == 1_000_000_000
    assert array("I", page.pred_ends).tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert array("I", page.preds).tolist() == [1_000_000_002 | ORDER_ONLY]


def test_a_tracker_goes_without_the_garbage_collector() -> None:
    """No reference cycle keeps a finished program's columns, or the user's objects, alive."""

    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    tracker = HazardTracker()
    odd = CommunicationObject(CommunicationDomain(rar=True), thing)
    gc.disable()
    try:
        for obj in (thing, odd, "/a"):
            for channels in (("x",), ("y/z", "w"), (), ("x",)):
                read = make_access(obj, channels, READ, cwd)
                tracker.add((read, read), (make_access(obj, channels, WRITE, cwd),))
        del obj, odd, thing, read
        assert gone() is not None
        del tracker
        assert gone() is None
    finally:
        gc.enable()


def test_same_program_same_graph() -> None:
    """Equal programs give equal columns, whatever the hash seed of their names."""

    def once(page: int) -> tuple[bytes, bytes]:
        rng = random.Random(5)
        dag, _ = infer(random_program(rng, 300, channel_draw([{}, {}], 20, 0.2)), page)
        return dag.pred_ends.tobytes(), dag.preds.tobytes()

    assert once(7) == once(1000)
