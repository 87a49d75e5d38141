"""Hazard inference against a brute-force reading of its definition, and its count of edges."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from hazard_oracle import (
    ALL_DOMAINS,
    Element,
    Program,
    channel_draw,
    compare,
    cwd,
    flags,
    infer,
    path_draw,
    random_program,
    split,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from alamo.core import domains, summary
from alamo.core.access import (
    READ,
    WRITE,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    make_access,
)
from alamo.core.edges import ORDER_ONLY, WAW


@pytest.fixture(params=["as shipped", "joins everywhere"])
def joins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run also with joins from two edges on and binary summaries."""
    if request.param == "joins everywhere":
        monkeypatch.setattr(domains, "JOIN_EDGES_MIN", 2)
        monkeypatch.setattr(summary, "JOIN_EDGES_MIN", 2)
        monkeypatch.setattr(summary, "_FANOUT_BITS", 1)
        monkeypatch.setattr(summary, "_FANOUT", 2)


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


access_strategy = st.tuples(st.sampled_from(["d", "o", "f"]), st.integers(0, 3), st.integers(0, 2))


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
        expected = {p: p for p in data}
        for a in split(writes):
            for p in since.get(a.channel, []):
                if p != i:
                    expected.setdefault(p, p | ORDER_ONLY)
            if not since.get(a.channel) and a.channel in last:
                expected.setdefault(last[a.channel], last[a.channel] | WAW)
        for a in split(writes):
            last[a.channel] = i
            since[a.channel] = []
        assert set(dag.entries(i)) == set(expected.values())


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
