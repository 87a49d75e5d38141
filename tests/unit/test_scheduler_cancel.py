"""Cancelling elements and programs, whatever they are doing."""

from __future__ import annotations

from driven import ORDER, Driven, chain, columns, deals, elements, others
from test_scheduler_needs import submit

from alamo.core import events as ev
from alamo.core.states import CANCELLED, DONE, FAILED, PENDING, SKIPPED
from alamo.core.terms import Need, Terms


def waiting_program(driven: Driven, rows: list[list[int]]) -> None:
    """A program that is not dealt: no worker is up."""
    assert not driven.scheduler.pool.workers
    driven.program(0, rows)


def test_data_successors_are_skipped_and_order_successors_run() -> None:
    driven = Driven(1, up=0)
    waiting_program(driven, [[], [0], [1 | ORDER], [0 | ORDER]])
    assert driven(ev.CancelAsked(0, [0, 0, 99])) == [
        ev.ElementsCancelled(0, [0]),
        ev.ElementsSkipped(0, [1], [0]),
    ]
    assert driven.state(0) == [CANCELLED, SKIPPED, PENDING, PENDING]
    effects = driven(ev.WorkerReady(0))
    assert sorted(e for part in elements(effects) for e in part) == [2, 3]


def test_order_through_a_cancelled_element_holds() -> None:
    """2 comes after 1 in order alone, and 1 after 0: without 1 it still waits for 0."""
    driven = Driven(1, up=0)
    waiting_program(driven, [[], [0 | ORDER], [1 | ORDER]])
    assert driven(ev.CancelAsked(0, [1])) == [ev.ElementsCancelled(0, [1])]
    (deal,) = deals(driven(ev.WorkerReady(0)))
    assert list(deal.chunk.elements) == [0]
    (after,) = deals(driven.finish(deal))
    assert list(after.chunk.elements) == [2]
    assert driven.finish(after) == [ev.ProgramDone(0)]


def test_what_is_ready_is_never_dealt() -> None:
    driven = Driven(1, up=0)
    driven.program(0, 10)
    assert driven(ev.CancelAsked(0, [3, 0, 9])) == [ev.ElementsCancelled(0, [3, 0, 9])]
    effects, begun = driven(ev.WorkerReady(0)), []
    while deals(effects):
        begun += [e for part in elements(effects) for e in part]
        effects = [x for deal in deals(effects) for x in driven.finish(deal)]
    assert sorted(begun) == [1, 2, 4, 5, 6, 7, 8]


def test_all_ready_elements_cancelled_leave_nothing_in_the_queue() -> None:
    driven = Driven(1, up=0)
    submit(driven, 0, 4, Terms(Need(1, memory_bytes=1)), Terms(), numbers=[1, 2, 1, 2])
    driven(ev.CancelAsked(0, [1, 3]))
    assert not driven.scheduler.queues.plain
    driven(ev.CancelAsked(0, [0, 2]))
    assert not driven.scheduler.queues


def test_what_lies_at_a_worker_comes_back_and_is_cancelled() -> None:
    driven = Driven(1)
    driven.program(0, chain(4))
    assert driven(ev.CancelAsked(0, [2])) == [ev.Recall(0, all=True)]
    effects = driven(ev.TakenBack(0, 1))
    assert others(effects) == [ev.ElementsCancelled(0, [2])]
    assert driven.state(0)[2] == CANCELLED


def test_what_runs_is_stopped_once_nothing_behind_it_can_begin() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(4)))
    assert driven(ev.CancelAsked(0, [0])) == [ev.Recall(0, all=True)]
    assert driven(ev.TakenBack(0, 1)) == [ev.StopElement(0, 0)]
    assert driven(ev.WorkerResumed(0)) == []
    effects = driven(ev.ChunkFinished(0, deal.chunk.number, 1, (0,), 1.0))
    assert effects == [ev.ElementsSkipped(0, [1, 2, 3], [0, 0, 0]), ev.ProgramDone(0)]


def test_a_lone_running_element_is_stopped_when_there_is_nothing_to_take_back() -> None:
    driven = Driven(1)
    driven.program(0, 1)
    assert driven(ev.CancelAsked(0, [0])) == [ev.Recall(0, all=True)]
    assert driven(ev.WorkerResumed(0)) == [ev.StopElement(0, 0)]
    assert driven(ev.CancelAsked(0, [0])) == [ev.Recall(0, all=True)]
    assert driven(ev.WorkerResumed(0)) == [], "once is enough"


def test_a_worker_whose_rest_was_taken_back_before_is_stopped_at_once() -> None:
    """It waits, so what was behind is gone; it confirms only when its element has ended."""
    driven = Driven(1)
    driven.program(0, chain(4))
    driven(ev.WorkerBlocked(0), ev.TakenBack(0, 1))
    assert ev.StopElement(0, 0) in driven(ev.CancelAsked(0, [0]))


def test_one_that_succeeds_before_the_stop_is_done() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, [[], [0]]))
    driven(ev.CancelAsked(0, [0]), ev.TakenBack(0, 1))
    driven(ev.ChunkFinished(0, deal.chunk.number, 1, (), 1.0))
    assert driven.state(0)[0] == DONE
    assert elements(driven(ev.WorkerResumed(0))) == [[1]]


def test_what_has_ended_stays_as_it_is() -> None:
    driven = Driven(1)
    deal, *_ = deals(driven.program(0, [[], [], [0 | ORDER]]))
    driven(ev.ChunkFinished(0, deal.chunk.number, 1, (0,), 1e-6))
    assert driven(ev.CancelAsked(0, [0])) == []
    assert driven.state(0)[0] == FAILED
    assert driven(ev.CancelAsked(7, [0]), ev.CancelAsked(7)) == []


def test_one_that_was_cancelled_is_not_tried_again() -> None:
    driven = Driven(1)
    (deal,) = deals(submit(driven, 0, 1, Terms(retries=5)))
    driven(ev.CancelAsked(0, [0]))
    assert driven.scheduler.programs[0].retries_left(0) == 0
    effects = driven(ev.ChunkFinished(0, deal.chunk.number, 1, (0,), 1.0, again=(0,)))
    assert effects == [ev.ProgramDone(0)]


def test_one_that_waits_for_its_next_attempt_is_cancelled() -> None:
    driven = Driven(1)
    (deal,) = deals(submit(driven, 0, 1, Terms(retries=5, backoff_s=9.0)))
    driven(ev.ChunkFinished(0, deal.chunk.number, 1, (0,), 1.0, again=(0,)))
    assert driven(ev.CancelAsked(0, [0])) == [ev.ElementsCancelled(0, [0]), ev.ProgramDone(0)]
    driven.now_s = 10.0
    assert driven(ev.Woken()) == []


def test_a_program_is_cancelled_with_what_is_still_to_come() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0, growing=True), ev.PageAdded(0, 5), ev.ProgramStarted(0))
    effects = driven(ev.CancelAsked(0))
    assert ev.ElementsCancelled(0, [3, 4]) in effects or ev.ElementsCancelled(0, [4]) in effects
    assert driven(ev.PageAdded(0, 3), ev.CancelAsked(0)) == []
    effects = driven(ev.TakenBack(0, 1))
    assert isinstance(effects[0], ev.ElementsCancelled)
    assert ev.StopElement(0, 0) in effects
    assert driven(ev.WorkerLost(0, 0, running=True))[:2] == [
        ev.ElementLost(0, 0, 0),
        ev.ProgramDone(0),
    ]


def test_a_program_that_has_not_started_is_cancelled_and_over() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0, growing=True), ev.PageAdded(0, 3, joins=(1,)))
    assert driven(ev.CancelAsked(0)) == [ev.ElementsCancelled(0, [0, 2]), ev.ProgramDone(0)]
    assert driven(ev.PageAdded(0, 2), ev.ProgramStarted(0)) == []


def test_elements_cancelled_before_the_start_never_run() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0), ev.PageAdded(0, 6), ev.CancelAsked(0, [1, 2]))
    effects, begun = driven(ev.ProgramStarted(0)), []
    while deals(effects):
        begun += [e for part in elements(effects) for e in part]
        effects = [x for deal in deals(effects) for x in driven.finish(deal)]
    assert sorted(begun) == [0, 3, 4, 5]


def gated(driven: Driven) -> None:
    """Program 0: an element, an array of two behind it, and one that needs that."""
    driven(
        ev.ProgramOpened(0),
        ev.ProgramOpened(1, growing=True),
        ev.PageAdded(0, 3, *columns([[], [0], [1]]), gates=((1, 1),)),
        ev.ProgramStarted(0),
        ev.PageAdded(1, 2),
    )


def test_an_array_that_waits_is_cancelled_with_its_elements() -> None:
    driven = Driven(1)
    gated(driven)
    effects = driven(ev.CancelAsked(0, [1]))
    assert ev.ElementsCancelled(0, [1]) in effects
    assert ev.ElementsCancelled(1, [0, 1]) in effects
    assert ev.ProgramDone(1) in effects
    (deal,) = deals(driven.seen)
    assert ev.ElementsSkipped(0, [2], [1]) in driven.finish(deal)


def test_an_array_that_runs_ends_as_failed() -> None:
    driven = Driven(1)
    gated(driven)
    (deal,) = deals(driven.seen)
    (inner, *_) = deals(driven.finish(deal))
    assert inner.chunk.program.number == 1
    driven(ev.CancelAsked(0, [1]), ev.TakenBack(0, inner.chunk.seq + 1))
    effects = driven(ev.ChunkFinished(0, inner.chunk.number, 1, (), 1.0))
    assert ev.GateClosed(0, 1, 1, True) in effects
    assert ev.ElementsSkipped(0, [2], [1]) in effects


def test_cancelling_the_elements_of_an_array_fails_its_gate() -> None:
    driven = Driven(1)
    gated(driven)
    (deal,) = deals(driven.seen)
    driven(ev.CancelAsked(1))
    assert ev.GateClosed(0, 1, -1, True) in driven.finish(deal)


def test_a_program_that_is_dropped_still_has_what_was_cancelled_stopped() -> None:
    driven = Driven(1)
    driven.program(0, chain(3))
    driven(ev.CancelAsked(0, [0, 1]), ev.ProgramDropped(0))
    assert driven(ev.TakenBack(0, 1)) == [ev.StopElement(0, 0)]
    assert ev.ProgramDone(0) in driven(ev.WorkerLost(0, 0, running=True))
