"""Why an element has not run."""

from __future__ import annotations

from driven import ORDER, Driven, chain, deals
from test_scheduler_needs import submit

from alamo.core import events as ev
from alamo.core.explain import Account, account
from alamo.core.terms import Need, Terms


def tell(driven: Driven, number: int, element: int) -> Account:
    told = account(driven.scheduler, number, element)
    assert told is not None
    return told


def test_what_has_to_end_first_is_named_through_joins() -> None:
    driven = Driven(1)
    rows = [[], [], [0, 1], [2], [3 | ORDER]]
    driven.program(0, rows, joins=(2,))
    assert tell(driven, 0, 3) == Account("waiting", (0, 1), 2)
    assert tell(driven, 0, 4) == Account("waiting", (3,), 1)


def test_only_some_of_many_are_named() -> None:
    driven = Driven(1, up=0)
    driven.program(0, [*([] for _ in range(50)), list(range(50))])
    told = tell(driven, 0, 50)
    assert told.waits_for == tuple(range(20))
    assert told.waits_for_count == 50


def test_what_was_cancelled_is_looked_through() -> None:
    driven = Driven(1, up=0)
    driven.program(0, [[], [0 | ORDER], [1 | ORDER]])
    driven(ev.CancelAsked(0, [1]))
    assert tell(driven, 0, 1).state == "cancelled"
    assert tell(driven, 0, 2).waits_for == (0,)


def test_many_joins_in_a_row_are_no_recursion() -> None:
    driven = Driven(1)
    n = 5000
    driven.program(0, chain(n), joins=tuple(range(1, n - 1)))
    assert tell(driven, 0, n - 1).waits_for == (0,)


def test_what_lies_at_a_worker_runs_or_is_next() -> None:
    driven = Driven(1)
    first, _ = deals(driven.program(0, 100))
    assert tell(driven, 0, 0) == Account("running", worker=0)
    assert tell(driven, 0, 3) == Account("ready", ahead=3, worker=0)
    driven(ev.ChunkFinished(0, first.chunk.number, 1, (0,), 1e-6))
    assert tell(driven, 0, 0).state == "failed"
    assert tell(driven, 0, 1).state == "running"


def test_ready_ones_know_how_many_go_first() -> None:
    driven = Driven(1, up=0)
    driven.program(0, 7)
    driven.program(1, [[], [], []], ranks=[1, 3, 2])
    told = tell(driven, 1, 0)
    assert (told.state, told.ahead) == ("ready", 9)
    driven(ev.ProgramPaused(1))
    assert tell(driven, 1, 0).state == "paused"


def test_what_is_lacking_and_who_holds_it() -> None:
    driven = Driven(2)
    driven(ev.MachineFound(gpus=1))
    gpu = Terms(Need(1, 1000))
    submit(driven, 3, 2, gpu)
    told = tell(driven, 3, 1)
    assert told.lacks == (("GPUs", 1000, 0),)
    assert told.holders == ((3, 0),)
    submit(driven, 4, 1, Terms(Need(2)))
    assert tell(driven, 4, 0).lacks == (("cores", 2, 1),)
    assert tell(driven, 4, 0).holders == ((3, 0),)


def test_what_is_kept_for_an_older_one_is_held_by_that() -> None:
    driven = Driven(4)
    driven.program(0, 1)
    submit(driven, 1, 1, Terms(Need(4)))
    driven.program(2, 1)
    told = tell(driven, 2, 0)
    assert (told.state, told.ahead) == ("held", 1)
    assert told.lacks == (("cores", 1, 0),)
    assert told.holders == ((1, 0), (0, 0))


def test_what_the_machine_does_not_have() -> None:
    driven = Driven(2)
    submit(driven, 0, 1, Terms(Need(3)))
    assert tell(driven, 0, 0) == Account("held", lacks=(("cores", 3, 2),))


def test_attempts_and_backoff() -> None:
    driven = Driven(1)
    (deal,) = deals(submit(driven, 0, 1, Terms(retries=2, backoff_s=5.0)))
    driven.now_s = 1.0
    driven(ev.ChunkFinished(0, deal.chunk.number, 1, (0,), 1.0, again=(0,)))
    assert tell(driven, 0, 0) == Account("backing off", attempt=2, retry_at_s=6.0)
    driven.now_s = 6.0
    driven(ev.Woken())
    assert tell(driven, 0, 0) == Account("running", attempt=2, worker=0)


def test_what_has_not_started_and_what_is_unknown() -> None:
    driven = Driven(1)
    driven(ev.ProgramOpened(0), ev.PageAdded(0, 1))
    assert tell(driven, 0, 0) == Account("not started")
    assert account(driven.scheduler, 0, 1) is None
    assert account(driven.scheduler, 5, 0) is None


def test_a_worker_that_is_being_started_is_no_lack() -> None:
    driven = Driven(1)
    driven(ev.MachineFound(cpus=(0,)))
    submit(driven, 0, 1, Terms(Need(pinned=True, bound=True)))
    assert tell(driven, 0, 0) == Account("ready")
