"""Gates: elements of a program that stand for arrays, whose elements are programs of their own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from driven import ORDER, Driven, columns, deals, elements, others

from alamo.core import events as ev
from alamo.core.states import DEALT, DONE, FAILED, PENDING, SKIPPED

Rows = Sequence[Sequence[int]]


def compiled(driven: Driven, rows: Rows, gates: dict[int, int]) -> list[ev.Effect]:
    """Program 0, whose ``gates`` stand for the programs named, which have no elements yet."""
    effects = driven(ev.ProgramOpened(0))
    for inner in gates.values():
        effects += driven(ev.ProgramOpened(inner, growing=True))
    effects += driven(
        ev.PageAdded(0, len(rows), *columns(rows), (), tuple(gates.items())), ev.ProgramStarted(0)
    )
    return effects


def closed(element: int, inner: int, failed: bool = False) -> ev.GateClosed:
    return ev.GateClosed(0, element, inner, failed)


def test_an_array_begins_behind_its_gate_and_ends_with_it() -> None:
    driven = Driven(1)
    effects = compiled(driven, [[], [0], [1]], {1: 7})
    assert elements(effects) == [[0]]
    driven(ev.PageAdded(7, 2), ev.ProgramStarted(7))  # which only its gate may do
    assert driven.state(7) == [PENDING] * 2
    effects = driven.finish(deals(effects)[0])
    assert [(d.chunk.program.number, *d.chunk.elements) for d in deals(effects)] == [(7, 0), (7, 1)]
    assert driven.state(0) == [DONE, DEALT, PENDING]
    for deal in deals(effects):
        assert not others(driven.finish(deal))
    effects = driven(ev.ProgramSealed(7))
    assert others(effects) == [closed(1, 7), ev.ProgramDone(7)]
    assert elements(effects) == [[2]]
    assert others(driven.finish(deals(effects)[0])) == [ev.ProgramDone(0)]


def test_an_array_that_grows_while_it_runs_keeps_its_gate_open() -> None:
    driven = Driven(1)
    compiled(driven, [[]], {0: 7})
    for _ in range(3):
        for deal in deals(driven(ev.PageAdded(7, 1))):
            assert not others(driven.finish(deal))
        assert driven.state(0) == [DEALT]
        assert driven.scheduler.unfinished > 0
    assert others(driven(ev.ProgramSealed(7))) == [
        closed(0, 7),
        ev.ProgramDone(7),
        ev.ProgramDone(0),
    ]


def test_a_chain_of_thousands_of_empty_arrays() -> None:
    n = 3000
    driven = Driven(1)
    gates = {k: k + 1 for k in range(n)}
    driven(ev.ProgramOpened(0))
    for inner in gates.values():
        driven.scheduler.handle(ev.ProgramOpened(inner, growing=True), 0.0)
    rows = [[k - 1] if k else [] for k in range(n)]
    driven(ev.PageAdded(0, n, *columns(rows), (), tuple(gates.items())))
    for inner in gates.values():
        driven.scheduler.handle(ev.ProgramSealed(inner), 0.0)
    effects = driven(ev.ProgramStarted(0))
    assert [e.element for e in effects if isinstance(e, ev.GateClosed)] == list(range(n))
    assert effects[-1] == ev.ProgramDone(0)


@pytest.mark.parametrize("how", ["element", "seal", "drop", "worker"])
def test_an_array_that_failed_skips_what_needs_it(how: str) -> None:
    driven = Driven(1)
    compiled(driven, [[], [0], [ORDER]], {0: 7, 1: 8})
    deal = deals(driven(ev.PageAdded(7, 1), ev.PageAdded(8, 5)))[0]
    if how == "worker":
        effects = driven(ev.WorkerLost(0, 0, True), ev.ProgramSealed(7))
    elif how == "drop":
        effects = driven(ev.ProgramDropped(7)) + driven.finish(deal)
    else:
        effects = driven.finish(deal, *([0] if how == "element" else []))
        effects += driven(ev.ProgramSealed(7, failed=how == "seal"))
    assert closed(0, 7, True) in effects
    assert ev.ElementsSkipped(0, [1], [0]) in effects
    assert ev.ProgramDone(8) in effects, "what is behind a skipped gate never runs"
    assert not any(isinstance(e, ev.GateClosed) and e.element == 1 for e in effects)
    assert driven.state(0)[:2] == [FAILED, SKIPPED]
    assert driven.state(0)[2] in (PENDING, DEALT)
    assert not others(driven(ev.PageAdded(8, 1), ev.ProgramSealed(8)))


def test_a_gate_whose_array_is_gone_before_it_opens_has_failed() -> None:
    driven = Driven(1)
    effects = compiled(driven, [[], [0], [1]], {1: 7})
    assert others(driven(ev.ProgramDropped(7))) == [ev.ProgramDone(7)]
    effects = driven.finish(deals(effects)[0])
    assert others(effects) == [
        closed(1, -1, True),
        ev.ElementsSkipped(0, [2], [1]),
        ev.ProgramDone(0),
    ]


@pytest.mark.parametrize("started", [False, True])
def test_a_program_that_is_dropped_takes_its_arrays_along(started: bool) -> None:
    driven = Driven(2)
    driven(
        ev.ProgramOpened(0), ev.ProgramOpened(7, growing=True), ev.ProgramOpened(8, growing=True)
    )
    driven(ev.PageAdded(0, 2, *columns([[], [0]]), (), ((0, 7), (1, 8))), ev.PageAdded(7, 3))
    running = deals(driven(ev.ProgramStarted(0))) if started else []
    effects = driven(ev.ProgramDropped(0))
    for deal in running:
        effects += driven(ev.TakenBack(deal.worker, 1), ev.WorkerResumed(deal.worker))
        effects += driven(ev.ChunkFinished(deal.worker, deal.chunk.number, 1))
    done = [e.program for e in effects if isinstance(e, ev.ProgramDone)]
    assert sorted(done) == [0, 7, 8]
    assert not driven.scheduler.programs


def test_no_chunk_reaches_over_a_gate() -> None:
    """A chain through a gate is fused up to it, and again behind it."""
    driven = Driven(1)
    rows = [[k - 1] if k else [] for k in range(9)]
    effects = compiled(driven, rows, {4: 7})
    driven.measure(1e-6)
    seen = []
    driven(ev.PageAdded(7, 1), ev.ProgramSealed(7))
    while deals(effects):
        deal = deals(effects)[0]
        seen += [(deal.chunk.program.number, e) for e in deal.chunk.elements]
        effects = driven.finish(deal)
    assert seen == [*((0, k) for k in range(4)), (7, 0), *((0, k) for k in range(5, 9))]
