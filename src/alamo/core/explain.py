"""How it stands with an element, and why it has not run."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from alamo.core.edges import INDEX
from alamo.core.lanes import Lane
from alamo.core.program import Program
from alamo.core.resources import Kept
from alamo.core.states import CANCELLED, DEALT, DONE, FAILED, PENDING, SKIPPED
from alamo.core.terms import ONE_CORE, Need
from alamo.core.workers import Worker

if TYPE_CHECKING:
    from alamo.core.scheduler import Scheduler

#: Elements named in an account, at most.
_NAMED_MAX = 20

_ENDED = {DONE: "done", FAILED: "failed", SKIPPED: "skipped", CANCELLED: "cancelled"}


class Account(msgspec.Struct, frozen=True, gc=False):
    """How it stands with an element.

    Attributes:
        state: "not started" (its program is still being sent), "waiting" for others,
            "backing off" before another attempt, "paused" (its client has not taken its results),
            "ready", "held" (ready, and lacks something), "running", "done", "failed", "skipped"
            or "cancelled".  Of what lies at a worker the first that is not reported runs, and what
            lies behind it is ready: reports come some milliseconds late.
        waits_for: unfinished elements of the program that have to end first, up to 20;
            ``waits_for_count``: how many there are.
        lacks: (kind, wanted, free), as ``Resources.lacking`` tells them.
        holders: (program, element) of those that hold what it lacks, or for which it is kept.
        ahead: ready elements that go first.
        attempt: the attempt that runs or comes next, or was the last.
        retry_at_s: when the next attempt may begin, on the clock of ``Scheduler.handle``; or 0.
        worker: where it runs or lies; or -1.
    """

    state: str
    waits_for: tuple[int, ...] = ()
    waits_for_count: int = 0
    lacks: tuple[tuple[str, int, int], ...] = ()
    holders: tuple[tuple[int, int], ...] = ()
    ahead: int = 0
    attempt: int = 1
    retry_at_s: float = 0.0
    worker: int = -1


def account(scheduler: Scheduler, number: int, element: int) -> Account | None:
    """How it stands with an element of the program; ``None`` if there is no such, or no more.

    Cost: O(edges before it) where it waits, O(programs + elements of its program that are ready)
    where it is ready.

    Example:
        >>> from alamo.core import events as ev
        >>> from alamo.core.scheduler import Scheduler
        >>> s = Scheduler(slots=1)
        >>> _ = s.handle(ev.ProgramOpened(7), 0.0), s.handle(ev.PageAdded(7, count=3), 0.0)
        >>> account(s, 7, 2).state
        'not started'
    """
    program = scheduler.programs.get(number)
    if program is None or not 0 <= element < program.count:
        return None
    attempt = program.attempts.get(element, 0) + 1
    state = program.state[element]
    if state in _ENDED:
        return Account(_ENDED[state], attempt=attempt)
    if not program.started:
        return Account("not started")
    if element in program.resting:
        return Account("backing off", attempt=attempt, retry_at_s=program.resting[element])
    if element in program.gates and state == DEALT:
        return _of_gate(scheduler, program, element)
    if state == DEALT:
        return _of_dealt(scheduler, program, element, attempt)
    if program.waiting and program.waiting[element]:
        waits_for = _unfinished_before(program, element)
        return Account("waiting", waits_for[:_NAMED_MAX], len(waits_for), attempt=attempt)
    if program.paused:
        return Account("paused", attempt=attempt)
    return _of_ready(scheduler, program, element, attempt)


def _of_gate(scheduler: Scheduler, program: Program, element: int) -> Account:
    """An array that has begun runs as long as an element of it does."""
    inner = scheduler.programs.get(program.gates[element])
    if inner is None or DEALT in inner.state:
        return Account("running")
    return Account("paused" if inner.paused else "ready")


def _of_dealt(scheduler: Scheduler, program: Program, element: int, attempt: int) -> Account:
    for worker in scheduler.pool.holding.values():
        for k, chunk in enumerate(worker.chunks):
            if chunk.program is not program or element not in chunk.elements[chunk.done :]:
                continue
            ahead = sum([len(c.elements) - c.done for c in worker.chunks[:k]])
            ahead += list(chunk.elements[chunk.done :]).index(element)
            if ahead and program.waiting and program.waiting[element]:  # fused, behind those
                waits_for = _unfinished_before(program, element)
                return Account("waiting", waits_for[:_NAMED_MAX], len(waits_for), attempt=attempt)
            state = "ready" if ahead else "running"
            return Account(state, ahead=ahead, attempt=attempt, worker=worker.number)
    raise AssertionError("an element is dealt to nobody")


def _unfinished_before(program: Program, element: int) -> tuple[int, ...]:
    """What has to end before the element, joins and what was cancelled being looked through."""
    seen = {element}
    found = []
    queue = deque([element])
    state = program.state
    while queue:
        for entry in program.predecessors_of(queue.popleft()):
            before = entry & INDEX
            if before in seen:
                continue
            seen.add(before)
            if before in program.joins or state[before] == CANCELLED:
                if state[before] in (PENDING, CANCELLED):
                    queue.append(before)
            elif state[before] < DONE:
                found.append(before)
    return tuple(sorted(found))


def _of_ready(scheduler: Scheduler, program: Program, element: int, attempt: int) -> Account:
    lane = program.lanes.lane_of(element) if program.lanes is not None else None
    need = ONE_CORE if lane is None else lane.need
    kept, keepers = _kept_for_older(scheduler, program, need)
    pool = scheduler.pool
    lacks = pool.resources.lacking(need, pool.slots - pool.running, kept)
    if not pool.resources.can_ever(need, pool.slots):
        return Account("held", lacks=tuple(lacks), attempt=attempt)
    ahead = _ahead(scheduler, program, lane, element)
    if not lacks or any(awaited.need == need for awaited in pool.awaited):
        return Account("ready", ahead=ahead, attempt=attempt)
    kinds = {kind for kind, _, _ in lacks}
    holders = [*keepers, *(h for w in pool.holding.values() for h in _held_by(w, kinds))]
    holders = list(dict.fromkeys(holders))[:_NAMED_MAX]
    return Account("held", lacks=tuple(lacks), holders=tuple(holders), ahead=ahead, attempt=attempt)


def _kept_for_older(
    scheduler: Scheduler, program: Program, need: Need
) -> tuple[Kept, list[tuple[int, int]]]:
    """What is set aside for others that go first, and for whom."""
    kept = Kept()
    keepers: list[tuple[int, int]] = []
    pool, queues = scheduler.pool, scheduler.queues
    for _, _, _, other in queues.heads(scheduler.chunks_dealt):
        if (other or ONE_CORE) == need:
            break
        if other is None or not pool.resources.can_ever(other, pool.slots):
            continue
        if pool.resources.lacking(other, pool.slots - pool.running, kept):
            pool.resources.keep(other, pool.slots - pool.running, kept)
            _, first, lane = queues.by_need[other][0]
            keepers.append((first.number, next(iter(lane.ready.elements()))))
    return kept, keepers if kept.touches(need) else []


def _held_by(worker: Worker, kinds: set[str]) -> list[tuple[int, int]]:
    """The element that runs in the worker, if it holds some of these kinds."""
    if not worker.chunks:
        return []
    grant = worker.grant
    has = {"cores"} if not worker.blocked else set()
    if grant is not None:
        has |= {"GPUs"} if grant.gpus else set()
        has |= {"memory"} if grant.memory_bytes else set()
        has |= {"CPUs"} if grant.cpus else set()
    chunk = worker.chunks[0]
    return [(chunk.program.number, chunk.elements[chunk.done])] if has & kinds else []


def _ahead(scheduler: Scheduler, program: Program, lane: Lane | None, element: int) -> int:
    """Ready elements that are dealt before this one: of programs that go first, and of its own."""
    count = 0
    for other in scheduler.programs.values():
        if other.sort_key < program.sort_key and not other.paused and other.started:
            count += len(other.ready) + (len(other.lanes) if other.lanes is not None else 0)
    return count + (program.ready if lane is None else lane.ready).before(element)
