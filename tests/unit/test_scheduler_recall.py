"""Dealt work is taken back from a busy worker for an idle one."""

from __future__ import annotations

from driven import Driven, chain, deals, elements, others

from alamo.core import events as ev
from alamo.core.dealing import RECALL_AGE_S
from alamo.core.states import DONE, PENDING


def test_an_idle_worker_has_half_taken_back_from_the_busiest() -> None:
    driven = Driven(3)
    effects = driven.program(0, [*chain(8), []], ranks=[*range(9, 1, -1), 1])
    held = {deal.worker: deal for deal in deals(effects)}
    assert others(effects) == [ev.WakeAt(RECALL_AGE_S)]
    driven.now_s = RECALL_AGE_S
    busiest = next(w for w, deal in held.items() if len(deal.chunk.elements) == 8)
    assert driven(ev.Woken()) == [ev.Recall(busiest, all=False)]


def test_a_recall_waits_until_the_chunk_is_old() -> None:
    driven = Driven(2, up=1)
    driven.now_s = 10.0
    driven.program(0, chain(6))
    assert driven(ev.WorkerReady(1)) == [ev.WakeAt(10.0 + RECALL_AGE_S)]
    driven.now_s += RECALL_AGE_S / 2
    assert driven(ev.ProgramOpened(1)) == [], "the time has been asked for already"
    driven.now_s = 10.0 + RECALL_AGE_S
    assert driven(ev.Woken()) == [ev.Recall(0, all=False)]
    assert driven(ev.Woken()) == [], "it is under way"


def test_taken_back_elements_run_elsewhere_and_each_once() -> None:
    driven = Driven(2, up=1)
    (deal,) = deals(driven.program(0, [[], *[[0]] * 7]))
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(1)) == [ev.Recall(0)]
    driven(ev.ChunkFinished(0, deal.chunk.number, 1, (), 1e-6))
    again = deals(driven(ev.TakenBack(0, 4)))
    assert {d.worker for d in again} == {1}
    assert sorted(e for part in elements(again) for e in part) == [4, 5, 6, 7]
    assert list(deal.chunk.elements) == [0, 1, 2, 3]
    driven(ev.WorkerResumed(0))
    assert deals(driven(ev.ChunkFinished(0, deal.chunk.number, 4, (), 1e-6))) == []
    assert [driven.finish(d) for d in again][-1] == [ev.ProgramDone(0)]


def test_work_may_be_taken_back_twice_the_second_time_more() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(8)))
    driven(ev.TakenBack(0, 6))
    assert driven.state(0).count(PENDING) == 2
    driven(ev.TakenBack(0, 3))
    assert driven.state(0).count(PENDING) == 5
    driven(ev.TakenBack(0, 6))
    (rest,) = deals(driven.finish(deal))
    assert list(rest.chunk.elements) == [3, 4, 5, 6, 7]


def test_a_second_chunk_behind_the_cut_is_taken_back_whole() -> None:
    driven = Driven(1)
    first, second = deals(driven.program(0, 100))
    assert driven(ev.WorkerBlocked(0))[0] == ev.Recall(0, all=True)
    driven(ev.TakenBack(0, 5), ev.WorkerUnblocked(0))
    (third,) = deals(driven(ev.WorkerResumed(0)))
    assert len(first.chunk.elements) == 5
    assert third.chunk.number != second.chunk.number
    assert third.chunk.elements[0] == 5, "the oldest come first again"
    assert third.chunk.seq == 32, "numbers are not used twice"


def test_a_report_of_what_was_taken_back_whole_is_dropped() -> None:
    driven = Driven(1)
    _, second = deals(driven.program(0, 100))
    driven(ev.TakenBack(0, 5))
    before = driven.state(0)
    driven.finish(second)
    assert driven.state(0) == before


def test_taking_back_never_touches_what_was_reported() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(8)))
    driven(ev.ChunkFinished(0, deal.chunk.number, 4, (), 1e-6))
    driven(ev.TakenBack(0, 2))
    assert driven.state(0)[:4] == [DONE] * 4
    assert driven.scheduler.unfinished == 4


def test_nothing_is_dealt_between_recall_and_confirmation() -> None:
    driven = Driven(2, up=1)
    driven.program(0, chain(8))
    driven.now_s = 1.0
    driven(ev.WorkerReady(1))
    effects = driven.program(1, 1000)
    assert {deal.worker for deal in deals(effects)} == {1}
    assert {deal.worker for deal in deals(driven(ev.WorkerResumed(0)))} == {0}


def test_a_worker_that_has_begun_all_is_not_asked_again_and_again() -> None:
    """Else a long element whose neighbours are not reported yet makes a busy loop."""
    driven = Driven(2, up=1)
    driven.program(0, chain(8))
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(1)) == [ev.Recall(0)]
    assert driven(ev.WorkerResumed(0)) == []
    assert driven(ev.Woken()) == []


def test_the_busiest_is_asked_whose_share_is_largest() -> None:
    driven = Driven(3, up=2)
    rows = [[], [], *[[0]] * 3, *[[1]] * 7]
    held = {len(d.chunk.elements): d.worker for d in deals(driven.program(0, rows, ranks=[2, 2]))}
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(2)) == [ev.Recall(held[8])]


def test_while_one_is_asked_another_idle_worker_has_the_next_busiest_asked() -> None:
    driven = Driven(4, up=2)
    driven.program(0, [[], [], *[[0]] * 3, *[[1]] * 7], ranks=[2] * 2 + [1] * 10)
    driven.now_s = 1.0
    asked = driven(ev.WorkerReady(2)) + driven(ev.WorkerReady(3))
    assert sorted(e.worker for e in asked if isinstance(e, ev.Recall)) == [0, 1]


def test_a_worker_that_had_begun_all_is_asked_again_once_it_is_dealt_more() -> None:
    driven = Driven(2, up=1)
    (deal,) = deals(driven.program(0, chain(8)))
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(1)) == [ev.Recall(0)]
    driven(ev.WorkerResumed(0), ev.WorkerLost(1))
    driven.finish(deal)
    (again,) = deals(driven.program(1, chain(8)))
    assert again.worker == 0
    driven.now_s = 2.0
    assert driven(ev.WorkerReady(2)) == [ev.Recall(0)]


def test_a_wake_up_is_asked_for_again_after_the_last_has_come() -> None:
    driven = Driven(2)
    (deal,) = deals(driven.program(0, chain(8)))
    driven.finish(deal)
    driven.now_s = RECALL_AGE_S
    assert driven(ev.Woken()) == []
    assert others(driven.program(1, chain(8))) == [ev.WakeAt(2 * RECALL_AGE_S)]
