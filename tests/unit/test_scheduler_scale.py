"""More or fewer slots while tasks run."""

from __future__ import annotations

from driven import Driven, chain, deals, elements, others

from alamo.core import events as ev


def left(driven: Driven) -> set[int]:
    return set(driven.scheduler.pool.workers)


def test_growing_starts_workers_at_once_which_are_dealt_to() -> None:
    driven = Driven(1)
    driven.program(0, 100)
    assert others(driven(ev.SlotsChanged(3))) == [ev.SpawnWorkers(2)]
    assert elements(driven(ev.WorkerReady(1))) != []
    assert elements(driven(ev.WorkerReady(2))) != []
    assert driven.scheduler.pool.running == 3


def test_growing_takes_work_from_the_busy() -> None:
    driven = Driven(1)
    driven.program(0, chain(8))
    driven(ev.SlotsChanged(2))
    driven.now_s = 1.0
    assert driven(ev.WorkerReady(1)) == [ev.Recall(0)]


def test_shrinking_retires_the_idle_at_once_and_keeps_no_spare() -> None:
    driven = Driven(4)
    assert len(driven(ev.SlotsChanged(1))) == 3
    assert len(left(driven)) == 1


def test_workers_that_are_still_starting_are_retired_as_they_come() -> None:
    driven = Driven(3, up=1)
    assert driven(ev.SlotsChanged(1)) == []
    (gone,) = driven(ev.WorkerReady(1))
    assert isinstance(gone, ev.RetireWorker)
    assert len(driven(ev.WorkerReady(2))) == 1
    assert len(left(driven)) == 1


def test_the_busy_finish_the_task_they_are_in_and_what_lies_behind_is_taken_back() -> None:
    driven = Driven(3)
    dealt = deals(driven.program(0, 100))
    held = {d.worker: d for d in reversed(dealt)}
    asked = driven(ev.SlotsChanged(1))
    assert sorted(asked, key=str) == [ev.Recall(w, all=True) for w in range(3)]
    for worker, deal in held.items():
        seq = deal.chunk.seq + 1
        assert driven(ev.TakenBack(worker, seq), ev.WorkerResumed(worker)) == []
    ended = [driven.finish(held[worker]) for worker in range(3)]
    assert [others(effects) for effects in ended] == [
        [ev.RetireWorker(0)],
        [ev.RetireWorker(1)],
        [],
    ]
    assert ended[0] == [ev.RetireWorker(0)], "two run, more than there are slots"
    assert {d.worker for effects in ended[1:] for d in deals(effects)} == {2}
    assert left(driven) == {2}


def test_a_long_task_holds_no_slot_that_another_gives_back() -> None:
    driven = Driven(2)
    long, short = deals(driven.program(0, 2))
    driven(ev.SlotsChanged(1))
    assert driven.finish(short) == [ev.RetireWorker(short.worker)]
    assert left(driven) == {long.worker}


def test_growing_again_keeps_who_has_not_left_yet() -> None:
    driven = Driven(3)
    driven.program(0, 3)
    assert driven(ev.SlotsChanged(1)) == []
    assert driven(ev.SlotsChanged(4)) == [ev.SpawnWorkers(1)]
    assert left(driven) == {0, 1, 2}


def test_the_same_number_changes_nothing() -> None:
    driven = Driven(2)
    driven.program(0, 100)
    assert driven(ev.SlotsChanged(2)) == []


def test_a_half_recall_becomes_one_of_all() -> None:
    driven = Driven(3, up=2)
    driven.program(0, chain(8))
    driven.program(1, chain(8))
    driven.now_s = 1.0
    (half,) = driven(ev.WorkerReady(2))
    assert half in (ev.Recall(0), ev.Recall(1))
    asked = driven(ev.SlotsChanged(1))
    assert ev.Recall(half.worker, all=True) in asked


def test_a_blocked_worker_counts_for_nothing_and_stays() -> None:
    driven = Driven(2)
    parent, other = deals(driven.program(0, 2))
    driven(ev.WorkerBlocked(parent.worker))
    driven(ev.WorkerReady(2))
    assert ev.RetireWorker(2) in driven(ev.SlotsChanged(1))
    (child,) = deals(driven.program(1, 1, depth=1)) or deals(driven.finish(other))
    assert child.worker == other.worker
    driven.finish(child)
    driven(ev.WorkerUnblocked(parent.worker))
    assert parent.worker in left(driven)


def test_one_that_dies_after_a_cut_is_not_replaced() -> None:
    driven = Driven(2)
    first, _ = deals(driven.program(0, 2))
    driven(ev.SlotsChanged(1))
    assert ev.SpawnWorkers(1) not in driven(ev.WorkerLost(first.worker, 0, True))
