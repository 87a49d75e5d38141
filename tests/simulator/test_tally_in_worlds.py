"""What the telemetry counts is what happened, in random worlds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from alamo.core import events as ev
from alamo.core.states import NAMES, PENDING, SKIPPED
from alamo.telemetry.tally import Tally
from simulator import World


def counted(seed: int) -> tuple[World, Tally]:
    """A world that has been run, and what was counted in it."""
    world = World(seed)
    tally, real = Tally(world.scheduler), world.scheduler.handle

    def handle(event: ev.Event, now_s: float) -> list[ev.Effect]:
        tally.before(event, now_s)
        effects = real(event, now_s)
        tally.after(effects)
        check(world, tally)
        return effects

    world.scheduler.handle = handle  # type: ignore[method-assign]
    return world.run(), tally


def check(world: World, tally: Tally) -> None:
    """At any time: no more run than there are unfinished ones."""
    assert 0 <= len(world.scheduler.pool.holding) <= tally.counts.unfinished


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_the_counts_are_those_of_the_world(first: int) -> None:
    total: Counter[str] = Counter()
    for seed in range(first, first + 25):
        world, tally = counted(seed)
        ended: Counter[Any] = Counter()
        for program in world.programs.values():
            for element, state in enumerate(program.state):
                if element not in program.spec.joins and element not in program.spec.gates:
                    if program.is_skipped and state == PENDING and element < program.sent:
                        state = SKIPPED  # the array as a whole is told of, not its elements
                    ended[NAMES[state]] += 1
        counts = tally.counts
        due = (ended["done"], ended["failed"], ended["skipped"], ended["cancelled"])
        assert (counts.done, counts.failed, counts.skipped, counts.cancelled) == due, seed
        assert counts.retried == world.counts.get("again", 0), seed
        assert counts.unfinished == 0, seed
        if not any(program.dropped for program in world.programs.values()):
            assert counts.dropped == 0, seed
        known = sum(counts.buckets)
        assert known <= counts.done + counts.failed + counts.retried
        assert counts.workers_started - counts.workers_died - counts.workers_retired == len(
            world.workers
        )
        total.update(ended)
        total["dropped"] += counts.dropped
    assert all(total[name] for name in ("done", "failed", "skipped", "dropped", "cancelled")), total
