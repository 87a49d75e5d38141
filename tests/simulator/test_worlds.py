"""Random worlds: whatever happens, every program ends as the serial order says.

What is held in each of them, at every step (see sim_truth.py and World.drive):

- an element has one final state, runs at most once after it has begun, and not after its program
  was dropped; killed while running it has failed, not begun on a dead worker it runs elsewhere;
- it begins when all its predecessors have ended, sees of each channel what the serial order
  gives, and nobody writes what it uses meanwhile;
- it is skipped exactly if it needed the output of a failure, and names one that it needed;
- no more workers are dealt to than there are slots, and none idles while work is ready, also
  while slots come and go; in the end there are as many workers as slots;
- an array behind a gate begins when the gate's predecessors have ended, and the gate ends when all
  its elements have; it failed exactly if one of them did, or if it was broken off or dropped;
- no more cores, GPUs, memory or CPUs are in use than there are, each element has what it needs,
  in a worker that was started for that if it asks so;
- one that failed and may be tried again is, and its dependants run as if it had not failed; one
  that runs too long is stopped, when nothing behind it can begin any more; one that was asked to
  be cancelled and has not begun never does, and what comes after it in order alone still waits for
  what was before it;
- a program is done once, and everything comes to an end;
- ``check()`` holds after each event, and the same events give the same effects.
"""

from __future__ import annotations

import functools
import random
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sim_programs import Spec, cut_into_pages, make_program, ranks_of

from alamo.core import (
    attempts,
    chunks,
    dealing,
    events,
    program,
    recalls,
    resources,
    scheduler,
    workers,
)
from alamo.core.edges import INDEX
from alamo.core.scaling import change_slots
from alamo.core.states import PENDING
from simulator import Broken, Settings, World

BLOCK = 50


@functools.cache
def run_block(first: int) -> dict[str, int]:
    """Runs the worlds of so many seeds; returns what happened in them."""
    counts: dict[str, int] = {}
    for seed in range(first, first + BLOCK):
        for what, count in World(seed).run().counts.items():
            counts[what] = counts.get(what, 0) + count
    return counts


@pytest.mark.parametrize("first", range(0, 300, BLOCK))
def test_random_worlds(first: int) -> None:
    run_block(first)


def test_the_worlds_are_eventful() -> None:
    """Each thing that may go wrong does, in a single block of seeds."""
    counts = run_block(0)
    for what in (
        "deaths",
        "ElementLost",
        "fused",
        "skipped",
        "waits",
        "Recall",
        "WakeAt",
        "SpawnWorkers",
        "RetireWorker",
        "cuts",
        "stops at a failure",
        "GateClosed",
        "gates that fail",
        "taken back",
        "granted",
        "bound",
        "again",
        "stops",
        "CancelAsked",
        "cancelled",
    ):
        assert counts.get(what, 0) > 5, (what, counts)


def test_a_seed_makes_one_world() -> None:
    assert World(3).run().answers == World(3).run().answers


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1_000_000, 1_000_000 + 400 * BLOCK, BLOCK))
def test_many_random_worlds(first: int) -> None:
    run_block(first)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100))
def test_large_random_worlds(seed: int) -> None:
    settings = Settings.drawn(random.Random(seed), size=1000)
    settings.check_every = 50
    World(seed, settings).run()


# -- certain worlds --------------------------------------------------------------------


def spec_of(rows: Sequence[Sequence[int]], duration_s: float, depth: int = 0) -> Spec:
    lists = [list(row) for row in rows]
    pages = cut_into_pages(random.Random(0), lists, set())
    ranks = ranks_of(lists, set()) if any(lists) else b""
    return Spec("made", depth, pages, lists, set(), ranks, [duration_s] * len(lists))


def plain(n: int, duration_s: float, depth: int = 0) -> Spec:
    return spec_of([[]] * n, duration_s, depth)


def world(specs: Sequence[Spec], slots: int, **settings: float) -> World:
    made = Settings(slots, len(specs), 0, 3e-5)
    for name, value in settings.items():
        setattr(made, name, value)
    return World(0, made, specs)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 4])
def test_tasks_may_wait_for_their_own_tasks_five_deep_on_any_number_of_slots(
    slots: int, width: int
) -> None:
    def nested(depth: int) -> Spec:
        spec = plain(width if depth < 4 else 1, 1e-4, depth)
        if depth < 5:
            spec.children = {e: [nested(depth + 1)] for e in range(spec.count)}
        return spec

    run = world([nested(0)], slots, check_every=20).run()
    assert run.counts["waits"] >= 5


def test_many_waits_at_once_leave_no_workers_behind() -> None:
    spec = plain(30, 1e-4)
    spec.children = {e: [plain(2, 1e-4, 1)] for e in range(30)}
    run = world([spec], 4).run()
    assert len(run.workers) <= 4 + workers.SPARE_MAX


def test_a_worker_that_dies_again_and_again_delays_and_fails_its_task_alone() -> None:
    spec = plain(40, 1e-3)
    spec.crashes = set(range(0, 40, 2))
    run = world([spec], 3).run()
    assert run.counts["ElementLost"] == 20
    assert run.programs[0].state.count(2) == 20


def test_an_early_failure_skips_a_chain_of_ten_thousand() -> None:
    n = 10_000
    spec = spec_of([[e - 1] if e else [] for e in range(n)], 1e-6)
    spec.fails = {3}
    run = world([spec], 2, check_every=100).run()
    assert run.counts["skipped"] == n - 4


def test_few_workers_with_bindings_come_up() -> None:
    failed = 0
    for seed in range(20):
        settings = Settings.drawn(random.Random(seed), 30)
        settings.terms_share, settings.stillborn_share = 1.0, 0.7
        failed += World(seed, settings).run().counts.get("without a worker", 0)
    assert failed > 20


def test_hundred_thousand_plain_elements_with_kills() -> None:
    run = world([plain(100_000, 4e-6)], 4, kill_every_s=0.01, check_every=10_000).run()
    assert run.counts["deaths"] > 3
    assert run.counts["Deal"] < 1000


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_long_tasks_behind_each_other_are_spread_over_the_slots(slots: int) -> None:
    """Sixteen seconds of tasks are not run by one worker because it was dealt to first."""
    run = world([plain(16, 1.0)], slots).run()
    assert run.programs[0].lasted_s < -(-16 // slots) + 0.1


def test_an_idle_worker_helps_a_busy_one() -> None:
    """Of a hundred short elements one in ten is long, which nobody could know."""
    spec = plain(100, 1e-5)
    for element in range(0, 100, 10):
        spec.durations[element] = 0.5
    run = world([spec], 2).run()
    assert run.programs[0].lasted_s < 10 * 0.5 / 2 + 0.6


def test_a_chain_of_a_thousand_is_run_in_a_few_chunks() -> None:
    run = world([spec_of([[e - 1] if e else [] for e in range(1000)], 4e-6)], 2).run()
    assert run.counts["Deal"] <= 5
    assert run.programs[0].lasted_s < 1.5 * 1000 * 4e-6


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_new_slots_are_used_at_once(slots: int) -> None:
    """Forty seconds of tasks, and after five of them there are so many slots."""
    run = world([plain(40, 1.0)], 4)
    run.after(5.5, lambda: run.scale(slots))
    run.run()
    rest = 40 - 5 * 4
    assert run.programs[0].lasted_s < 5 + -(-rest // slots) + 1.1


# -- the simulator notices -------------------------------------------------------------


def forget_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.Program, "_root", lambda self, element: None)


def fuse_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def fuse(
        program: program.Program, elements: list[int], size: int, is_alike: Any
    ) -> dict[int, int]:
        held, program.held = program.held, set()
        outside = chunks.fuse(program, elements, size, is_alike)
        program.held = held
        return outside

    monkeypatch.setattr(dealing, "fuse", fuse)


def deal_in_excess(monkeypatch: pytest.MonkeyPatch) -> None:
    def next_free(pool: workers.WorkerPool) -> workers.Worker | None:
        return next(iter([*pool.idle.values(), *pool.single.values()]), None)

    monkeypatch.setattr(workers.WorkerPool, "next_free", next_free)


def lose_what_was_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.Program, "give_back", lambda self, elements: None)


def never_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalls.Recalls, "recall", lambda self, worker, all_=False: None)


def leave_behind_what_was_dealt_before_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(pool: workers.WorkerPool, slots: int, recall: Any) -> None:
        change_slots(pool, slots, lambda worker, all_: None)

    monkeypatch.setattr(scheduler, "change_slots", change)


def retire_nobody_after_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.WorkerPool, "take_surplus", lambda pool: [])


def give_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(self: resources.Resources, grant: Any) -> None:
        self.gpus = [0] * len(self.gpus)
        self.memory_used = 0
        self._taken_cpus.clear()

    monkeypatch.setattr(resources.Resources, "release", release)


def give_cores_that_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    original = resources.Resources.grant

    def grant(self: Any, need: Any, free_cores: int, *more: Any) -> Any:
        return original(self, need, free_cores + (free_cores > 0), *more)

    monkeypatch.setattr(resources.Resources, "grant", grant)


def give_bound_work_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dealing, "_suits_plain", lambda need: True)


def forget_who_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.WorkerPool, "_has_come", lambda self, binding: None)


def try_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts.Attempts, "again", lambda self, program, element, now_s: None)


def never_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalls.Recalls, "_look_for_stop", lambda self, worker: None)


def stop_before_what_is_behind_has_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_asked(self: recalls.Recalls, event: events.StopAsked) -> None:
        if event.worker in self._pool.workers:
            self._effects.append(events.StopElement(event.worker, event.seq))

    monkeypatch.setattr(recalls.Recalls, "stop_asked", stop_asked)


def run_what_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalls.Recalls, "stop_cancelled", lambda self, program: None)
    monkeypatch.setattr(program.Program, "_give_back_some", lambda self, e: self.release(list(e)))


def let_successors_of_what_was_cancelled_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(self: program.Program, free: list[int]) -> None:
        for element in free:
            self.held.discard(element)
        original(self, [element for element in free if self.state[element] == PENDING])

    original = program.Program.release
    monkeypatch.setattr(program.Program, "release", release)


def blame_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: scheduler.Scheduler, event: events.WorkerLost) -> None:
        event.running = False
        original(self, event)

    original = scheduler.Scheduler._on_worker_lost
    monkeypatch.setattr(scheduler.Scheduler, "_on_worker_lost", lost)


def take_order_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_page(
        self: program.Program, count: int, ends: bytes, preds: bytes, *more: Any, terms: Any = 0
    ) -> None:
        plain = array("I", [entry & INDEX for entry in array("I", preds)])
        original(self, count, ends, plain.tobytes(), *more[:2], *(more[2:] or (terms,)))

    original = program.Program.add_page
    monkeypatch.setattr(program.Program, "add_page", add_page)


def open_gates_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_page_added(self: scheduler.Scheduler, event: events.PageAdded) -> None:
        original(self, event)
        for _, inner in event.gates:
            if inner in self.programs:
                self.programs[inner].start(b"")

    original = scheduler.Scheduler._on_page_added
    monkeypatch.setattr(scheduler.Scheduler, "_on_page_added", on_page_added)


def close_gates_without_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    def close_gate(inner: program.Program, effects: Any) -> list[program.Program]:
        inner.spoiled = False
        return original(inner, effects)

    original = scheduler.close_gate
    monkeypatch.setattr(scheduler, "close_gate", close_gate)


def end_arrays_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = property(lambda self: self.unfinished == 0 and (self.started or self.dropped))
    monkeypatch.setattr(program.Program, "has_ended", ended)


@pytest.mark.parametrize(
    "sabotage",
    [
        open_gates_at_once,
        close_gates_without_failures,
        end_arrays_that_grow,
        forget_failures,
        fuse_anything,
        deal_in_excess,
        lose_what_was_taken_back,
        never_recall,
        leave_behind_what_was_dealt_before_a_cut,
        retire_nobody_after_a_cut,
        blame_nobody,
        give_what_is_in_use,
        give_cores_that_are_in_use,
        give_bound_work_to_anybody,
        forget_who_is_awaited,
        try_nothing_again,
        never_stop,
        stop_before_what_is_behind_has_come_back,
        run_what_was_cancelled,
        let_successors_of_what_was_cancelled_go,
        take_order_for_data,
    ],
)
def test_the_simulator_notices(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with `check()` switched off: the truth is the world's, not the scheduler's."""
    sabotage(monkeypatch)
    monkeypatch.setattr(scheduler.Scheduler, "check", lambda self: None)
    with pytest.raises(Broken, match="seed"):
        [World(seed).run() for seed in range(200)]


def test_a_failure_prints_its_seed_and_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.WorkerPool, "next_free", lambda self: None)
    with pytest.raises(Broken, match=r"(?s)^seed 0: STALL.*ProgramStarted.*seed 0: STALL"):
        world([plain(1, 1.0)], 1).run()


def test_random_programs_have_all_that_programs_may_have() -> None:
    """Pages without edges between others, empty pages, joins, both kinds of edges, growth."""
    specs = [make_program(random.Random(seed), 60) for seed in range(200)]
    edges = [entry for spec in specs for row in spec.rows for entry in row]
    assert {entry >= program.ORDER_ONLY for entry in edges} == {False, True}
    assert any(spec.joins for spec in specs if spec.kind == "access")
    assert any(spec.growth for spec in specs)
    assert any(spec.count == 0 for spec in specs)
    arrays = [array for spec in specs for array in spec.gates.values()]
    assert {array.breaks_off for array in arrays} == {False, True}
    assert {bool(array.count) for array in arrays} == {False, True}
    assert any(array.growth for array in arrays)
    assert any(array.fails for array in arrays)
    assert any(page[0] == 0 for spec in specs for page in spec.pages)
    mixed = [{bool(page[1]) for page in spec.pages if page[0]} for spec in specs]
    assert {False, True} in mixed
