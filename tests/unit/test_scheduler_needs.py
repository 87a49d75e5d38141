"""Elements that need more than one core: oldest first, all at once, and in workers of their own."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest
from driven import ORDER, Driven, columns, deals, elements, others

from alamo.core import events as ev
from alamo.core.dealing import ROOM_AGE_S
from alamo.core.queues import PATIENCE
from alamo.core.terms import PLAIN, Binding, Grant, Need, Terms
from alamo.errors import GraphError

JOB = Terms(Need(4))


def submit(
    driven: Driven,
    number: int,
    rows: int | Sequence[Sequence[int]],
    *terms: Terms,
    numbers: Sequence[int] | int = 1,
    priority: int = 0,
) -> list[ev.Effect]:
    """A program whose elements have these terms, by number from 1 on."""
    count, page = (rows, (b"", b"")) if isinstance(rows, int) else (len(rows), columns(rows))
    column = numbers if isinstance(numbers, int) else array("I", numbers).tobytes()
    return driven(
        ev.ProgramOpened(number, priority=priority),
        *(ev.TermsDefined(number, n, one) for n, one in enumerate(terms, 1)),
        ev.PageAdded(number, count, *page, terms=column),
        ev.ProgramStarted(number),
    )


def test_an_element_of_several_cores_takes_as_many_slots_and_one_worker() -> None:
    driven = Driven(4)
    (deal,) = deals(submit(driven, 0, 1, Terms(Need(3))))
    assert deal.chunk.grant == Grant(3)
    assert driven.scheduler.pool.running == 3
    dealt = deals(driven.program(1, 100))
    assert len({d.worker for d in dealt}) == 1, "one slot is left"
    assert driven.finish(deal) != []
    assert driven.scheduler.pool.running == 4


def test_what_is_lacking_is_kept_for_the_oldest() -> None:
    """As slots come free they are kept until there are four, whatever small ones wait."""
    driven = Driven(4)
    small = deals(driven.program(0, 4))
    assert len({deal.worker for deal in small}) == 4
    assert deals(submit(driven, 1, 1, JOB)) == []
    assert deals(driven.program(2, 1000)) == []
    for deal in small[:3]:
        assert deals(driven.finish(deal, each_s=1.0)) == []
    (job,) = deals(driven.finish(small[3], each_s=1.0))
    assert job.chunk.program.number == 1
    assert deals(driven.finish(job)) != [], "now the others go on"


def test_an_element_of_four_cores_among_endless_small_ones_starts_soon() -> None:
    """Also if the small ones are of an older program that never ends."""
    driven = Driven(4)
    driven(ev.ProgramOpened(0, growing=True), ev.PageAdded(0, 100), ev.ProgramStarted(0))
    submit(driven, 1, 1, JOB)
    open_ = deals(list(driven.seen))
    for _ in range(2 * PATIENCE):
        if any(d.chunk.program.number == 1 for d in open_):
            break
        driven(ev.PageAdded(0, 20))
        open_ += deals(driven.finish(open_.pop(0), each_s=0.001))
    else:
        pytest.fail("it starved")


def test_two_jobs_do_not_wait_for_each_other() -> None:
    driven = Driven(4)
    first, *_ = deals(driven.program(0, 2))
    submit(driven, 1, 1, Terms(Need(3)))
    submit(driven, 2, 1, Terms(Need(3)))
    effects = driven.finish(first, each_s=1.0)
    while deals(effects):
        effects = [e for deal in deals(effects) for e in driven.finish(deal, each_s=1.0)]
    assert driven.scheduler.unfinished <= 1
    order = [d.chunk.program.number for d in deals(driven.seen)]
    assert order.index(1) < order.index(2)


def test_what_has_not_begun_makes_room() -> None:
    driven = Driven(2)
    dealt = deals(driven.program(0, 8))
    assert others(submit(driven, 1, 1, Terms(Need(2)), priority=1)) == [ev.WakeAt(ROOM_AGE_S)]
    driven.now_s = ROOM_AGE_S
    assert sorted(driven(ev.Woken()), key=str) == [ev.Recall(0, True), ev.Recall(1, True)]
    for worker in range(2):
        assert deals(driven(ev.TakenBack(worker, 1), ev.WorkerResumed(worker))) == []
    first = [next(d for d in dealt if d.worker == worker) for worker in range(2)]
    assert deals(driven(ev.ChunkFinished(0, first[0].chunk.number, 1, (), 1.0))) == []
    (job,) = deals(driven(ev.ChunkFinished(1, first[1].chunk.number, 1, (), 1.0)))
    assert job.chunk.grant == Grant(2)


def test_elements_that_need_nothing_of_what_is_lacking_go_ahead() -> None:
    driven = Driven(4)
    driven(ev.MachineFound(gpus=1))
    gpu = Terms(Need(1, 1000))
    effects = submit(driven, 0, 5, gpu, Terms(), numbers=[1, 1, 2, 2, 2])
    begun = sorted(e for part in elements(effects) for e in part)
    assert begun == [0, 2, 3, 4], "the second waits for the GPU"
    first = next(d for d in deals(effects) if 0 in d.chunk.elements)
    assert elements(driven.finish(first, each_s=1.0)) == [[1]]


def test_no_cores_are_kept_while_a_gpu_is_lacking() -> None:
    driven = Driven(4)
    driven(ev.MachineFound(gpus=1))
    submit(driven, 0, 1, Terms(Need(1, 1000)))
    assert deals(submit(driven, 1, 1, Terms(Need(4, 1000)))) == []
    assert deals(driven.program(2, 1)) != []


def test_a_lane_of_another_need_is_not_fused() -> None:
    driven = Driven(2)
    rows = [[], [0], [1], [2]]
    effects = submit(driven, 0, rows, Terms(Need(2)), numbers=[0, 0, 1, 0])
    sizes = []
    while deals(effects):
        (deal,) = deals(effects)
        sizes.append((list(deal.chunk.elements), deal.chunk.grant))
        effects = driven.finish(deal)
    assert sizes == [([0, 1], None), ([2], Grant(2)), ([3], None)]


def test_what_can_never_be_met_holds_nobody_up() -> None:
    driven = Driven(2)
    driven(ev.MachineFound(memory_bytes=10))
    for number, need in enumerate((Need(3), Need(memory_bytes=11), Need(gpu_parts=1))):
        assert deals(submit(driven, number, 1, Terms(need))) == []
    assert deals(driven.program(9, 2)) != []
    effects = driven(ev.SlotsChanged(5), ev.WorkerReady(2))
    assert [d.chunk.program.number for d in deals(effects)] == [0]


def test_a_waiting_task_lends_its_cores_but_not_its_gpu() -> None:
    driven = Driven(2)
    driven(ev.MachineFound(gpus=1))
    (parent,) = deals(submit(driven, 0, 1, Terms(Need(2, 1000))))
    driven(ev.WorkerBlocked(parent.worker))
    assert driven.scheduler.pool.running == 0
    assert deals(submit(driven, 1, 1, Terms(Need(1, 1)))) == []
    assert deals(submit(driven, 2, 1, Terms(Need(2)))) != []


# -- workers of their own -----------------------------------------------------------------


def test_a_bound_element_has_a_worker_started_and_what_it_needs_kept_for_it() -> None:
    driven = Driven(2)
    driven(ev.MachineFound(gpus=2, cpus=(5, 7)))
    bound = Terms(Need(1, 500, pinned=True, bound=True))
    binding = Binding(1, (0,), (5,))
    assert submit(driven, 0, 1, bound) == [ev.SpawnWorkers(1, binding)]
    assert driven(ev.Woken()) == [], "it is on its way"
    assert elements(driven.program(1, 3)) != []
    assert driven.scheduler.pool.running == 2
    (deal,) = deals(driven(ev.WorkerReady(7, binding)))
    assert (deal.worker, deal.chunk.grant) == (7, Grant(1, ((0, 500),), 0, (5,)))


def test_a_warm_worker_is_used_again() -> None:
    driven = Driven(2)
    need = Terms(Need(2, bound=True))
    submit(driven, 0, 1, need)
    (deal,) = deals(driven(ev.WorkerReady(9, Binding(2))))
    driven.finish(deal)
    (again,) = deals(submit(driven, 1, 1, need))
    assert again.worker == 9
    driven.finish(again)
    driven.program(2, 1)
    assert driven.scheduler.pool.workers[9].binding == Binding(2)


def test_what_was_kept_for_a_worker_that_does_not_come_up_is_free_again() -> None:
    driven = Driven(1)
    submit(driven, 0, 1, Terms(Need(pinned=True, bound=True)))
    driven(ev.MachineFound(cpus=(0,)))
    binding = Binding(1, (), (0,))
    assert driven.seen[-1] == ev.SpawnWorkers(1, binding)
    assert driven(ev.WorkerLost(5, binding=binding)) == [ev.SpawnWorkers(1, binding)]
    driven(ev.CancelAsked(0))
    driven(ev.WorkerLost(6, binding=binding))
    assert driven.scheduler.pool.running == 0


def lost_by(effects: list[ev.Effect]) -> list[tuple[int, int]]:
    return [(e.program, e.element) for e in effects if isinstance(e, ev.ElementLost)]


def test_what_needs_workers_that_never_come_up_fails() -> None:
    driven = Driven(4)
    binding = Binding(2)
    rows = [[], [], [0], [0 | ORDER]]
    submit(driven, 0, rows, Terms(Need(2, bound=True)), numbers=[1, 1, 0, 0])
    assert driven.seen[-2:] == [ev.SpawnWorkers(1, binding)] * 2
    effects = driven(ev.WorkerLost(5, binding=binding, hopeless=True))
    assert lost_by(effects) == [(0, 0), (0, 1)]
    assert ev.ElementsSkipped(0, [2], [0]) in effects
    assert [list(deal.chunk.elements) for deal in deals(effects)] == [[3]]
    driven.finish(deals(effects)[0])
    driven(ev.WorkerLost(6, binding=binding, hopeless=True))  # which was on its way as well
    assert driven.scheduler.pool.running == 0
    assert driven.seen[-1] == ev.ProgramDone(0)
    # The next of its kind gets a try of its own.
    effects = submit(driven, 1, 1, Terms(Need(2, bound=True)))
    assert effects == [ev.SpawnWorkers(1, binding)]
    (deal,) = deals(driven(ev.WorkerReady(7, binding)))
    assert deal.chunk.program.number == 1


def test_what_other_workers_can_run_does_not_fail() -> None:
    """Of two GPUs one is broken: tasks wait for the other, until that one is too."""
    driven = Driven(2)
    driven(ev.MachineFound(gpus=2))
    submit(driven, 0, 5, Terms(Need(gpu_parts=1000, bound=True)))
    broken, whole = Binding(1, (0,)), Binding(1, (1,))
    for number in (5, 6):
        effects = driven(ev.WorkerLost(number, binding=broken, hopeless=True))
        assert effects == [ev.SpawnWorkers(1, broken)], "the other may come up yet"
    driven(ev.WorkerReady(7, whole))
    assert lost_by(driven(ev.WorkerLost(8, binding=broken, hopeless=True))) == []
    assert lost_by(driven(ev.WorkerLost(7, 0, running=True))) == [(0, 0)]
    effects = driven(ev.WorkerLost(9, binding=whole, hopeless=True))
    assert lost_by(effects) == [(0, n) for n in range(1, 5)]


def test_idle_workers_with_bindings_are_few() -> None:
    driven = Driven(2)
    driven(ev.MachineFound(cpus=tuple(range(8))))
    for cpu in range(6):
        need = Terms(Need(cpus=(cpu,), pinned=True, bound=True))
        submit(driven, cpu, 1, need)
        (deal,) = deals(driven(ev.WorkerReady(10 + cpu, Binding(1, (), (cpu,)))))
        driven.finish(deal)
    gone = [e.worker for e in driven.seen if isinstance(e, ev.RetireWorker)]
    assert gone == [10, 11, 12, 13], "the longest idle first"


def test_a_bound_element_of_one_core_is_run_by_any_worker() -> None:
    driven = Driven(1)
    driven(ev.MachineFound(memory_bytes=10))
    (deal,) = deals(submit(driven, 0, 1, Terms(Need(memory_bytes=9, bound=True))))
    assert driven.scheduler.pool.workers[deal.worker].binding == PLAIN


def test_short_elements_of_one_need_follow_each_other_without_a_round_trip() -> None:
    driven = Driven(2)
    first, *_ = deals(submit(driven, 0, 1000, Terms(Need(2))))
    assert len(deals(driven.seen)) == 1, "nothing lies behind what may be long"
    second, third = deals(driven.finish(first, each_s=1e-5))
    assert second.worker == third.worker == first.worker


# -- priority and mistakes ----------------------------------------------------------------


def test_the_higher_priority_goes_first_within_a_depth() -> None:
    driven = Driven(1, up=0)
    for number, (depth, priority) in enumerate(((0, 0), (0, 5), (1, -1), (0, 5))):
        driven(
            ev.ProgramOpened(number, depth, priority=priority),
            ev.PageAdded(number, 1),
            ev.ProgramStarted(number),
        )
    dealt = deals(driven(ev.WorkerReady(0)))
    while deal := next(iter(dealt[:1]), None):
        dealt = dealt[1:] + deals(driven.finish(deal))
    assert [d.chunk.program.number for d in deals(driven.seen)] == [2, 1, 3, 0]


def test_terms_that_are_not_defined_are_refused() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0), ev.TermsDefined(0, 1, JOB))
    with pytest.raises(GraphError, match="terms 2"):
        driven.scheduler.handle(ev.PageAdded(0, 3, terms=2), 0.0)
    with pytest.raises(GraphError, match="terms 3"):
        driven.scheduler.handle(ev.TermsDefined(0, 3, JOB), 0.0)
    driven.scheduler.check()
