"""What always holds between programs, chunks, gates and workers; for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alamo.core.edges import INDEX
from alamo.core.program import Program
from alamo.core.states import CANCELLED, DEALT, DONE, FAILED, PENDING

if TYPE_CHECKING:
    from alamo.core.scheduler import Scheduler


def check_scheduler(scheduler: Scheduler) -> None:
    """Assert every invariant that ties them together.  Cost: O(elements + edges)."""
    scheduler.pool.check()
    dealt: dict[Program, set[int]] = {}
    for worker in scheduler.pool.workers.values():
        for chunk in worker.chunks:
            here = set(chunk.elements[chunk.done :])
            assert here, chunk
            there = dealt.setdefault(chunk.program, set())
            assert not here & there, "an element is dealt twice"
            there |= here
            for element in here:
                assert chunk.program.terms_of(element).need == worker.need, "a wrong grant"
    assert set(dealt) <= set(scheduler.programs.values())
    for program in scheduler.programs.values():
        check_program(program)
        assert not program.skipped
        assert not program.cancelled
        assert not program.opened
        begun = program.started or program.dropped or program.called_off
        assert program.unfinished or program.growing or not begun
        marked = {e for e, s in enumerate(program.state) if s == DEALT}
        _check_gates(scheduler, program, marked & program.gates.keys())
        marked -= program.gates.keys()
        assert marked == dealt.get(program, set()), (program.number, marked)
        assert program.cancelling <= marked
    _check_queues(scheduler)


def _check_queues(scheduler: Scheduler) -> None:
    """What is ready and not paused is queued, once."""
    plain, lanes = [], []
    for program in scheduler.programs.values():
        assert program.queued == (len(program.ready) > 0 and not program.paused)
        if program.queued:
            plain.append((program.sort_key, program))
        for lane in program.lanes.all if program.lanes is not None else ():
            assert lane.queued == (len(lane.ready) > 0 and not program.paused)
            if lane.queued:
                lanes.append((program.sort_key, program, lane))
    assert sorted(scheduler.queues.plain) == sorted(plain)
    queued = [entry for queue in scheduler.queues.by_need.values() for entry in queue]
    assert len(queued) == len(lanes)
    assert {id(lane) for _, _, lane in queued} == {id(lane) for _, _, lane in lanes}
    for need, queue in scheduler.queues.by_need.items():
        assert queue
        assert all(lane.need == need for _, _, lane in queue)


def _check_gates(scheduler: Scheduler, program: Program, open_: set[int]) -> None:
    """An array runs exactly while its gate is open."""
    for gate in open_:
        assert scheduler.programs[program.gates[gate]].started, "a gate without its array"
    if program.gate is not None and program.started:
        outer, gate = program.gate
        assert outer.state[gate] == DEALT, "an array runs and its gate is not open"


def check_program(program: Program) -> None:
    """Assert the invariants of one program that need no knowledge of chunks."""
    state, waiting = program.state, program.waiting
    open_ = {e for e, s in enumerate(state) if s < DONE}
    assert len(state) == program.count
    assert program.unfinished == len(open_) or (program.called_off and not program.started)
    ready = set(_ready(program))
    assert len(ready) == len(program.ready) + (len(program.lanes) if program.lanes else 0)
    resting = set(program.resting)
    assert all(state[e] == PENDING for e in resting)
    assert ready.isdisjoint(resting)
    if not program.started or program.dropped:
        assert not ready
    else:
        free = {e for e in open_ if state[e] == PENDING and not (waiting and waiting[e])}
        assert ready == free - resting, (ready, free, resting)
        assert program.held.isdisjoint(ready)
    if program.lanes is not None:
        assert all(program.lanes.lane_of(e) is None for e in program.ready.elements())
        for lane in program.lanes.all:
            assert all(program.lanes.lane_of(e) is lane for e in lane.ready.elements())
    _check_waiting(program, open_)
    assert not any(state[e] in (DEALT, FAILED) for e in program.joins)


def _check_waiting(program: Program, open_: set[int]) -> None:
    """Each waits for as many as it has predecessors that are open, or cancelled and not closed."""
    state, waiting = program.state, program.waiting
    # One that was cancelled holds back what comes after it until all before it has ended.
    unclosed = {e for e in program.held if state[e] == CANCELLED} if program.started else set()
    for first, rows in program.rows():
        for element, before in enumerate(rows, first):
            if state[element] >= DONE and element not in unclosed:
                continue
            # Once in a chunk that finishes as a whole the counts stay as they were.
            left = sum([e & INDEX in open_ or e & INDEX in unclosed for e in before])
            if program.started:
                assert waiting[element] == left, (element, before)


def _ready(program: Program) -> list[int]:
    """All ready elements."""
    ready = list(program.ready.elements())
    for lane in program.lanes.all if program.lanes is not None else ():
        ready += lane.ready.elements()
    return ready
