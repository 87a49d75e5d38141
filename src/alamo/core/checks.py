"""What always holds between programs, chunks, gates and workers; for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alamo.core.program import Program
from alamo.core.states import DEALT

if TYPE_CHECKING:
    from alamo.core.scheduler import Scheduler


def check_scheduler(scheduler: Scheduler, queue: Sequence[tuple[tuple[int, int], Program]]) -> None:
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
    assert set(dealt) <= set(scheduler.programs.values())
    for program in scheduler.programs.values():
        program.check()
        assert not program.skipped
        assert not program.opened
        assert program.unfinished or program.growing or not (program.started or program.dropped)
        marked = {e for e, s in enumerate(program.state) if s == DEALT}
        _check_gates(scheduler, program, marked & program.gates.keys())
        marked -= program.gates.keys()
        assert marked == dealt.get(program, set()), (program.number, marked)
        assert program.queued == (len(program.ready) > 0 and not program.paused)
    queued = [p for p in scheduler.programs.values() if p.queued]
    assert sorted(queue) == sorted((p.sort_key, p) for p in queued)


def _check_gates(scheduler: Scheduler, program: Program, open_: set[int]) -> None:
    """An array runs exactly while its gate is open."""
    for gate in open_:
        assert scheduler.programs[program.gates[gate]].started, "a gate without its array"
    if program.gate is not None and program.started:
        outer, gate = program.gate
        assert outer.state[gate] == DEALT, "an array runs and its gate is not open"
