"""A simulated worker process, and the shell's end of its connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sim_programs import FOR_EVER_S
from sim_truth import ProgramTruth

from alamo.core import events as ev
from alamo.core.terms import PLAIN, Binding, Grant

if TYPE_CHECKING:
    from simulator import World

NO_LIMIT = 1 << 62


@dataclass
class SimChunk:
    """A chunk as it was sent: nothing that the scheduler does to its own can change it."""

    number: int
    program: ProgramTruth
    seq: int
    elements: tuple[int, ...]
    fused: bool
    epoch: int
    grant: Grant | None = None


class SimWorker:
    """Runs chunks in order, obeys LIMIT, drops what is of an older epoch.

    Attributes:
        next_seq, begun, limit: cells of shared memory, which outlive the process.
        running: the element that has begun.
        shell_epoch, known_blocked: what the shell knows.
        may_begin_late: it was about to begin an element when slots were taken away.
    """

    def __init__(self, world: World, number: int, binding: Binding = PLAIN) -> None:
        self.world = world
        self.number = number
        self.binding = binding
        self.alive = True
        self.next_seq = 0
        self.begun = False
        self.limit = NO_LIMIT
        self.running: tuple[ProgramTruth, int] | None = None
        self.grant: Grant | None = None
        self.blocked = False
        self.may_begin_late = False
        # The process.
        self._epoch = 0
        self._queue: deque[SimChunk] = deque()
        self._chunk: SimChunk | None = None
        self._position = 0
        self._first = 0
        self._failed: list[int] = []
        self._begun_s = 0.0
        self._elements: tuple[int, ...] = ()
        # Messages under way, in order in both directions.
        self._inbox: deque[SimChunk] = deque()
        self._outbox: deque[Callable[[], None]] = deque()
        self._due_out_s = 0.0
        self._due_in_s = 0.0
        # The shell's side.
        self.shell_epoch = 0
        self.known_blocked = False
        self.end_seq = 0
        self._dealt: dict[int, SimChunk] = {}
        self._reported: dict[int, int] = {}
        self._recall: object | None = None
        self._halts = False
        self._old_reports: list[ev.ChunkFinished] = []

    # -- the shell's side --------------------------------------------------------------

    def take(self, chunk: SimChunk) -> None:
        """Send a chunk."""
        assert chunk.seq >= self.end_seq
        assert not self.known_blocked
        assert not self._halts, "dealt to a worker that has stopped by itself"
        self.end_seq = chunk.seq + len(chunk.elements)
        self._dealt[chunk.number] = chunk
        self._reported[chunk.number] = 0
        self._due_in_s = max(self._due_in_s, self.world.now_s + self.world.delay_s())
        self._inbox.append(replace(chunk))
        self.world.after(self._due_in_s - self.world.now_s, self._arrive)

    def owes(self) -> bool:
        """Whether the shell still waits for results."""
        return bool(self._dealt)

    def recall(self, everything: bool) -> None:
        """Take back what has not begun."""
        world = self.world
        first = self.next_seq + (1 if self.begun or world.rng.random() < 0.5 else 0)
        cut = first if everything else first + max(0, self.end_seq - first) // 2
        world.say(f"      worker {self.number} runs {self.next_seq}, recall from {cut}")
        if cut >= self.end_seq:
            world.after(0.0, lambda: self._tell(ev.WorkerResumed(self.number)))
            return
        self.limit = min(self.limit, cut)
        token = self._recall = object()

        def settle() -> None:
            if self._recall is token and self.number in world.workers:
                taken = max(cut, self.next_seq + 1)
                world.say(f"      worker {self.number} settles at {taken}")
                self._taken_back(taken)

        world.after(world.rng.random() * 0.002, settle)

    def _taken_back(self, seq: int) -> None:
        for chunk in list(self._dealt.values()):
            self._cut(chunk, seq - chunk.seq)
        self.world.drive(ev.TakenBack(self.number, seq))

    def _cut(self, chunk: SimChunk, position: int) -> None:
        keep = max(position, self._reported[chunk.number])
        chunk.program.taken_back(chunk.elements[keep:])
        self.world.count("taken back", len(chunk.elements) - keep)
        chunk.elements = chunk.elements[:keep]
        if len(chunk.elements) == self._reported[chunk.number]:
            del self._dealt[chunk.number]

    def might_begin(self) -> tuple[ProgramTruth, int] | None:
        """What a recall cannot keep from beginning: the worker may be about to begin it."""
        for chunk in self._dealt.values():
            position = self.next_seq - chunk.seq
            if not self.begun and 0 <= position < len(chunk.elements):
                return chunk.program, chunk.elements[position]
        return None

    def lost(self) -> None:
        """The process is gone: what it had not begun is nobody's."""
        for chunk in self._dealt.values():
            chunk.program.unheld(self.number)

    def _tell(self, event: ev.Event) -> None:
        if self.number in self.world.workers:
            self.world.drive(event)

    def _report(
        self, number: int, first: int, upto: int, failed: list[int], elapsed_s: float
    ) -> None:
        """Elements have results: the shell forwards them and tells the scheduler."""
        chunk = self._dealt[number]
        assert self._reported[number] == first
        self._reported[number] = upto
        left = self.world.scheduler.programs[chunk.program.number].retries_left
        again = tuple(p for p in failed if left(chunk.elements[p]))
        self.world.count("again", len(again))
        for position in range(first, upto):
            chunk.program.reported(chunk.elements[position], position in again)
        if failed and chunk.fused and upto < len(chunk.elements):
            self._halts = True
            self.world.count("stops at a failure")
        if (failed and chunk.fused) or upto == len(chunk.elements):
            self._cut(chunk, upto)
        event = ev.ChunkFinished(self.number, number, upto, tuple(failed), elapsed_s, again)
        self.world.drive(event)
        share = self.world.settings.duplicate_share
        self._old_reports.append(event)
        if self.world.rng.random() < share:
            late = self.world.rng.choice(self._old_reports)
            self.world.after(self.world.delay_s() * 5, lambda: self.world.drive(late))

    def _stopped(self, seq: int, epoch: int) -> None:
        self.shell_epoch = epoch
        self._recall = None
        self._halts = False
        self.limit = NO_LIMIT
        self._taken_back(seq)
        self.world.drive(ev.WorkerResumed(self.number))

    def stop(self, seq: int) -> None:
        """Stop the element that runs there: it ends, or its worker is killed after a grace."""
        ends = [chunk.seq + len(chunk.elements) for chunk in self._dealt.values()]
        assert max(ends, default=0) <= seq + 1, "a stop that could hit what runs behind"
        grace_s = self.world.rng.choice((0.0, 1e-4, 1e-2))

        def kill() -> None:
            if self.alive and self.begun and self.next_seq == seq:
                self.world.count("stops")
                if self.blocked or self.world.rng.random() < 0.5:
                    self.die()
                else:
                    self._end(stopped=True)

        self.world.after(grace_s, kill)

    # -- messages from the process -----------------------------------------------------

    def _send(self, message: Callable[[], None]) -> None:
        self._outbox.append(message)
        self._due_out_s = max(self._due_out_s, self.world.now_s + self.world.delay_s())
        self.world.after(self._due_out_s - self.world.now_s, self._deliver)

    def _deliver(self) -> None:
        if self._outbox:  # else it was read in advance, when the process had died
            self._outbox.popleft()()

    def _flush(self, send: bool = True) -> None:
        chunk, first, upto = self._chunk, self._first, self._position
        if chunk is None or upto == first:
            return
        failed, self._failed, self._first = self._failed, [], upto
        number = chunk.number
        elapsed_s = self.world.now_s - self._begun_s
        self._begun_s = self.world.now_s

        def report() -> None:
            self._report(number, first, upto, failed, elapsed_s)

        self._send(report) if send else report()

    # -- the process -------------------------------------------------------------------

    def executes(self) -> bool:
        return self.alive and self.begun and not self.blocked

    def cores_running(self) -> int:
        return (self.grant.cores if self.grant is not None else 1) if self.executes() else 0

    def cores_dealt(self) -> int:
        grants = [chunk.grant for chunk in self._dealt.values()]
        return max(grant.cores if grant is not None else 1 for grant in grants)

    def _arrive(self) -> None:
        self._queue.append(self._inbox.popleft())
        if self.alive and not self.begun:
            self._go_on()

    def _go_on(self) -> None:
        """Between two elements, until one has begun or there is nothing to do."""
        while True:
            chunk = self._chunk
            if chunk is None:
                if not self._queue:
                    return
                chunk = self._queue.popleft()
                if chunk.epoch != self._epoch:
                    continue
                self._chunk, self._position, self._first = chunk, 0, 0
                self._begun_s = self.world.now_s
                self.next_seq = chunk.seq
                self._elements = chunk.elements
            if self._position == len(self._elements):
                self._flush()
                self._chunk = None
                continue
            if self.limit <= self.next_seq:
                self._stop()
                continue
            self._begin(chunk.program, self._elements[self._position])
            return

    def _stop(self) -> None:
        self._flush()
        self._chunk = None
        self._epoch += 1
        seq, epoch = self.next_seq, self._epoch
        self._send(lambda: self._stopped(seq, epoch))

    def _begin(self, program: ProgramTruth, element: int) -> None:
        self.begun = True
        self.running = (program, element)
        assert self._chunk is not None
        self.grant = self._chunk.grant
        self.world.say(f"      worker {self.number} begins {program.number}:{element}")
        self.world.check_running(self)
        program.begin(element, self.number)
        duration_s = program.spec.durations[element]
        if element in program.spec.crashes:
            self.world.after(duration_s * self.world.rng.random(), self.die)
        seq = self.next_seq
        if element in program.spec.limits:
            limit_s = program.spec.limits[element]
            self.world.after(limit_s, lambda: self._time_is_up(seq))
        if element in program.spec.children:
            self.world.after(duration_s / 2, lambda: self._submit(seq))
        else:
            self.world.after(duration_s, lambda: self._end(seq))

    def _time_is_up(self, seq: int) -> None:
        """The shell looks at a timer: the element that it was for may have ended, or it looks at
        the cell too early."""
        due = self.begun and self.next_seq == seq
        if self.number in self.world.workers and (due or self.world.rng.random() < 0.1):
            self.world.count("StopAsked")
            self.world.drive(ev.StopAsked(self.number, seq))

    def _end(self, seq: int | None = None, stopped: bool = False) -> None:
        if not self.alive or seq not in (None, self.next_seq) or not self.begun:
            return
        assert self.running is not None
        program, element = self.running
        for_ever = program.spec.durations[element] >= FOR_EVER_S
        assert stopped or not for_ever, f"{program.number}:{element} is not stopped"
        ok = program.end(element, stopped)
        self.running, self.begun = None, False
        self._position += 1
        self.next_seq += 1
        if not ok:
            self._failed.append(self._position - 1)
            assert self._chunk is not None
            last = self._position == len(self._elements)
            if self._chunk.fused and (not last or self.world.settings.stops_at_last):
                self._stop()
        if self.world.rng.random() < self.world.settings.flush_share:
            self._flush()
        self._go_on()

    def die(self) -> None:
        """SIGKILL.  The shell hears of it a little later."""
        if not self.alive:
            return
        self.alive = False
        self.world.count("deaths")
        self.world.say(f"      worker {self.number} dies at {self.next_seq}, begun: {self.begun}")

        def noticed() -> None:
            if self.number not in self.world.workers:
                return
            while self._outbox:
                self._outbox.popleft()()
            self._flush(send=False)
            self.world.worker_dead(self)

        self.world.after(self.world.delay_s(), noticed)

    # -- tasks that submit and wait ----------------------------------------------------

    def _submit(self, seq: int) -> None:
        """The running task submits programs and waits for all of them."""
        if not self.alive or self.next_seq != seq or not self.begun:
            return
        assert self.running is not None
        world, (program, element) = self.world, self.running
        self.blocked = True
        self._flush()
        self._send(self._blocked)
        world.count("waits")
        left = len(program.spec.children[element])

        def child_done() -> None:
            nonlocal left
            left -= 1
            if not left and self.alive:
                self.blocked = False
                self._send(self._unblocked)
                world.after(program.spec.durations[element] / 2, lambda: self._end(seq))

        children = [
            world.submit(s, child_done, world.delay_s()) for s in program.spec.children[element]
        ]
        program.orphans.setdefault(element, []).extend(children)

    def _blocked(self) -> None:
        self.known_blocked = True
        self.world.drive(ev.WorkerBlocked(self.number))

    def _unblocked(self) -> None:
        self.known_blocked = False
        self.world.drive(ev.WorkerUnblocked(self.number))
