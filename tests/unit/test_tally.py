"""What the telemetry counts, one by one; `test_tally_in_worlds.py` holds that it adds up."""

from __future__ import annotations

import pytest
from driven import Driven, columns, deals

from alamo.core import events as ev
from alamo.telemetry.tally import BOUNDS_S, Counts, Tally


class Counted(Driven):
    """A driven scheduler, and what is counted of it."""

    def __init__(self, slots: int) -> None:
        self.tally: Tally | None = None
        super().__init__(slots, up=0)
        self.tally = Tally(self.scheduler)
        self(*(ev.WorkerReady(worker) for worker in range(slots)))

    def __call__(self, *events: ev.Event) -> list[ev.Effect]:
        effects = []
        for event in events:
            if self.tally is not None:
                self.tally.before(event, self.now_s)
            some = super().__call__(event)
            if self.tally is not None:
                self.tally.after(some)
            effects += some
        return effects

    @property
    def counts(self) -> Counts:
        assert self.tally is not None
        return self.tally.counts


def test_run_times_go_where_the_mean_of_a_report_belongs() -> None:
    driven = Counted(1)
    (deal, _) = deals(driven.program(0, 10))
    count = len(deal.chunk.elements)
    driven.finish(deal, each_s=0.05)
    assert driven.counts.buckets[BOUNDS_S.index(0.1)] == count == sum(driven.counts.buckets)
    assert driven.counts.task_seconds == pytest.approx(count * 0.05)


def test_overhead_is_the_time_with_work_in_hand_beyond_that_of_the_tasks() -> None:
    driven = Counted(1)
    driven.now_s = 10.0
    first, second = deals(driven.program(0, 4))
    driven.now_s = 11.0
    driven.finish(first, each_s=0.25)
    assert driven.counts.overhead_seconds == pytest.approx(0.5)
    driven.now_s = 12.0  # the second one began when the first had ended, not when it was dealt
    driven.finish(second, each_s=1.0 / len(second.chunk.elements))
    assert driven.counts.overhead_seconds == pytest.approx(0.5)


def test_a_report_that_comes_twice_counts_once() -> None:
    driven = Counted(1)
    (deal,) = deals(driven.program(0, 1))
    event = ev.ChunkFinished(0, deal.chunk.number, 1, (0,), 1e-6)
    driven(event, event)
    assert (driven.counts.failed, driven.counts.done, driven.counts.unfinished) == (1, 0, 0)


def test_of_an_array_its_elements_count_and_are_skipped_with_it() -> None:
    driven = Counted(1)
    ends, preds = columns([[], [0]])
    driven(
        ev.ProgramOpened(1),
        ev.PageAdded(1, 3),
        ev.ProgramOpened(0),
        ev.PageAdded(0, 2, ends, preds, (), ((1, 1),)),
    )
    assert driven.counts.submitted == 4
    (deal,) = deals(driven(ev.ProgramStarted(0)))
    driven.finish(deal, 0)
    counts = driven.counts
    assert (counts.failed, counts.skipped, counts.dropped, counts.unfinished) == (1, 3, 0, 0)


def test_a_page_that_cannot_be_right_is_not_counted() -> None:
    driven = Counted(1)
    ends, preds = columns([[5]])
    driven(ev.ProgramOpened(0))
    with pytest.raises(RuntimeError, match="predecessor"):
        driven(ev.PageAdded(0, 1, ends, preds))
    driven(ev.Woken(), ev.PageAdded(0, 2), ev.Woken())
    assert driven.counts.submitted == 2


def test_workers_that_come_and_go() -> None:
    driven = Counted(3)
    driven(ev.WorkerLost(0), ev.WorkerLost(7), ev.SlotsChanged(1))
    counts = driven.counts
    assert (counts.workers_started, counts.workers_died, counts.workers_stillborn) == (3, 1, 1)
    assert counts.workers_retired == 1
