"""The protocol of leases in a world of arbitrary delays, late stores and kills.

Consumers are generators that yield before each step; between any two steps time passes, others
run, or the consumer dies.  A transaction is a step.  A store to shared memory becomes visible to
others some time later, less than the grace.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alamo.core import leases
from alamo.core.leases import Lease

#: A store is visible at the latest after this.
INVISIBLE_NS = leases.GRACE_NS - 1

Steps = Generator[None, None, None]


class World:
    """The line, the shared words, the clock, and what became of the messages."""

    def __init__(self, count: int, slots: int, delays: Iterator[int]) -> None:
        self.line = list(range(count))
        self.lease: Lease | None = None
        self.generation = 0
        self.taken_back: dict[int, int] = {}
        self.now_ns = 0
        self.delays = delays
        #: By slot: stores as (when visible, word), oldest first.
        self.stores: list[list[tuple[int, int]]] = [[(0, 0)] for _ in range(slots)]
        self.delivered: list[tuple[int, int]] = []

    def store(self, slot: int, value: int) -> None:
        visible_ns = max(self.now_ns + next(self.delays) % INVISIBLE_NS, self.stores[slot][-1][0])
        self.stores[slot].append((visible_ns, value))

    def load(self, slot: int, own: bool = False) -> int:
        return [v for when, v in self.stores[slot] if own or when <= self.now_ns][-1]


class Consumer:
    """One process that gets messages, as the store does it."""

    def __init__(self, world: World, slot: int, sizes: Iterator[int]) -> None:
        self.world = world
        self.slot = slot
        self.sizes = sizes
        self.lease: Lease | None = None
        self.leased: list[int] = []
        self.next = 0

    def run(self) -> Steps:
        """Get until the line is empty."""
        while self.world.line:
            yield from self.get()

    def get(self) -> Steps:
        world, pending = self.world, None
        if self.lease is not None and self.next < self.lease.size:
            pending = self.leased[self.next]
            self.next += 1
            yield
            world.store(self.slot, leases.word(self.lease.generation, self.next))
            yield
            now_ns = world.now_ns
            yield
            if now_ns < self.lease.end_ns:
                world.delivered.append((self.slot, pending))
                return
        yield
        now_ns = world.now_ns
        yield
        message = self.transact(pending, now_ns)
        yield
        if message is not None:
            world.delivered.append((self.slot, message))

    def transact(self, pending: int | None, now_ns: int) -> int | None:
        """The transaction of a get that leases cannot serve."""
        world, message = self.world, None
        if self.lease is not None:
            stored = leases.word(self.lease.generation, self.next)
            if leases.settle(world.lease, world.taken_back.pop(self.slot, None), stored):
                message = pending
            if world.lease is not None and world.lease.generation == self.lease.generation:
                del world.line[: self.next]
                world.lease = None
            self.lease = None
        if world.lease is not None:
            seen = world.load(world.lease.slot)
            if not leases.may_take_back(world.lease, seen, now_ns):
                return message
            handed_out = world.lease.handed_out(seen)
            slot, generation = world.lease.slot, world.lease.generation
            world.taken_back[slot] = leases.word(generation, handed_out)
            del world.line[:handed_out]
            world.lease = None
        if message is None and world.line:
            message = world.line.pop(0)
        count = min(next(self.sizes), len(world.line))
        if count:
            world.generation += 1
            end_ns = now_ns + leases.LENGTH_NS
            self.lease = Lease(world.generation, self.slot, count, end_ns)
            world.lease, self.next, self.leased = self.lease, 0, world.line[:count]
        return message


CONSUMERS = 3
#: Where a lease and its grace end is where it matters what time it is.
PASSES = [0, 1_000, leases.GRACE_NS // 2, leases.GRACE_NS, leases.LENGTH_NS - leases.GRACE_NS // 2]
PASSES += [leases.LENGTH_NS - 1_000, leases.LENGTH_NS, leases.LENGTH_NS + leases.GRACE_NS]
STEP = st.tuples(st.just("step"), st.integers(0, CONSUMERS - 1), st.integers(1, 7))
PASS = st.tuples(st.just("pass"), st.just(0), st.sampled_from(PASSES))
KILL = st.tuples(st.just("kill"), st.integers(0, CONSUMERS - 1), st.just(0))
ACTIONS = st.one_of(STEP, STEP, PASS, PASS, KILL)


def forever(values: list[int]) -> Iterator[int]:
    while True:
        yield from values


@settings(max_examples=250)
@given(
    st.lists(ACTIONS, min_size=10, max_size=45),
    st.lists(st.sampled_from([0, INVISIBLE_NS - 1]), min_size=1, max_size=5),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
)
def test_each_message_once_in_order_and_one_lost_a_kill(
    actions: list[tuple[str, int, int]], delays: list[int], sizes: list[int]
) -> None:
    count = 15
    world = World(count, CONSUMERS + 1, forever(delays))
    running: dict[int, Any] = {
        slot: Consumer(world, slot, forever(sizes)).run() for slot in range(CONSUMERS)
    }
    kills = 0
    for kind, slot, amount in actions:
        if kind == "pass":
            world.now_ns += amount
        elif kind == "kill":
            kills += running.pop(slot, None) is not None
        elif slot in running:
            for _ in range(amount):
                world.now_ns += 100
                if next(running[slot], "end") == "end":
                    break
    # Whoever lives goes on until the line is empty, and one more comes.
    running[CONSUMERS] = Consumer(world, CONSUMERS, forever(sizes)).run()
    while running:
        for slot in list(running):
            world.now_ns += 200_000
            if next(running[slot], "end") == "end":
                del running[slot]
    messages = [message for _, message in world.delivered]
    assert len(set(messages)) == len(messages)
    assert len(messages) >= count - kills
    for slot in range(CONSUMERS + 1):
        own = [message for by, message in world.delivered if by == slot]
        assert own == sorted(own)


def test_a_word_of_another_generation_counts_nothing() -> None:
    lease = Lease(generation=7, slot=0, size=3, end_ns=100)
    assert lease.handed_out(leases.word(7, 2)) == 2
    assert lease.handed_out(leases.word(6, 2)) == 0
    assert lease.handed_out(0) == 0


def test_when_a_lease_may_be_taken_back() -> None:
    lease = Lease(generation=1, slot=0, size=3, end_ns=1000)
    late_ns = 1000 + leases.GRACE_NS
    assert not leases.may_take_back(lease, leases.word(1, 2), late_ns - 1)
    assert leases.may_take_back(lease, leases.word(1, 2), late_ns)
    assert leases.may_take_back(lease, leases.word(1, 3), 0)


def test_sizes_follow_the_pace() -> None:
    assert leases.next_size(1, 100_000) == 10
    assert leases.next_size(64, 64_000) == 64
    assert leases.next_size(8, leases.LENGTH_NS) == 4
    assert leases.next_size(1, leases.LENGTH_NS) == 1
    assert leases.next_size(64, 10**12) == 1
    assert leases.next_size(1, 0) == 64
    assert leases.next_size(0, 0) == 1


def test_a_late_store_is_waited_for() -> None:
    """The owner's store is seen by others late, just before the end of the lease."""
    world = World(3, 2, forever([INVISIBLE_NS - 1]))
    owner = Consumer(world, 0, forever([2]))
    for _ in owner.get():
        pass
    world.now_ns = leases.LENGTH_NS - 10
    for _ in owner.get():
        pass
    assert [message for _, message in world.delivered] == [0, 1]
    other = Consumer(world, 1, forever([1])).run()
    end_ns = leases.LENGTH_NS + 2 * leases.GRACE_NS
    while next(other, "end") != "end" and world.now_ns < end_ns:
        world.now_ns += 7_000
    assert [message for _, message in world.delivered] == [0, 1, 2]
