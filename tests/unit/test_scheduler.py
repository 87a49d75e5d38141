"""The scheduler's rules, one by one: what is dealt, in which order, to whom; what ends a program.

`tests/simulator` holds that all the rules hold together.
"""

from __future__ import annotations

import time

import pytest
from driven import Driven, chain, columns, deals, elements

from alamo.core import chunks, workers
from alamo.core import events as ev
from alamo.core.program import Program
from alamo.core.states import DONE, FAILED

# -- chunks ------------------------------------------------------------------------------


def test_nothing_is_dealt_before_the_program_starts() -> None:
    driven = Driven(1)
    assert driven(ev.ProgramOpened(0), ev.PageAdded(0, 3), ev.PageAdded(0, 2)) == []
    assert elements(driven(ev.ProgramStarted(0))) == [[0, 1, 2], [3]]


def test_a_worker_holds_two_chunks_and_gets_the_next_when_one_has_ended() -> None:
    driven = Driven(1)
    first, second = deals(driven.program(0, 1000))
    assert first.chunk.end_seq == second.chunk.seq
    assert len(deals(driven.finish(first))) == 1
    assert len(driven.scheduler.pool.workers[0].chunks) == workers.CHUNKS_MAX


def test_idle_workers_are_dealt_to_first() -> None:
    driven = Driven(3)
    assert sorted(deal.worker for deal in deals(driven.program(0, 1000))[:3]) == [0, 1, 2]


def test_no_more_run_than_there_are_slots_though_workers_idle() -> None:
    driven = Driven(1)
    driven(ev.WorkerReady(1), ev.WorkerReady(2))
    assert len({deal.worker for deal in deals(driven.program(0, 100))}) == 1


def test_the_worker_that_ran_last_is_dealt_to_first() -> None:
    """Its caches are warm, and the others may sleep on."""
    driven = Driven(3)
    first = deals(driven.program(0, 1))[0]
    driven.finish(first)
    for number in range(1, 4):
        (deal,) = deals(driven.program(number, 1))
        assert deal.worker == first.worker
        driven.finish(deal)


def test_the_first_chunks_are_small_and_later_ones_four_milliseconds_long() -> None:
    driven = Driven(1)
    first, second = deals(driven.program(0, 100_000))
    assert len(first.chunk.elements) == chunks.FIRST_SIZE
    (third,) = deals(driven.finish(first, each_s=0.000_04))
    assert len(third.chunk.elements) == 100
    (fourth,) = deals(driven.finish(second, each_s=0.000_04))
    assert len(fourth.chunk.elements) == 100


def test_long_elements_are_dealt_one_by_one() -> None:
    driven = Driven(1)
    first, _ = deals(driven.program(0, 1000))
    assert [len(c) for c in elements(driven.finish(first, each_s=0.1))] == [1]


def test_a_chunk_is_bounded_however_short_the_elements() -> None:
    driven = Driven(1)
    first, _ = deals(driven.program(0, 100_000))
    assert [len(c) for c in elements(driven.finish(first, each_s=1e-9))] == [chunks.SIZE_MAX]


def test_few_ready_elements_are_shared_among_the_slots() -> None:
    assert chunks.chunk_size(None, 8, 4) == 1
    assert chunks.chunk_size(0.001, 16, 2) == 4


def test_too_little_work_is_not_shared() -> None:
    """Two microseconds of work are not worth a message each."""
    assert chunks.chunk_size(2e-6, 8, 4) == 10


def test_the_mean_run_time_follows_the_newest_reports() -> None:
    program = Program(0, 0, 0)
    program.measured(2, 2.0)
    assert program.mean_s == pytest.approx(1.0)
    program.measured(2, 4.0)
    assert program.mean_s == pytest.approx(1.5)
    program.measured(96, 9.6)  # many weigh more than few
    assert program.mean_s == pytest.approx(1.5 * 0.04 + 0.1 * 0.96)
    before_s = program.mean_s
    program.measured(1, 1.0)  # and the newest never little
    assert program.mean_s == pytest.approx(0.7 * before_s + 0.3)


def test_a_chain_becomes_one_chunk() -> None:
    driven = Driven(2)
    (deal,) = deals(driven.program(0, chain(10)))
    assert list(deal.chunk.elements) == list(range(10))
    assert deal.chunk.fused
    assert driven.finish(deal) == [ev.ProgramDone(0)]


def test_a_chain_of_a_thousand_takes_two_chunks() -> None:
    driven = Driven(2)
    (deal,) = deals(driven.program(0, chain(1000)))
    (rest,) = deals(driven.finish(deal))
    assert len(rest.chunk.elements) == 1000 - chunks.FIRST_SIZE
    assert driven.finish(rest) == [ev.ProgramDone(0)]


def test_a_chunk_is_not_extended_with_what_waits_for_others_too() -> None:
    """0 and 1 are dealt apart, so 2 belongs to neither chunk."""
    driven = Driven(2)
    first, second = deals(driven.program(0, [[], [], [0, 1]]))
    assert elements([first, second]) == [[0], [1]]
    assert not first.chunk.fused
    assert driven.finish(first) == []
    (third,) = deals(driven.finish(second))
    assert list(third.chunk.elements) == [2]


def test_a_chunk_is_extended_with_what_waits_for_several_inside() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, [[], [0], [0], [1, 2], [3, 0]]))
    assert list(deal.chunk.elements) == [0, 1, 2, 3, 4]


def test_a_chunk_is_not_extended_beyond_its_size() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0), ev.PageAdded(0, 9, *columns([[], *[[0]] * 8])))
    driven.measure(chunks.TARGET_S / 4)
    (deal,) = deals(driven(ev.ProgramStarted(0)))
    assert len(deal.chunk.elements) == 4


def test_a_join_is_never_dealt() -> None:
    driven = Driven(1)
    effects = driven.program(0, [[], [], [0, 1], [2], [2]], joins=(2,))
    dealt = [e for part in elements(effects) for e in part]
    while deals(effects):
        effects = [x for deal in deals(effects) for x in driven.finish(deal)]
        dealt += [e for part in elements(effects) for e in part]
    assert sorted(dealt) == [0, 1, 3, 4]
    assert effects == [ev.ProgramDone(0)]


# -- who comes first ---------------------------------------------------------------------


def test_the_longest_path_comes_first() -> None:
    driven = Driven(1)
    effects = driven.program(0, [[], [], [1], []], ranks=[1, 2, 1, 3])
    assert elements(effects) == [[3, 1, 2], [0]]


def test_program_order_within_a_rank() -> None:
    driven = Driven(1)
    effects = driven.program(0, [*([] for _ in range(100)), [99]], ranks=[1] * 101)
    assert elements(effects) == [[*range(16)], [*range(16, 32)]]


def test_first_come_first_served() -> None:
    driven = Driven(1, up=0)
    driven.program(5, 1)
    driven.program(3, 1)
    assert [d.chunk.program.number for d in deals(driven(ev.WorkerReady(0)))] == [5, 3]


def test_deeper_programs_come_first() -> None:
    driven = Driven(1, up=0)
    for number, depth in enumerate((0, 2, 1, 2)):
        driven.program(number, 1, depth=depth)
    effects = driven(ev.WorkerReady(0), ev.WorkerReady(1), ev.WorkerBlocked(0))
    assert [d.chunk.program.number for d in deals(effects)] == [1, 3, 2, 0]


def test_many_programs_at_once_cost_no_more_each() -> None:
    driven = Driven(1)
    handle = driven.scheduler.handle
    driven.program(0, 10_000)
    start_s = time.process_time()
    for number in range(1, 30_001):
        handle(ev.ProgramOpened(number), 0.0)
        handle(ev.PageAdded(number, 1), 0.0)
        handle(ev.ProgramStarted(number), 0.0)
    assert time.process_time() - start_s < 5.0


# -- reports -----------------------------------------------------------------------------


def test_a_chunk_may_be_reported_in_parts() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(4)))
    number = deal.chunk.number
    for upto in range(1, 4):
        assert driven(ev.ChunkFinished(0, number, upto, (), 1e-6)) == []
        assert driven.state(0).count(DONE) == upto
    assert driven(ev.ChunkFinished(0, number, 4, (), 1e-6)) == [ev.ProgramDone(0)]


def test_what_a_part_of_a_chunk_frees_is_dealt_at_once() -> None:
    """0 and 1 are dealt together; 4 needs 0 alone, but the chunk was full."""
    driven = Driven(2)
    driven(ev.ProgramOpened(0), ev.PageAdded(0, 9, *columns([*[[]] * 8, [0]])))
    driven.measure(chunks.TARGET_S / 2)
    first, *_ = deals(driven(ev.ProgramStarted(0)))
    assert list(first.chunk.elements) == [0, 1]
    driven(ev.ChunkFinished(first.worker, first.chunk.number, 1, (), chunks.TARGET_S / 2))
    assert 8 in set(driven.scheduler.programs[0].ready.elements())


def test_repeated_and_late_reports_are_harmless() -> None:
    driven = Driven(1)
    first, second = deals(driven.program(0, 1000))
    number = first.chunk.number
    driven(ev.ChunkFinished(0, number, 5, (3,), 1e-6))
    before = driven.state(0)
    driven(ev.ChunkFinished(0, number, 5, (3,), 1e-6), ev.ChunkFinished(0, number, 2, (1,), 1e-6))
    assert driven.state(0) == before
    driven(ev.ChunkFinished(0, number, 7, (3, 6, 900), 1e-6))
    assert driven.state(0)[:7] == [DONE, DONE, DONE, FAILED, DONE, DONE, FAILED]
    driven.finish(first)
    before, unfinished = driven.state(0), driven.scheduler.unfinished
    assert driven.finish(first) == []
    assert driven(ev.ChunkFinished(7, second.chunk.number, 3, (), 1e-6)) == []
    assert (driven.state(0), driven.scheduler.unfinished) == (before, unfinished)


@pytest.mark.parametrize(
    "event",
    [
        ev.PageAdded(5, 3),
        ev.ProgramStarted(5),
        ev.ProgramDropped(5),
        ev.ChunkFinished(5, 0, 1),
        ev.TakenBack(5, 0),
        ev.WorkerResumed(5),
        ev.WorkerBlocked(5),
        ev.WorkerUnblocked(5),
        ev.Woken(),
    ],
)
def test_events_about_what_is_unknown_are_dropped(event: ev.Event) -> None:
    driven = Driven(2)
    assert driven(event, event) == []


# -- programs come and go ----------------------------------------------------------------


def test_a_program_without_elements_is_done_when_it_starts() -> None:
    driven = Driven(1)
    assert driven.program(0, 0) == [ev.ProgramDone(0)]
    assert driven(ev.ProgramOpened(1), ev.ProgramStarted(1)) == [ev.ProgramDone(1)]


def test_a_program_of_joins_alone_is_done_when_it_starts() -> None:
    driven = Driven(1)
    assert driven.program(0, 2, joins=(0, 1)) == [ev.ProgramDone(0)]
    assert driven.program(1, [[], [0], [1]], joins=(0, 1, 2)) == [ev.ProgramDone(1)]


def test_a_program_may_grow_while_it_runs() -> None:
    driven = Driven(1)
    first, *_ = deals(driven.program(0, 1))
    (second,) = deals(driven(ev.PageAdded(0, 1)))
    assert driven.finish(first) == []
    assert driven.finish(second) == [ev.ProgramDone(0)]
    assert driven(ev.PageAdded(0, 1)) == [], "too late: it needs a new program"


def test_a_growing_program_is_not_done_before_it_is_sealed() -> None:
    driven = Driven(1)
    assert driven(ev.ProgramOpened(0, growing=True), ev.ProgramStarted(0)) == []
    for _ in range(3):
        (deal,) = deals(driven(ev.PageAdded(0, 1)))
        assert driven.finish(deal) == []
    assert driven(ev.ProgramSealed(0)) == [ev.ProgramDone(0)]
    assert driven(ev.ProgramSealed(0)) == []


def test_a_growing_program_that_is_sealed_ends_with_its_last_element() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0, growing=True), ev.PageAdded(0, 1))
    assert driven(ev.ProgramSealed(0)) == []
    (deal,) = deals(driven(ev.ProgramStarted(0)))
    assert driven.finish(deal) == [ev.ProgramDone(0)]


def test_a_growing_program_that_is_dropped_needs_no_seal() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0, growing=True), ev.ProgramStarted(0))
    assert driven(ev.ProgramDropped(0)) == [ev.ProgramDone(0)]


def test_pages_of_single_elements_are_dealt_together() -> None:
    driven = Driven(1, up=0)
    driven(ev.ProgramOpened(0, growing=True), ev.ProgramStarted(0))
    driven(*(ev.PageAdded(0, 1) for _ in range(100)))
    assert [len(part) for part in elements(driven(ev.WorkerReady(0)))] == [16, 16]


def test_a_program_dropped_before_it_starts_is_done() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0), ev.PageAdded(0, 10))
    assert driven(ev.ProgramDropped(0)) == [ev.ProgramDone(0)]
    assert driven(ev.ProgramStarted(0), ev.ProgramDropped(0)) == []


def test_a_dropped_program_ends_with_what_has_begun() -> None:
    driven = Driven(1)
    first, _ = deals(driven.program(0, 1000))
    assert driven(ev.ProgramDropped(0)) == [ev.Recall(0, all=True)]
    assert driven(ev.ProgramDropped(0)) == []
    assert driven(ev.PageAdded(0, 5), ev.ProgramStarted(0)) == []
    assert driven(ev.TakenBack(0, 1), ev.WorkerResumed(0)) == []
    assert driven.finish(first) == [ev.ProgramDone(0)]


def test_a_dropped_program_makes_room_for_the_next() -> None:
    driven = Driven(1)
    driven.program(0, 1000)
    driven.program(1, 3)
    driven(ev.ProgramDropped(0), ev.TakenBack(0, 0))
    effects = driven(ev.WorkerResumed(0))
    assert {d.chunk.program.number for d in deals(effects)} == {1}


def test_a_dropped_program_tells_of_no_skips() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(3)))
    driven(ev.ProgramDropped(0))
    assert driven.finish(deal, 0) == [ev.ProgramDone(0)]


def test_the_loss_of_a_worker_ends_a_dropped_program() -> None:
    driven = Driven(1)
    driven.program(0, 1000)
    driven(ev.ProgramDropped(0))
    effects = driven(ev.WorkerLost(0, 0, running=True))
    assert effects == [ev.ElementLost(0, 0, 0), ev.ProgramDone(0), ev.SpawnWorkers(1)]


def test_unfinished_counts_what_has_started() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(5)))
    driven(ev.ProgramOpened(1), ev.PageAdded(1, 100))
    assert driven.scheduler.unfinished == 5
    driven(ev.ChunkFinished(0, deal.chunk.number, 2, (), 1e-6))
    assert driven.scheduler.unfinished == 3


def test_a_paused_program_is_not_dealt_and_others_are() -> None:
    driven = Driven(1)
    driven.program(0, 10)
    driven(ev.ProgramPaused(0))
    for deal in deals(list(driven.seen)):
        assert deals(driven.finish(deal)) == [], "what was dealt goes on, no more follows"
    (other,) = deals(driven.program(1, 1))
    assert other.chunk.program.number == 1
    driven(ev.ProgramPaused(0))
    assert deals(driven.finish(other)) == []
    effects = driven(ev.ProgramResumed(0))
    assert {deal.chunk.program.number for deal in deals(effects)} == {0}
    assert driven(ev.ProgramResumed(7), ev.ProgramPaused(7)) == [], "of one that is done"


def test_a_paused_program_can_be_started_dropped_and_finished() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0), ev.ProgramPaused(0), ev.PageAdded(0, 3))
    assert deals(driven(ev.ProgramStarted(0))) == []
    assert driven(ev.ProgramDropped(0)) == [ev.ProgramDone(0)]
    (deal,) = deals(driven.program(1, 1))
    driven(ev.ProgramPaused(1))
    assert driven.finish(deal) == [ev.ProgramDone(1)]
