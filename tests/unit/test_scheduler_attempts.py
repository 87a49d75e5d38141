"""Elements that fail and are tried again, and elements that are stopped."""

from __future__ import annotations

import pytest
from driven import ORDER, Driven, chain, deals, elements, others
from test_scheduler_needs import submit

from alamo.core import events as ev
from alamo.core.attempts import backoff_s
from alamo.core.program import Program
from alamo.core.states import DEALT, DONE, FAILED, PENDING
from alamo.core.terms import Terms

TWICE = Terms(retries=2)


def fail(driven: Driven, deal: ev.Deal, position: int, again: bool = True) -> list[ev.Effect]:
    """The element there fails, and those before it have ended."""
    worker, chunk = deal.worker, deal.chunk
    tried = (position,) if again else ()
    return driven(
        ev.ChunkFinished(worker, chunk.number, position + 1, (position,), 1e-3, again=tried)
    )


def test_an_element_that_failed_is_dealt_again_as_often_as_it_may() -> None:
    driven = Driven(1)
    effects = submit(driven, 0, [[], [0]], TWICE)
    program = driven.scheduler.programs[0]
    for left in (2, 1):
        (deal,) = deals(effects)
        assert list(deal.chunk.elements) == [0, 1]
        assert program.retries_left(0) == left
        assert deals(fail(driven, deal, 0)) == [], "it stops and says so"
        effects = driven(ev.TakenBack(0, deal.chunk.seq + 1), ev.WorkerResumed(0))
    assert program.retries_left(0) == 0
    (deal,) = deals(effects)
    assert driven.finish(deal) == [ev.ProgramDone(0)]


def test_dependants_of_one_that_fails_for_good_are_skipped() -> None:
    driven = Driven(1)
    (deal,) = deals(submit(driven, 0, [[], [0]], Terms(retries=1)))
    fail(driven, deal, 0)
    (deal,) = deals(driven(ev.TakenBack(0, 1), ev.WorkerResumed(0)))
    effects = fail(driven, deal, 0)
    assert ev.ElementsSkipped(0, [1], [0]) in effects, "there was no retry left to be used"
    assert ev.ProgramDone(0) in effects


def test_the_others_of_a_chunk_end_and_it_alone_comes_again() -> None:
    driven = Driven(1)
    driven(
        ev.ProgramOpened(0),
        ev.TermsDefined(0, 1, TWICE),
        ev.PageAdded(0, 4, terms=1),
        ev.ProgramStarted(0),
    )
    first, second = deals(driven.seen)
    assert [list(d.chunk.elements) for d in (first, second)] == [[0, 1], [2]]
    (again,) = deals(driven(ev.ChunkFinished(0, first.chunk.number, 2, (0,), 1e-6, again=(0,))))
    assert 0 in again.chunk.elements
    assert driven.state(0)[:2] == [DEALT, DONE]


def test_a_lost_worker_s_element_may_come_again() -> None:
    driven = Driven(2)
    deal, *_ = deals(submit(driven, 0, [[], [0 | ORDER]], TWICE))
    effects = driven(ev.WorkerLost(deal.worker, 0, running=True, again=True))
    assert effects[0] == ev.ElementLost(0, 0, deal.worker, again=True)
    assert elements(effects) == [[0, 1]]


def test_the_next_attempt_waits_for_its_backoff() -> None:
    driven = Driven(1)
    (deal,) = deals(submit(driven, 0, [[], [0 | ORDER]], Terms(retries=3, backoff_s=10.0)))
    assert others(fail(driven, deal, 0)) == [ev.WakeAt(10.0)]
    assert driven(ev.TakenBack(0, 1), ev.WorkerResumed(0)) == []
    assert driven.state(0) == [PENDING, PENDING]
    assert driven.scheduler.unfinished == 2
    driven.now_s = 9.0
    assert driven(ev.Woken()) == [ev.WakeAt(10.0)], "too early"
    driven.now_s = 10.0
    (deal,) = deals(driven(ev.Woken()))
    assert others(fail(driven, deal, 0)) == [ev.WakeAt(30.0)], "twice as long"


def test_backoff_is_the_same_in_each_run_and_differs_among_elements() -> None:
    program = Program(3, 0, 0)
    program.define_terms(1, Terms(retries=9, backoff_s=1.0, factor=3.0, jitter=0.25))
    program.add_page(100, b"", b"", terms=1)
    waits = [backoff_s(program, e) for e in range(100)]
    assert waits == [backoff_s(program, e) for e in range(100)]
    assert len(set(waits)) == 100
    assert all(0.75 <= wait <= 1.25 for wait in waits)
    assert min(waits) < 0.85 < 1.15 < max(waits)
    program.attempts[0] = 2
    assert 9 * 0.75 <= backoff_s(program, 0) <= 9 * 1.25
    program.attempts[0] = 100_000
    assert backoff_s(program, 0) < 4e9


def test_a_dropped_program_tries_nothing_again() -> None:
    driven = Driven(1)
    (deal,) = deals(submit(driven, 0, 1, Terms(retries=3, backoff_s=10.0)))
    fail(driven, deal, 0)
    assert driven(ev.ProgramDropped(0)) == [ev.ProgramDone(0)]
    driven.now_s = 11.0
    assert driven(ev.Woken()) == []


# -- stops ---------------------------------------------------------------------------------


def test_an_element_with_nothing_behind_it_is_stopped_at_once() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, 1))
    assert driven(ev.StopAsked(0, 0)) == [ev.StopElement(0, 0)]
    assert driven(ev.StopAsked(0, 0)) == [], "once is enough"
    assert deals(driven.program(1, 1)) == [], "nothing may lie behind it"
    (other,) = deals(driven.finish(deal, 0))
    assert other.chunk.program.number == 1
    assert driven.state(1) == [DEALT]


def test_what_lies_behind_is_taken_back_before_an_element_is_stopped() -> None:
    driven = Driven(1)
    first, _ = deals(driven.program(0, 100))
    driven(ev.ChunkFinished(0, first.chunk.number, 2, (), 1e-6))
    assert driven(ev.StopAsked(0, 2)) == [ev.Recall(0, all=True)]
    assert driven(ev.TakenBack(0, 3)) == [ev.StopElement(0, 2)]
    assert driven(ev.WorkerResumed(0)) == [], "it is still in there"
    assert deals(driven(ev.ChunkFinished(0, first.chunk.number, 3, (2,), 1.0))) != []
    assert driven.state(0)[:4] == [DONE, DONE, FAILED, DEALT]


def test_one_that_ends_before_the_recall_is_not_stopped() -> None:
    driven = Driven(1)
    first, _ = deals(driven.program(0, 100))
    driven(ev.StopAsked(0, 0))
    assert driven(ev.TakenBack(0, 2)) == [], "the second has begun"
    driven(ev.ChunkFinished(0, first.chunk.number, 1, (), 1e-6))
    assert deals(driven(ev.WorkerResumed(0))) != []


def test_one_that_is_lost_when_it_is_stopped_has_failed_alone() -> None:
    driven = Driven(1)
    driven.program(0, chain(3))
    driven(ev.StopAsked(0, 0), ev.TakenBack(0, 1))
    effects = driven(ev.WorkerLost(0, 0, running=True))
    assert effects[:2] == [ev.ElementLost(0, 0, 0), ev.ElementsSkipped(0, [1, 2], [0, 0])]


@pytest.mark.parametrize("seq", [1, 7])
def test_stops_of_what_is_not_there_are_dropped(seq: int) -> None:
    driven = Driven(1)
    driven.program(0, 1)
    assert driven(ev.StopAsked(0, seq), ev.StopAsked(9, 0)) == []


def test_a_worker_that_waits_can_be_stopped() -> None:
    driven = Driven(1)
    driven.program(0, 1)
    driven(ev.WorkerBlocked(0))
    assert driven(ev.StopAsked(0, 0)) == [ev.StopElement(0, 0)]
    driven(ev.WorkerLost(0, 0, running=True))
    assert driven.scheduler.pool.blocked == 0
