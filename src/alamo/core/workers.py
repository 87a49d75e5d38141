"""The workers as the scheduler sees them: what each holds, who may be dealt more.

A worker whose task waits for other tasks is *blocked*: it keeps its process but lends
its slot, so another worker may run in its place.  When it goes on there is one more
running than there are slots for a moment; nothing new is dealt until that has passed.
"""

from __future__ import annotations

from alamo.core.chunks import Chunk

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
        blocked: waits in which its task stands still: it may have several clients, and
            children with clients of their own.
        recalling: work is being taken back; nothing may be dealt before it confirms.
        recalling_all: what is being taken back is everything behind the running element.
        exhausted: it has begun all that it holds, as a recall has shown, and not reported all.
    """

    __slots__ = (
        "_place",
        "_runs",
        "blocked",
        "chunks",
        "exhausted",
        "next_seq",
        "number",
        "recalling",
        "recalling_all",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.chunks: list[Chunk] = []
        self.next_seq = 0
        self.blocked = 0
        self.recalling = False
        self.recalling_all = False
        self.exhausted = False
        # Where the pool has put it.
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


class WorkerPool:
    """All workers, and the rule of who is dealt the next chunk.

    Attributes:
        holding: workers that hold chunks.
        idle: workers that hold nothing and may be dealt; single: those that hold one chunk
            and may be dealt another.
        running: slots in use.
        blocked: workers that stand still in a wait.
        spare: idle workers kept beyond the slots.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.workers: dict[int, Worker] = {}
        self.holding: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        self.single: dict[int, Worker] = {}
        self.running = 0
        self.blocked = 0
        self.spare = SPARE_MAX
        #: Workers that were asked for and are not ready yet; the first ``slots`` are
        #: started by whoever made the scheduler.
        self.starting = slots

    def add(self, number: int) -> None:
        """A worker is ready."""
        if number in self.workers:
            return
        self.starting = max(0, self.starting - 1)
        self.workers[number] = worker = Worker(number)
        self.place(worker)

    def remove(self, number: int) -> Worker | None:
        """A worker is gone; returns it with the chunks that it held."""
        worker = self.workers.pop(number, None)
        if worker is None:
            self.starting = max(0, self.starting - 1)
            return None
        self.running -= worker._runs
        self.blocked -= worker.blocked > 0
        self.holding.pop(number, None)
        if worker._place is not None:
            del worker._place[number]
        return worker

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
            self.running += 1 if runs else -1
        place = None
        if held < CHUNKS_MAX and not worker.blocked and not worker.recalling:
            place = self.single if held else self.idle
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
            self.place(worker)

    def next_free(self) -> Worker | None:
        """Who is dealt next: an idle worker while a slot is free, then the least loaded."""
        if self.running < self.slots and self.idle:
            return next(reversed(self.idle.values()))  # the last that ran: its caches are warm
        if self.running > self.slots or not self.single:
            return None
        return min(self.single.values(), key=lambda w: w.load)

    @property
    def is_stuck(self) -> bool:
        """Whether no worker runs anything or could: all that there are wait for other tasks."""
        return not self.running and not self.idle

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
            (w for w in self.holding.values() if not w.recalling and not w.exhausted),
            key=lambda w: w.behind_running,
            default=None,
        )
        return best if best is not None and best.behind_running else None

    def take_missing(self) -> int:
        """How many to start so that every slot not lent has one; counts them as starting."""
        able = len(self.workers) - min(self.blocked, LENT_MAX) + self.starting
        missing = max(0, self.slots - able)
        self.starting += missing
        return missing

    def take_surplus(self) -> list[int]:
        """Idle workers beyond what is needed, removed here."""
        surplus = len(self.workers) - self.blocked - self.slots - self.spare
        if surplus <= 0:
            return []
        gone = list(self.idle)[:surplus]
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
            assert worker.recalling or not worker.recalling_all
        able = [w for w in workers if not w.blocked and not w.recalling]
        assert set(self.idle) == {w.number for w in able if not w.chunks}
        assert set(self.single) == {w.number for w in able if len(w.chunks) == 1}
        assert set(self.holding) == {w.number for w in workers if w.chunks}
        assert self.running == sum(1 for w in workers if w.chunks and not w.blocked)
        assert self.blocked == sum(1 for w in workers if w.blocked)
        assert self.starting >= 0
