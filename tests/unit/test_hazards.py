"""Hazard inference, case by case: the ones that broke elsewhere and the ones easy to get wrong.

Random programs are held against a brute-force oracle in ``test_hazard_properties.py``.
"""

from __future__ import annotations

import gc
import random
import weakref
from array import array
from itertools import product
from typing import Any

import pytest
from hazard_oracle import STANDARD, Program, channel_draw, compare, cwd, infer, random_program

from alamo.core.access import (
    READ,
    WRITE,
    CommunicationDomain,
    CommunicationObject,
    make_access,
)
from alamo.core.edges import WAW, Page
from alamo.core.hazards import HazardTracker
from alamo.errors import GraphError


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


@pytest.mark.parametrize(
    "names",
    [
        [("/r",), ("/r/a", "x")],
        [("/r/a", "x"), ("/r",)],
        [("/r/a",), ("/r/a/b/c",), ("/r",)],
        [(1,), (1, 7)],
        [(1, 7), (1,)],
    ],
)
def test_one_element_on_a_region_and_below_it(names: list[tuple[Any, ...]]) -> None:
    """One task that accesses a directory and a file in it, in either order, is no special case."""
    everything = [*names, ("/r/a",), ("/r/a/b",), ("/r/z",), (1, 8), (1,)]
    for first, second in product((READ, WRITE), repeat=2):
        reads = tuple(make_access(n[0], n[1:], READ, cwd) for n in names)
        writes = tuple(make_access(n[0], n[1:], WRITE, cwd) for n in names)
        program: Program = [(reads, (), ()) if first == READ else ((), writes, ())]
        for n in everything:
            one = (make_access(n[0], n[1:], second, cwd),)
            compare([*program, (one, (), ()) if second == READ else ((), one, ())])
        compare(
            [*program, *program, ((), writes, ()), (reads, (), ()), (reads, writes, ()), *program]
        )


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
        (("x", "y"), ("/home/x", "y"), True),
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
    assert array("I", tracker.drain().preds).tolist() == [i | WAW for i in range(98)]


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
    assert array("I", page.preds).tolist() == [1_000_000_002 | WAW]


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
