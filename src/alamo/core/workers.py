"""The workers as the scheduler sees them: what each holds, who may be dealt more.

A worker whose task waits for other tasks, or for data that others bring, is *blocked*: it keeps
its process but lends its slot, so another worker may run in its place.  When it goes on there is
one more running than there are slots for a moment; nothing new is dealt until that has passed.

There are as many *plain* workers as slots.  A worker that was started for a binding of its own
comes on demand: what it will run has been granted before, and is kept until it is ready.
"""

from __future__ import annotations

import msgspec

from alamo.core.chunks import Chunk
from alamo.core.resources import Kept, Resources, binding_of, suits
from alamo.core.terms import ONE_CORE, PLAIN, Binding, Grant, Need

#: Chunks a worker may hold: one to run and one to go on with while the report travels.
CHUNKS_MAX = 2
#: Idle workers kept beyond the slots, so that nested waits do not start a process each time.
SPARE_MAX = 2
#: Workers that may stand still in a wait at once; each is a process of some 15 MB.
LENT_MAX = 1000


class Worker:
    """One worker process.

    Attributes:
        chunks: dealt and not yet reported whole, in the order of running.
        next_seq: the sequence number that its next element gets.
        blocked: waits in which its task stands still: for shared data, for tasks of its own, of
            which it may have several clients, and children with clients of their own.
        recalling: work is being taken back; nothing may be dealt before it confirms.
        recalling_all: what is being taken back is everything behind the running element.
        settled: what was to be taken back has been: nothing behind the last that it holds begins.
        exhausted: it has begun all that it holds, as a recall has shown, and not reported all.
        stopping: sequence number of the element that is to be stopped, or -1; nothing is dealt
            before that has ended.  stop_told: the effect has gone out.
        binding: what it was started for.
        need, grant, cores: what its chunks need, what it has been given for all of them and how
            many slots that takes; ``ONE_CORE`` and ``None`` while it holds no chunk.
    """

    __slots__ = (
        "_idles",
        "_place",
        "_runs",
        "_singles",
        "binding",
        "blocked",
        "chunks",
        "cores",
        "exhausted",
        "grant",
        "need",
        "next_seq",
        "number",
        "recalling",
        "recalling_all",
        "settled",
        "stop_told",
        "stopping",
    )

    def __init__(
        self,
        number: int,
        binding: Binding,
        idles: dict[int, Worker],
        singles: dict[int, Worker],
    ) -> None:
        self.number = number
        self.binding = binding
        self.need = ONE_CORE
        self.grant: Grant | None = None
        self.cores = 1
        self.chunks: list[Chunk] = []
        self.next_seq = 0
        self.blocked = 0
        self.recalling = False
        self.recalling_all = False
        self.settled = False
        self.exhausted = False
        self.stopping = -1
        self.stop_told = False
        # Where the pool puts it when it may be dealt, and where it has put it.
        self._idles = idles
        self._singles = singles
        self._place: dict[int, Worker] | None = None
        self._runs = False

    def chunk(self, number: int) -> Chunk | None:
        """The chunk of that number, if the worker still holds it."""
        for chunk in self.chunks:
            if chunk.number == number:
                return chunk
        return None

    @property
    def load(self) -> int:
        """Elements that it holds and has not reported."""
        return sum(len(c.elements) - c.done for c in self.chunks)

    @property
    def behind_running(self) -> int:
        """Elements that it holds behind the one that may be running."""
        return max(0, self.load - 1)


class Awaited(msgspec.Struct, frozen=True, gc=False):
    """A worker that is being started for a binding, and what is kept for it."""

    need: Need
    binding: Binding
    grant: Grant


class WorkerPool:
    """All workers, and the rule of who is dealt the next chunk.

    Attributes:
        resources: what the machine has besides slots.
        holding: workers that hold chunks.
        idle: plain workers that hold nothing and may be dealt; warm: likewise, those with a
            binding of their own, the longest idle first.
        single: workers that hold one chunk for one core and may be dealt another; alike:
            likewise, those whose chunk needs more, which may be dealt another of the same need.
        running: slots in use.
        bound: workers with a binding of their own; awaited: those that are being started.
        blocked: workers that stand still in a wait.
        spare: idle workers kept beyond the slots.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.resources = Resources()
        self.workers: dict[int, Worker] = {}
        self.holding: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        self.warm: dict[int, Worker] = {}
        self.single: dict[int, Worker] = {}
        self.alike: dict[int, Worker] = {}
        self.running = 0
        self.bound = 0
        self.awaited: list[Awaited] = []
        #: Bindings for which no worker will come up, until one does.
        self._hopeless: set[Binding] = set()
        self.blocked = 0
        self._blocked_bound = 0
        self.spare = SPARE_MAX
        #: Workers that were asked for and are not ready yet; the first ``slots`` are
        #: started by whoever made the scheduler.
        self.starting = slots

    def add(self, number: int, binding: Binding = PLAIN) -> None:
        """A worker is ready."""
        if number in self.workers:
            return
        self._has_come(binding)
        self._hopeless.discard(binding)
        is_plain = binding == PLAIN
        self.bound += not is_plain
        idles = self.idle if is_plain else self.warm
        self.workers[number] = worker = Worker(number, binding, idles, self.single)
        self.place(worker)

    def _has_come(self, binding: Binding) -> None:
        """One that was being started is ready, or will never be."""
        if binding == PLAIN:
            self.starting = max(0, self.starting - 1)
            return
        for k, awaited in enumerate(self.awaited):
            if awaited.binding == binding:
                del self.awaited[k]
                self.running -= awaited.grant.cores
                self.resources.release(awaited.grant)
                return

    def remove(self, number: int, binding: Binding = PLAIN) -> Worker | None:
        """A worker is gone; returns it with the chunks that it held.

        Args:
            binding: what it was being started for, if it had not been ready.
        """
        worker = self.workers.pop(number, None)
        if worker is None:
            self._has_come(binding)
            return None
        if worker._runs:
            self.running -= worker.cores
        is_bound = worker.binding != PLAIN
        self.bound -= is_bound
        if worker.blocked:
            self.blocked -= 1
            self._blocked_bound -= is_bound
        self.holding.pop(number, None)
        if worker._place is not None:
            del worker._place[number]
        if worker.grant is not None:
            self.resources.release(worker.grant)
        return worker

    def give_up(self, binding: Binding) -> Need | None:
        """No worker will come up for this binding, for which one is awaited.

        Returns:
            The need for which there is no other worker either, nor will be; ``None``: there is, or
            nothing is awaited.
        """
        self._hopeless.add(binding)
        need = next((a.need for a in self.awaited if a.binding == binding), None)
        if need is None or any(suits(worker.binding, need) for worker in self.workers.values()):
            return None
        others = [a.binding for a in self.awaited if a.need == need]
        return need if self._hopeless.issuperset(others) else None

    def seat(self, worker: Worker, need: Need, grant: Grant) -> None:
        """An idle worker is about to be dealt chunks of this need, and has been given that."""
        worker.need, worker.grant, worker.cores = need, grant, need.cores
        worker._singles = self.alike

    def _vacate(self, worker: Worker, grant: Grant) -> None:
        self.resources.release(grant)
        worker.need, worker.grant, worker.cores = ONE_CORE, None, 1
        worker._singles = self.single

    def grant(self, need: Need, kept: Kept, binding: Binding | None = None) -> Grant | None:
        """Take what is needed if it is to be had; see ``Resources.grant``."""
        return self.resources.grant(need, self.slots - self.running, kept, binding)

    def could(self, need: Need) -> bool:
        """Whether what is needed is free now."""
        return not self.resources.lacking(need, self.slots - self.running)

    def expect(self, need: Need, grant: Grant) -> Binding:
        """A worker will be started for this; what it has been given is kept for it."""
        awaited = Awaited(need, binding_of(grant), grant)
        self.awaited.append(awaited)
        self.running += grant.cores
        return awaited.binding

    def place(self, worker: Worker) -> None:
        """Put a worker where it belongs after its chunks or flags changed.  Cost: O(1)."""
        held = len(worker.chunks)
        if not held:
            self.holding.pop(worker.number, None)
        elif held == 1:
            self.holding[worker.number] = worker
        runs = held > 0 and not worker.blocked
        if runs is not worker._runs:
            worker._runs = runs
            self.running += worker.cores if runs else -worker.cores
        if not held and worker.grant is not None:
            self._vacate(worker, worker.grant)
        place = None
        if (
            held < CHUNKS_MAX
            and not worker.blocked
            and not worker.recalling
            and worker.stopping < 0
        ):
            place = worker._singles if held else worker._idles
        if place is not worker._place:
            if worker._place is not None:
                del worker._place[worker.number]
            if place is not None:
                place[worker.number] = worker
            worker._place = place

    def block(self, worker: Worker) -> None:
        """Its task waits: the slot is lent."""
        self.spare = SPARE_MAX
        worker.blocked += 1
        if worker.blocked == 1:
            self.blocked += 1
            self._blocked_bound += worker.binding != PLAIN
            self.place(worker)

    def unblock(self, worker: Worker) -> None:
        """One wait less.

        When it goes on there may be one more running than there are slots for a moment.
        """
        if not worker.blocked:
            return
        worker.blocked -= 1
        if not worker.blocked:
            self.blocked -= 1
            self._blocked_bound -= worker.binding != PLAIN
            self.place(worker)

    def next_free(self) -> Worker | None:
        """Who is dealt what needs one core: an idle worker while a slot is free, then the least
        loaded."""
        if self.running < self.slots and self.idle:
            return next(reversed(self.idle.values()))  # the last that ran: its caches are warm
        if self.running > self.slots or not self.single:
            return None
        return min(self.single.values(), key=lambda w: w.load)

    @property
    def is_stuck(self) -> bool:
        """Whether no worker runs anything or could: all that there are stand still in
        waits."""
        expected = sum([awaited.grant.cores for awaited in self.awaited])
        return self.running == expected and not self.idle

    @property
    def is_lent_out(self) -> bool:
        """Whether so many tasks wait that no worker is left to run any, and none is started."""
        return self.blocked > LENT_MAX and self.is_stuck and not self.starting

    def has_idle(self) -> bool:
        """Whether a slot is free and a worker is there to use it."""
        return self.running < self.slots and bool(self.idle)

    def busiest(self) -> Worker | None:
        """Who has most behind its running element, if anybody has."""
        best = max(
            (
                w
                for w in self.holding.values()
                if not w.recalling
                and not w.exhausted
                and w.stopping < 0
                and (w.grant is None or self.could(w.need))
            ),
            key=lambda w: w.behind_running,
            default=None,
        )
        return best if best is not None and best.behind_running else None

    @property
    def has_right_number(self) -> bool:
        """Whether there are as many workers as there should be, so that none is to be started or
        retired."""
        plain = len(self.workers) - self.bound - self.blocked + self._blocked_bound
        return 0 <= plain - self.slots <= self.spare and len(self.warm) <= self.slots

    def take_missing(self) -> int:
        """How many plain ones to start so that every slot not lent has one; counts them."""
        able = len(self.workers) - self.bound + self.starting
        missing = max(0, self.slots - able + min(self.blocked - self._blocked_bound, LENT_MAX))
        self.starting += missing
        return missing

    def take_surplus(self) -> list[int]:
        """Idle workers beyond what is needed, removed here; the longest idle go first."""
        gone = []
        if len(self.warm) > self.slots:
            gone = list(self.warm)[: len(self.warm) - self.slots]
        blocked = self.blocked - self._blocked_bound
        surplus = len(self.workers) - self.bound - blocked - self.slots - self.spare
        if surplus > 0:
            gone += list(self.idle)[:surplus]
        for number in gone:
            self.remove(number)
        return gone

    def check(self) -> None:
        """Assert what must hold between events."""
        workers = self.workers.values()
        for worker in workers:
            assert len(worker.chunks) <= CHUNKS_MAX
            seqs = [c.seq for c in worker.chunks]
            assert seqs == sorted(seqs)
            assert all(c.worker == worker.number for c in worker.chunks)
            assert all(c.end_seq <= worker.next_seq for c in worker.chunks)
            assert all(c.grant is worker.grant for c in worker.chunks)
            assert worker.recalling or not worker.recalling_all
            assert (worker.grant is None) == (worker.need == ONE_CORE)
            assert worker.cores == worker.need.cores
            if worker.grant is not None:
                assert worker.chunks
                is_plain = not worker.need.bound and worker.binding == PLAIN
                assert is_plain or binding_of(worker.grant) == worker.binding
        open_ = [w for w in workers if not w.blocked and not w.recalling and w.stopping < 0]
        plain = {w.number for w in workers if w.binding == PLAIN}
        idle = {w.number for w in open_ if not w.chunks}
        single = {w.number: w for w in open_ if len(w.chunks) == 1}
        assert set(self.idle) == idle & plain
        assert set(self.warm) == idle - plain
        assert set(self.single) == {n for n, w in single.items() if w.grant is None}
        assert set(self.alike) == {n for n, w in single.items() if w.grant is not None}
        assert set(self.holding) == {w.number for w in workers if w.chunks}
        running = [w for w in workers if w.chunks and not w.blocked]
        expected = sum([a.grant.cores for a in self.awaited])
        assert self.running == sum([w.cores for w in running]) + expected
        assert self.blocked == sum(1 for w in workers if w.blocked)
        assert self.bound == len(workers) - len(plain)
        assert self.starting >= 0
        grants = [w.grant for w in workers if w.grant is not None]
        self.resources.check([*grants, *(a.grant for a in self.awaited)])
