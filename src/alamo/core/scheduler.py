"""The scheduler: which element runs where, and what happens when one ends or a worker dies.

A pure machine: ``handle(event, now_s)`` changes only this object and returns what the
caller has to do.  It knows programs, elements, workers and chunks as numbers; it never
sees a function, an argument, a result, a process or a socket.

Rules, in order:
  1. Programs of greater depth first (their parents hold a slot), then first come first served;
     within a program the longest path to the end first.
  2. A worker holds at most two chunks, so that it has work while a report travels.
  3. When nothing is ready and a worker idles, work not begun is taken back from the busiest.
  4. A dead worker fails the element that it was running, and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from alamo.core import events as ev
from alamo.core.checks import check_scheduler
from alamo.core.chunks import Chunk, chunk_size, fuse, fuse_size
from alamo.core.gates import close_gate, open_gate
from alamo.core.program import Program
from alamo.core.scaling import change_slots
from alamo.core.workers import Worker, WorkerPool

#: A chunk that was dealt less than this ago will be done sooner than a recall is.
RECALL_AGE_S = 0.002


class Scheduler:
    """Schedules the elements of all programs on one pool of workers.

    Args:
        slots: how many tasks may run at once.

    Example:
        >>> from alamo.core import events as ev
        >>> s = Scheduler(slots=1)
        >>> s.handle(ev.WorkerReady(0), 0.0)
        []
        >>> _ = s.handle(ev.ProgramOpened(7), 0.0), s.handle(ev.PageAdded(7, count=3), 0.0)
        >>> s.handle(ev.ProgramStarted(7), 0.0)[0].chunk.elements
        range(0, 2)
    """

    def __init__(self, slots: int) -> None:
        self.pool = WorkerPool(slots)
        self.programs: dict[int, Program] = {}
        #: Programs with ready elements, a heap: the first is dealt from.
        self._queue: list[tuple[tuple[int, int], Program]] = []
        self._arrivals = 0
        self._chunks = 0
        self._effects: list[ev.Effect] = []
        self._wake_at_s: float | None = None
        self._handlers: dict[type, Callable[..., None]] = {
            ev.ProgramOpened: self._on_program_opened,
            ev.PageAdded: self._on_page_added,
            ev.ProgramStarted: self._on_program_started,
            ev.ProgramDropped: self._on_program_dropped,
            ev.ProgramSealed: self._on_program_sealed,
            ev.ProgramPaused: self._on_program_paused,
            ev.ProgramResumed: self._on_program_resumed,
            ev.WorkerReady: self._on_worker_ready,
            ev.ChunkFinished: self._on_chunk_finished,
            ev.ChunkRefused: self._on_chunk_refused,
            ev.TakenBack: self._on_taken_back,
            ev.WorkerResumed: self._on_worker_resumed,
            ev.WorkerLost: self._on_worker_lost,
            ev.WorkerBlocked: self._on_worker_blocked,
            ev.WorkerUnblocked: self._on_worker_unblocked,
            ev.SlotsChanged: lambda event: change_slots(self.pool, event.slots, self._recall),
            ev.Woken: self._on_woken,
        }

    def handle(self, event: ev.Event, now_s: float) -> list[ev.Effect]:
        """Take in one event.

        Args:
            event: what happened; one about an unknown worker, chunk or program is dropped.
            now_s: a monotonic time.

        Returns:
            Effects in the order in which they must be carried out.

        Raises:
            GraphError: a page cannot be right; nothing has changed.
        """
        self._handlers[type(event)](event)
        self._deal(now_s)
        effects, self._effects = self._effects, []
        return effects

    @property
    def unfinished(self) -> int:
        """Elements of started programs that have no final state yet; one for those to come."""
        return sum(p.unfinished + p.growing for p in self.programs.values() if p.started)

    @property
    def is_too_deep(self) -> bool:
        """Whether work is ready and all workers stand still in waits, more than may be lent.

        For a moment that may be so although one of the waits is about to end.
        """
        return self.pool.is_lent_out and bool(self._queue)

    @property
    def chunks_dealt(self) -> int:
        """How many chunks have been dealt so far."""
        return self._chunks

    # -- programs ----------------------------------------------------------------

    def _on_program_opened(self, event: ev.ProgramOpened) -> None:
        self.programs[event.program] = Program(
            event.program, event.depth, self._arrivals, event.growing
        )
        self._arrivals += 1

    def _on_page_added(self, event: ev.PageAdded) -> None:
        program = self.programs.get(event.program)
        if program is None or program.dropped:
            return
        if program.started:
            assert not len(event.preds)
            assert not event.joins
            program.grow(event.count)
            self._follow(program)
        else:
            program.add_page(event.count, event.pred_ends, event.preds, event.joins, event.gates)
            for element, inner in event.gates:
                if inner in self.programs:
                    self.programs[inner].gate = (program, element)

    def _on_program_started(self, event: ev.ProgramStarted) -> None:
        program = self.programs.get(event.program)
        if program is None or program.started or program.dropped or program.gate is not None:
            return
        program.start(event.ranks)
        self._follow(program)

    def _on_program_dropped(self, event: ev.ProgramDropped) -> None:
        program = self.programs.get(event.program)
        if program is not None:
            self._drop(program)

    def _drop(self, program: Program) -> None:
        """What the program, and those behind its gates, have not begun never will be."""
        if program.dropped:
            return
        program.drop()
        for inner in program.gates.values():
            if inner in self.programs:
                self._drop(self.programs[inner])
        self._leave_queue(program)
        for worker in self.pool.holding.values():
            if any(chunk.program is program for chunk in worker.chunks):
                self._recall(worker, all_=True)
        self._follow(program)

    def _on_program_sealed(self, event: ev.ProgramSealed) -> None:
        program = self.programs.get(event.program)
        if program is not None:
            program.growing = False
            program.spoiled = program.spoiled or event.failed
            self._follow(program)

    def _on_program_paused(self, event: ev.ProgramPaused) -> None:
        program = self.programs.get(event.program)
        if program is not None:
            program.paused = True
            self._leave_queue(program)

    def _on_program_resumed(self, event: ev.ProgramResumed) -> None:
        program = self.programs.get(event.program)
        if program is not None:
            program.paused = False
            self._follow(program)

    def _leave_queue(self, program: Program) -> None:
        if program.queued:
            self._queue.remove((program.sort_key, program))
            heapify(self._queue)
            program.queued = False

    def _follow(self, program: Program) -> None:
        """What follows a change of a program; a chain of empty arrays is no recursion."""
        changed = [program]
        while changed:
            program = changed.pop()
            while program.skipped or program.opened:  # a gate that cannot be opened has failed
                if program.skipped:
                    self._tell_skipped(program)
                else:
                    changed.append(open_gate(self.programs, program, self._effects))
            if program.dropped:
                program.settle_dropped()
            if program.has_ended and self.programs.get(program.number) is program:
                del self.programs[program.number]
                changed += close_gate(program, self._effects)
                self._effects.append(ev.ProgramDone(program.number))
            elif not program.queued and not program.paused and len(program.ready):
                program.queued = True
                heappush(self._queue, (program.sort_key, program))

    def _tell_skipped(self, program: Program) -> None:
        skipped, roots = program.skipped, program.roots
        program.skipped, program.roots = [], []
        self._effects.append(ev.ElementsSkipped(program.number, skipped, roots))
        if program.gates:
            for element in skipped:
                inner = self.programs.get(program.gates.get(element, -1))
                if inner is not None:
                    self._drop(inner)

    # -- the end of elements -------------------------------------------------------

    def _on_chunk_finished(self, event: ev.ChunkFinished) -> None:
        worker = self.pool.workers.get(event.worker)
        chunk = worker.chunk(event.chunk) if worker else None
        if worker is None or chunk is None:
            return
        first, upto = chunk.done, min(event.upto, len(chunk.elements))
        if upto <= first:
            return
        chunk.done = upto
        program = chunk.program
        if event.elapsed_s > 0.0:
            program.measured(upto - first, event.elapsed_s)
        whole = first == 0 and upto == len(chunk.elements)
        if whole and chunk.outside is not None and not event.failed:
            program.finish_whole(chunk.elements, chunk.outside)
        else:
            failed = {chunk.elements[i] for i in event.failed if first <= i < upto}
            program.finish(chunk.elements[first:upto], failed)
            if failed and chunk.fused and upto < len(chunk.elements):
                # The worker stops here by itself and says so: WorkerResumed will come.
                worker.recalling = worker.recalling_all = True
                self._cut(chunk, upto)
        if upto == len(chunk.elements):
            worker.chunks.remove(chunk)
        self.pool.place(worker)
        self._follow(program)

    def _on_chunk_refused(self, event: ev.ChunkRefused) -> None:
        worker = self.pool.workers.get(event.worker)
        chunk = worker.chunk(event.chunk) if worker else None
        if worker is None or chunk is None:
            return
        program = chunk.program
        program.chunk_max = max(1, len(chunk.elements) // 2)
        self._cut(chunk, 0)
        worker.chunks.remove(chunk)
        self.pool.place(worker)
        self._follow(program)

    # -- taking work back ------------------------------------------------------------

    def _recall(self, worker: Worker, all_: bool = False) -> None:
        """Ask for work back; one that asks for the half does not stand in for all."""
        if worker.recalling_all or (worker.recalling and not all_):
            return
        worker.recalling = True
        worker.recalling_all = all_
        self.pool.place(worker)
        self._effects.append(ev.Recall(worker.number, all_))

    def _cut(self, chunk: Chunk, position: int) -> None:
        """End the chunk before ``position``; what is cut off is given back to the program."""
        position = max(position, chunk.done)
        rest = chunk.elements[position:]
        if len(rest):
            chunk.elements = chunk.elements[:position]
            chunk.outside = None
            chunk.program.give_back(rest)

    def _on_taken_back(self, event: ev.TakenBack) -> None:
        worker = self.pool.workers.get(event.worker)
        if worker is None:
            return
        for chunk in worker.chunks[::-1]:  # what was dealt first comes to lie in front
            if chunk.end_seq > event.seq:
                self._cut(chunk, event.seq - chunk.seq)
                if chunk.done == len(chunk.elements):
                    worker.chunks.remove(chunk)
                self._follow(chunk.program)
        self.pool.place(worker)

    # -- workers ---------------------------------------------------------------------

    def _on_worker_ready(self, event: ev.WorkerReady) -> None:
        self.pool.add(event.worker)

    def _on_worker_resumed(self, event: ev.WorkerResumed) -> None:
        worker = self.pool.workers.get(event.worker)
        if worker is not None:
            worker.recalling = worker.recalling_all = False
            worker.exhausted = worker.behind_running > 0
            self.pool.place(worker)

    def _on_worker_lost(self, event: ev.WorkerLost) -> None:
        worker = self.pool.remove(event.worker)
        if worker is None:
            return
        begun_seq = event.seq + event.running
        for chunk in worker.chunks[::-1]:
            program = chunk.program
            # One element at most, unless results were lost: these must not run twice either.
            lost = chunk.elements[chunk.done : max(chunk.done, begun_seq - chunk.seq)]
            chunk.done += len(lost)
            program.finish(lost, lost)
            self._cut(chunk, chunk.done)
            for element in lost:
                self._effects.append(ev.ElementLost(program.number, element, event.worker))
            self._follow(program)

    def _on_worker_blocked(self, event: ev.WorkerBlocked) -> None:
        worker = self.pool.workers.get(event.worker)
        if worker is not None:
            self.pool.block(worker)
            if worker.behind_running:
                self._recall(worker, all_=True)

    def _on_worker_unblocked(self, event: ev.WorkerUnblocked) -> None:
        worker = self.pool.workers.get(event.worker)
        if worker is not None:
            self.pool.unblock(worker)

    def _on_woken(self, event: ev.Woken) -> None:
        self._wake_at_s = None

    # -- dealing ---------------------------------------------------------------------

    def _deal(self, now_s: float) -> None:
        pool = self.pool
        while self._queue:
            worker = pool.next_free()
            if worker is None:
                break
            program = self._queue[0][1]
            self._deal_chunk(program, worker, now_s)
            if not len(program.ready):
                heappop(self._queue)
                program.queued = False
        missing = pool.take_missing()
        if missing:
            self._effects.append(ev.SpawnWorkers(missing))
        for number in pool.take_surplus():
            self._effects.append(ev.RetireWorker(number))
        if not self._queue and pool.has_idle():
            self._balance(now_s)

    def _deal_chunk(self, program: Program, worker: Worker, now_s: float) -> None:
        size = chunk_size(program.mean_s, len(program.ready), self.pool.slots)
        size = min(size, program.chunk_max)
        elements = program.ready.take(size)
        fused = False
        outside: dict[int, int] = {}
        if isinstance(elements, range):
            program.mark_dealt(elements)
        else:
            count = len(elements)
            outside = fuse(program, elements, min(fuse_size(program.mean_s), program.chunk_max))
            fused = len(elements) > count
        chunk = Chunk(
            self._chunks,
            program,
            worker.number,
            worker.next_seq,
            elements,
            fused,
            outside,
            now_s,
        )
        self._chunks += 1
        worker.next_seq += len(elements)
        worker.chunks.append(chunk)
        worker.exhausted = False
        self.pool.place(worker)
        self._effects.append(ev.Deal(worker.number, chunk))

    def _balance(self, now_s: float) -> None:
        """A worker idles and nothing is ready: take the later half from the busiest."""
        victim = self.pool.busiest()
        if victim is None:
            return
        due_s = victim.chunks[0].dealt_s + RECALL_AGE_S
        if due_s <= now_s:
            self._recall(victim)
        elif self._wake_at_s is None or due_s < self._wake_at_s:
            self._wake_at_s = due_s
            self._effects.append(ev.WakeAt(due_s))

    def check(self) -> None:
        """Assert every invariant that ties programs, chunks and workers together."""
        assert not self._effects
        check_scheduler(self, self._queue)
