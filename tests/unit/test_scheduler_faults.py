"""Tasks fail and workers die: who is skipped, who runs elsewhere, who is blamed."""

from __future__ import annotations

import time

import pytest
from driven import ORDER, Driven, chain, columns, deals, elements, others

from alamo.core import events as ev
from alamo.core import workers
from alamo.core.scheduler import Scheduler
from alamo.core.states import DEALT, DONE, FAILED, PENDING, SKIPPED

# -- failures ----------------------------------------------------------------------------


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
    first, second = deals(driven.program(0, [[], [], [], [], [0, 2, 3]]))
    assert elements([first, second]) == [[0, 1], [2]]
    effects = driven(ev.ChunkFinished(0, first.chunk.number, 2, (0,), 1e-6))
    assert elements(effects) == [[3]]
    assert driven.state(0)[:2] == [FAILED, DONE]


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


# -- workers come and go -----------------------------------------------------------------


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


def test_a_chunk_that_is_too_large_is_dealt_in_smaller_ones() -> None:
    """Only one element alone that cannot be sent has failed; the shell says so."""
    driven = Driven(1)
    first, _ = deals(driven.program(0, 4))
    assert list(first.chunk.elements) == [0, 1]
    (second,) = deals(driven(ev.ChunkRefused(0, first.chunk.number)))
    assert list(second.chunk.elements) == [0]
    (third,) = deals(driven.finish(second, 0))
    assert list(third.chunk.elements) == [1]
    assert driven.state(0) == [FAILED, DEALT, DEALT, PENDING]
    assert not driven(ev.ChunkRefused(0, first.chunk.number))  # it is no more


def test_a_fused_chunk_that_is_too_large_is_taken_apart() -> None:
    driven = Driven(1)
    driven.program(0, chain(8))
    driven.measure(1e-5)
    (deal,) = deals(driven.seen)
    for size in (4, 2, 1):
        if len(deal.chunk.elements) > size:
            (deal,) = deals(driven(ev.ChunkRefused(0, deal.chunk.number)))
            assert len(deal.chunk.elements) <= size
    for _ in range(8):
        effects = driven.finish(deal)
        if deals(effects):
            (deal,) = deals(effects)
    assert driven.seen[-1] == ev.ProgramDone(0)


def test_a_slot_is_lent_until_the_last_wait_in_the_worker_has_ended() -> None:
    driven = Driven(1)
    driven.program(0, 1)
    driven(ev.WorkerBlocked(0), ev.WorkerBlocked(0), ev.WorkerReady(1), ev.WorkerUnblocked(0))
    pool = driven.scheduler.pool
    assert (pool.blocked, pool.running) == (1, 0)
    driven(ev.WorkerUnblocked(0))
    assert (pool.blocked, pool.running) == (0, 1)
    driven(ev.WorkerUnblocked(0))  # of a client that is closed behind its task
    assert (pool.blocked, pool.running) == (0, 1)
    driven(ev.WorkerBlocked(0), ev.WorkerBlocked(0), ev.WorkerLost(0, 0, True))
    assert pool.blocked == 0


def test_too_many_waits_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when work waits for a worker and none is left to come."""
    monkeypatch.setattr(workers, "LENT_MAX", 2)
    driven = Driven(1)
    scheduler = driven.scheduler
    for depth in range(3):
        driven.program(depth, 1, depth)
        assert not scheduler.is_too_deep
        driven(ev.WorkerBlocked(depth))
        assert not scheduler.is_too_deep, "a worker starts, or there is nothing to run"
        if depth < 2:
            driven(ev.WorkerReady(depth + 1))
    driven.program(3, 1, 3)
    assert scheduler.is_too_deep
    driven(ev.WorkerUnblocked(0))
    assert not scheduler.is_too_deep
