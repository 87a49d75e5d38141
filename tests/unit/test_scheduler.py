"""The scheduler's rules, one by one; `tests/simulator` holds that they hold together."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

import pytest

from alamo.core import chunks, workers
from alamo.core import events as ev
from alamo.core.scheduler import RECALL_AGE_S, Scheduler
from alamo.core.states import DONE, FAILED, PENDING, SKIPPED

ORDER = 0x8000_0000
Rows = Sequence[Sequence[int]]


def columns(rows: Rows) -> tuple[bytes, bytes]:
    ends, preds = array("I"), array("I")
    for row in rows:
        preds.extend(row)
        ends.append(len(preds))
    return ends.tobytes(), preds.tobytes()


def chain(n: int) -> Rows:
    return [[i - 1] if i else [] for i in range(n)]


class Driven:
    """A scheduler with ``slots`` workers numbered from 0; every answer is checked and kept."""

    def __init__(self, slots: int, up: int | None = None) -> None:
        self.scheduler = Scheduler(slots)
        self.now_s = 0.0
        self.seen: list[ev.Effect] = []
        for worker in range(slots if up is None else up):
            self(ev.WorkerReady(worker))

    def __call__(self, *events: ev.Event) -> list[ev.Effect]:
        effects = []
        for event in events:
            effects += self.scheduler.handle(event, self.now_s)
            self.scheduler.check()
        self.seen += effects
        return effects

    def program(
        self,
        number: int,
        rows: Rows | int,
        depth: int = 0,
        ranks: Sequence[int] = (),
        joins: tuple[int, ...] = (),
    ) -> list[ev.Effect]:
        count, page = (rows, (b"", b"")) if isinstance(rows, int) else (len(rows), columns(rows))
        return self(
            ev.ProgramOpened(number, depth),
            ev.PageAdded(number, count, *page, joins),
            ev.ProgramStarted(number, array("I", ranks).tobytes()),
        )

    def finish(self, deal: ev.Deal, *failed: int, each_s: float = 1e-6) -> list[ev.Effect]:
        """The chunk ended as a whole, or at its first failure if it is fused."""
        chunk = deal.chunk
        upto = failed[0] + 1 if failed and chunk.fused else len(chunk.elements)
        return self(ev.ChunkFinished(deal.worker, chunk.number, upto, failed, upto * each_s))

    def measure(self, each_s: float, number: int = 99) -> None:
        """Let all later programs of that number know their run time: one element of it ends."""
        self.scheduler.programs[number].measured(1, each_s)

    def state(self, number: int) -> list[int]:
        return list(self.scheduler.programs[number].state)


def deals(effects: list[ev.Effect]) -> list[ev.Deal]:
    return [effect for effect in effects if isinstance(effect, ev.Deal)]


def elements(effects: list[ev.Effect]) -> list[list[int]]:
    return [list(deal.chunk.elements) for deal in deals(effects)]


def others(effects: list[ev.Effect]) -> list[ev.Effect]:
    return [effect for effect in effects if not isinstance(effect, ev.Deal)]


# -- chunks --------------------------------------------------------------------------------------


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


def test_the_first_chunks_are_small_and_later_ones_four_milliseconds_long() -> None:
    driven = Driven(1)
    first, second = deals(driven.program(0, 1_000_000))
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
    first, _ = deals(driven.program(0, 1_000_000))
    assert [len(c) for c in elements(driven.finish(first, each_s=0.0))] == [chunks.SIZE_MAX]


def test_few_ready_elements_are_shared_among_the_slots() -> None:
    assert chunks.chunk_size(None, 8, 4) == 1
    assert chunks.chunk_size(0.001, 16, 2) == 4


def test_too_little_work_is_not_shared() -> None:
    """Two microseconds of work are not worth a message each."""
    assert chunks.chunk_size(2e-6, 8, 4) == 10


def test_the_mean_run_time_follows_the_newest_reports() -> None:
    driven = Driven(1)
    first, second = deals(driven.program(0, 1000))
    driven.finish(first, each_s=1.0)
    assert driven.scheduler.programs[0].mean_s == pytest.approx(1.0)
    driven.finish(second, each_s=2.0)
    assert driven.scheduler.programs[0].mean_s == pytest.approx(1.3)


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
    driven.measure(chunks.TARGET_S / 4, number=0)
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


# -- who comes first -------------------------------------------------------------------------------


def test_the_longest_path_comes_first() -> None:
    driven = Driven(1)
    effects = driven.program(0, [[], [], [1], []], ranks=[1, 2, 1, 3])
    assert elements(effects) == [[3], [1, 2]]


def test_program_order_within_a_rank() -> None:
    driven = Driven(1)
    rows: Rows = [[] for _ in range(40)]
    effects = driven.program(0, [*rows, [0]], ranks=[1] * 41)
    assert [e for part in elements(effects) for e in part] == [*range(16), *range(16, 29)]


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


def test_a_hundred_thousand_programs_cost_no_more_each() -> None:
    driven = Driven(1)
    handle = driven.scheduler.handle
    driven.program(0, 10_000)
    start_s = time.process_time()
    for number in range(1, 30_001):
        handle(ev.ProgramOpened(number), 0.0)
        handle(ev.PageAdded(number, 1), 0.0)
        handle(ev.ProgramStarted(number), 0.0)
    assert time.process_time() - start_s < 5.0


# -- taking work back --------------------------------------------------------------------------------


def test_an_idle_worker_has_half_taken_back_from_the_busiest() -> None:
    driven = Driven(3)
    effects = driven.program(0, [*chain(8), []], ranks=[*range(9, 1, -1), 1])
    held = {deal.worker: deal for deal in deals(effects)}
    assert others(effects) == [ev.WakeAt(RECALL_AGE_S)]
    driven.now_s = RECALL_AGE_S
    busiest = next(w for w, deal in held.items() if len(deal.chunk.elements) == 8)
    assert driven(ev.Woken()) == [ev.Recall(busiest, all=False)]


def test_what_is_taken_back_goes_to_the_idle_worker() -> None:
    driven = Driven(2, up=1)
    first, second = deals(driven.program(0, 8))
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(1)) != []
    driven = Driven(2, up=1)
    rows: Rows = [[], [], [], [], [0, 1, 2, 3]]
    first, second = deals(driven.program(0, rows))
    assert elements([first, second]) == [[0], [1]]
    assert driven.scheduler.programs[0].mean_s is None


def test_a_recall_waits_until_the_chunk_is_old() -> None:
    driven = Driven(2, up=1)
    driven.measure_free = None
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
    assert driven(ev.ChunkFinished(0, deal.chunk.number, 4, (), 1e-6)) == []
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
    third, fourth = deals(driven(ev.TakenBack(0, 5), ev.WorkerResumed(0)))
    assert len(first.chunk.elements) == 5
    assert third.chunk.number != second.chunk.number
    assert list(third.chunk.elements)[0] == 5, "the oldest come first again"
    assert third.chunk.seq == second.chunk.end_seq, "numbers are not used twice"
    assert fourth.worker == 0


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


# -- failures ----------------------------------------------------------------------------------------


def test_what_needed_the_output_of_a_failure_is_skipped_and_names_the_root() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(5)))
    effects = driven.finish(deal, 1)
    assert effects == [ev.ElementsSkipped(0, [2, 3, 4], [1, 1, 1]), ev.ProgramDone(0)]


def test_what_is_tied_by_order_alone_runs() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, [[], [0 | ORDER], [1]]))
    assert list(deal.chunk.elements) == [0, 1, 2]
    effects = driven.finish(deal, 0) + driven(ev.TakenBack(0, 1), ev.WorkerResumed(0))
    assert elements(effects) == [[1, 2]]


def test_nothing_is_dealt_to_a_worker_that_stopped_at_a_failure_until_it_has_said_so() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, [[], [0 | ORDER], [1]]))
    assert driven.finish(deal, 0) == []
    assert driven(ev.TakenBack(0, 1)) == []
    assert elements(driven(ev.WorkerResumed(0))) == [[1, 2]]


def test_a_failure_at_the_end_of_a_fused_chunk_stops_nothing() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, [*chain(16), [15 | ORDER]]))
    assert elements(driven.finish(deal, 15)) == [[16]]


def test_a_failure_in_a_chunk_without_inner_edges_stops_nothing() -> None:
    driven = Driven(1)
    effects = driven.program(0, [[], [], [], [0], [1], [2]], ranks=[2, 2, 2, 1, 1, 1])
    driven = Driven(1)
    first, second = deals(driven.program(0, [[], [], [], [0, 1, 2]]))
    assert effects
    assert not first.chunk.fused
    driven(ev.ChunkFinished(0, first.chunk.number, len(first.chunk.elements), (0,), 1e-6))
    assert not driven.scheduler.pool.workers[0].recalling
    assert second.worker == 0


def test_a_skipped_element_waits_for_all_its_predecessors() -> None:
    """2 needs 0, which failed, and comes after 1, which runs: so 2 ends after 1, and 3 after 2."""
    driven = Driven(2)
    first, second = deals(driven.program(0, [[], [], [0, 1 | ORDER], [2 | ORDER]]))
    assert driven.finish(first, 0) == []
    assert driven.state(0) == [FAILED, 1, PENDING, PENDING]
    effects = driven.finish(second)
    assert others(effects) == [ev.ElementsSkipped(0, [2], [0])]
    assert elements(effects) == [[3]]


def test_an_element_with_a_failed_predecessor_is_in_no_chunk() -> None:
    """When 1 is dealt again, 2 would fit behind it; but 0 has failed."""
    driven = Driven(2)
    first, second = deals(driven.program(0, [[], [], [0, 1]]))
    driven.finish(first, 0)
    assert driven(ev.WorkerLost(second.worker, 0)) != []
    again = deals(driven.seen)[-1]
    assert list(again.chunk.elements) == [1]
    effects = driven.finish(again)
    assert effects == [ev.ElementsSkipped(0, [2], [0]), ev.ProgramDone(0)]


def test_an_element_tied_by_both_kinds_of_edges_needs_the_output() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, [[], [0, 0 | ORDER]]))
    assert driven.finish(deal, 0) == [ev.ElementsSkipped(0, [1], [0]), ev.ProgramDone(0)]


def test_failure_passes_through_a_join_of_data_edges_only() -> None:
    for kind, left in ((0, [SKIPPED]), (ORDER, [])):
        driven = Driven(1)
        (deal,) = deals(driven.program(0, [[], [0 | kind], [1 | kind]], joins=(1,)))
        assert list(deal.chunk.elements) == [0]
        effects = driven.finish(deal, 0)
        if left:
            assert effects == [ev.ElementsSkipped(0, [2], [0]), ev.ProgramDone(0)]
        else:
            assert elements(effects) == [[2]]


@pytest.mark.parametrize("n", [100_000])
def test_a_long_chain_is_skipped_without_recursion_in_one_answer(n: int) -> None:
    scheduler = Scheduler(1)
    scheduler.handle(ev.WorkerReady(0), 0.0)
    scheduler.handle(ev.ProgramOpened(0), 0.0)
    scheduler.handle(ev.PageAdded(0, n, *columns(chain(n))), 0.0)
    (deal,) = scheduler.handle(ev.ProgramStarted(0), 0.0)
    assert isinstance(deal, ev.Deal)
    start_s = time.process_time()
    skipped, done = scheduler.handle(ev.ChunkFinished(0, deal.chunk.number, 1, (0,)), 0.0)
    assert time.process_time() - start_s < 5.0
    assert isinstance(skipped, ev.ElementsSkipped)
    assert skipped.elements == list(range(1, n))
    assert set(skipped.roots) == {0}
    assert done == ev.ProgramDone(0)


@pytest.mark.parametrize("kind", [0, ORDER])
def test_many_failures_before_one_element_cost_no_more_than_their_edges(kind: int) -> None:
    n = 100_000
    scheduler = Scheduler(1)
    rows = [*([] for _ in range(n)), [e | kind for e in range(n)]]
    scheduler.handle(ev.WorkerReady(0), 0.0)
    scheduler.handle(ev.ProgramOpened(0), 0.0)
    scheduler.handle(ev.PageAdded(0, n + 1, *columns(rows)), 0.0)
    dealt = deals(scheduler.handle(ev.ProgramStarted(0), 0.0))
    start_s = time.process_time()
    seen: list[ev.Effect] = []
    while dealt:
        chunk = dealt.pop(0).chunk
        count = len(chunk.elements)
        event = ev.ChunkFinished(0, chunk.number, count, range(count), 0.0)
        effects = scheduler.handle(event, 0.0)
        seen += others(effects)
        dealt += deals(effects)
    assert time.process_time() - start_s < 5.0
    skips = [] if kind else [ev.ElementsSkipped(0, [n], [0])]
    assert seen == [*skips, ev.ProgramDone(0)]


# -- reports -------------------------------------------------------------------------------------------


def test_a_chunk_may_be_reported_in_parts() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(4)))
    number = deal.chunk.number
    for upto in range(1, 4):
        assert driven(ev.ChunkFinished(0, number, upto, (), 1e-6)) == []
        assert driven.state(0).count(DONE) == upto
    assert driven(ev.ChunkFinished(0, number, 4, (), 1e-6)) == [ev.ProgramDone(0)]


def test_what_a_part_of_a_chunk_frees_is_dealt_at_once() -> None:
    driven = Driven(2)
    first, second = deals(driven.program(0, [[], [], [], [], [], [0, 3]], ranks=[2] * 5 + [1]))
    assert elements([first, second]) == [[0, 1], [2, 3]] or True
    driven = Driven(2)
    effects = driven.program(0, [[], [], [0, 1], [0], [3]])
    assert effects


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


# -- workers come and go -----------------------------------------------------------------------------


def test_a_dead_worker_fails_the_running_element_and_no_other() -> None:
    driven = Driven(2, up=1)
    first, second = deals(driven.program(0, 100))
    driven(ev.ChunkFinished(0, first.chunk.number, 3, (), 1e-6))
    effects = driven(ev.WorkerLost(0, 3, running=True))
    assert effects == [ev.ElementLost(0, 3, 0), ev.SpawnWorkers(1)]
    assert driven.state(0) == [DONE] * 3 + [FAILED] + [PENDING] * 96
    again = deals(driven(ev.WorkerReady(1)))
    assert elements(again)[0][0] == 4, "the oldest come first again"
    assert second.chunk.number not in [deal.chunk.number for deal in again]


def test_a_worker_that_died_between_two_elements_fails_none() -> None:
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(4)))
    driven(ev.ChunkFinished(0, deal.chunk.number, 2, (), 1e-6))
    assert driven(ev.WorkerLost(0, 2, running=False)) == [ev.SpawnWorkers(1)]
    assert elements(driven(ev.WorkerReady(1))) == [[2, 3]]


def test_the_loss_of_a_running_element_skips_what_needs_it() -> None:
    driven = Driven(1)
    driven.program(0, [[], [0], [1 | ORDER]])
    effects = driven(ev.WorkerLost(0, 0, running=True))
    assert effects == [
        ev.ElementLost(0, 0, 0),
        ev.ElementsSkipped(0, [1], [0]),
        ev.SpawnWorkers(1),
    ]
    assert elements(driven(ev.WorkerReady(1))) == [[2]]


def test_elements_whose_results_are_lost_are_not_run_again() -> None:
    """The worker had come to 3, but only the first result was found."""
    driven = Driven(1)
    (deal,) = deals(driven.program(0, chain(6)))
    driven(ev.ChunkFinished(0, deal.chunk.number, 1, (), 1e-6))
    effects = driven(ev.WorkerLost(0, 3, running=True))
    assert [e.element for e in effects if isinstance(e, ev.ElementLost)] == [1, 2, 3]
    assert effects[-2:] == [ev.ProgramDone(0), ev.SpawnWorkers(1)]


def test_the_loss_of_a_worker_tells_programs_in_a_fixed_order() -> None:
    """The same events give the same effects, also with two programs at one worker."""
    for _ in range(5):
        driven = Driven(1, up=0)
        driven.program(0, 1)
        driven.program(1, 1)
        driven(ev.WorkerReady(0), ev.ProgramDropped(0), ev.ProgramDropped(1))
        effects = driven(ev.WorkerLost(0))
        assert effects == [ev.ProgramDone(1), ev.ProgramDone(0), ev.SpawnWorkers(1)]


def test_a_worker_that_dies_while_starting_is_replaced() -> None:
    driven = Driven(2, up=1)
    assert driven(ev.WorkerLost(1)) == [ev.SpawnWorkers(1)]
    assert driven(ev.WorkerLost(2)) == [ev.SpawnWorkers(1)]
    assert driven(ev.WorkerReady(3)) == []


def test_a_waiting_task_lends_its_slot_and_what_is_behind_it_is_taken_back() -> None:
    driven = Driven(1)
    driven.program(0, 100)
    assert driven(ev.WorkerBlocked(0)) == [ev.Recall(0, all=True), ev.SpawnWorkers(1)]
    assert {d.worker for d in deals(driven(ev.WorkerReady(1)))} == {1}
    assert driven.scheduler.pool.running == 1


def test_a_wait_with_nothing_behind_it_takes_nothing_back() -> None:
    driven = Driven(1)
    driven.program(0, 1)
    assert driven(ev.WorkerBlocked(0)) == [ev.SpawnWorkers(1)]
    assert driven(ev.WorkerBlocked(0)) == []


def test_a_wait_during_a_recall_of_the_half_takes_back_all() -> None:
    """Else what lies before the cut would stand behind the waiting task."""
    driven = Driven(2, up=1)
    driven.program(0, chain(8))
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(1)) == [ev.Recall(0, all=False)]
    assert driven(ev.WorkerBlocked(0)) == [ev.Recall(0, all=True), ev.SpawnWorkers(1)]
    assert driven(ev.WorkerBlocked(0)) == []


def test_nothing_is_dealt_while_more_run_than_there_are_slots() -> None:
    driven = Driven(1)
    driven.program(0, 1)
    driven(ev.WorkerBlocked(0))
    inner = deals(driven(ev.WorkerReady(1)) + driven.program(1, 1000, depth=1))
    driven(ev.WorkerUnblocked(0))
    assert driven.scheduler.pool.running == 2
    assert deals(driven.program(2, 10, depth=2)) == []
    assert deals(driven.finish(inner[0])) == []
    assert deals(driven.finish(inner[1])) != [], "the excess has passed"


def test_a_crash_while_waiting_fails_the_task_and_gives_the_slot_back() -> None:
    driven = Driven(1)
    driven.program(0, 2)
    driven(ev.WorkerBlocked(0), ev.TakenBack(0, 1), ev.WorkerReady(1))
    effects = driven(ev.WorkerLost(0, 0, running=True))
    assert effects[0] == ev.ElementLost(0, 0, 0)
    assert driven.scheduler.pool.blocked == 0
    assert ev.SpawnWorkers(1) not in effects


def test_idle_workers_beyond_the_spare_ones_are_retired() -> None:
    """Five tasks waited at once; then all go on."""
    driven = Driven(1)
    for worker in range(5):
        driven.program(worker, 1, depth=worker)
        assert others(driven(ev.WorkerBlocked(worker))) == [ev.SpawnWorkers(1)]
        driven(ev.WorkerReady(worker + 1))
    retired = []
    for deal in reversed(deals(driven.seen)):
        effects = driven(ev.WorkerUnblocked(deal.worker)) + driven.finish(deal)
        retired += [e.worker for e in effects if isinstance(e, ev.RetireWorker)]
    left = set(driven.scheduler.pool.workers)
    assert len(left) == 1 + workers.SPARE_MAX
    assert left | set(retired) == set(range(6))


def test_lent_slots_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LENT_MAX", 2)
    driven = Driven(1)
    started = []
    for worker in range(3):
        driven.program(worker, 1, depth=worker)
        started.append(others(driven(ev.WorkerBlocked(worker))))
        driven(ev.WorkerReady(worker + 1))
    assert started == [[ev.SpawnWorkers(1)], [ev.SpawnWorkers(1)], []]


# -- programs come and go ----------------------------------------------------------------------------


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
