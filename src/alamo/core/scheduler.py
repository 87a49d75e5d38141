"""The scheduler: which element runs where, and what happens when one ends or a worker dies.

A pure machine: ``handle(event, now_s)`` changes only this object and returns what the
caller has to do.  It knows programs, elements, workers and chunks as numbers; it never
sees a function, an argument, a result, a process or a socket.

Rules, in order:
  1. Programs of greater depth first (their parents hold a slot), then by priority, then first come
     first served; within a program the longest path to the end first.
  2. What an element lacks that goes first is kept for it, and no other gets any.
  3. A worker holds at most two chunks, so that it has work while a report travels.
  4. When nothing is ready and a worker idles, work not begun is taken back from the busiest.
  5. A dead worker fails the element that it was running, and no other.

``dealing`` has who gets what, ``recalls`` how work comes back and is stopped, ``attempts`` what is
tried again, ``cancelling`` what shall not run.
"""

from __future__ import annotations

from collections.abc import Callable

from alamo.core import events as ev
from alamo.core.alarm import Alarm
from alamo.core.attempts import Attempts
from alamo.core.cancelling import cancel
from alamo.core.checks import check_scheduler
from alamo.core.chunks import Chunk
from alamo.core.dealing import Dealer
from alamo.core.gates import close_gate, open_gate
from alamo.core.program import Program
from alamo.core.recalls import Recalls
from alamo.core.scaling import change_slots
from alamo.core.terms import Need
from alamo.core.workers import Worker, WorkerPool


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
        self._arrivals = 0
        self._now_s = 0.0
        self._effects: list[ev.Effect] = []
        self._alarm = Alarm(self._effects)
        self._recalls = Recalls(self.pool, self._effects, self._follow)
        self._attempts = Attempts(self.programs, self._alarm, self._follow)
        self._dealer = Dealer(self.pool, self._effects, self._alarm, self._recalls.recall)
        self.queues = self._dealer.queues
        self._handlers: dict[type, Callable[..., None]] = {
            ev.ProgramOpened: self._on_program_opened,
            ev.TermsDefined: self._on_terms_defined,
            ev.MachineFound: self._on_machine_found,
            ev.PageAdded: self._on_page_added,
            ev.ProgramStarted: self._on_program_started,
            ev.ProgramDropped: self._on_program_dropped,
            ev.ProgramSealed: self._on_program_sealed,
            ev.CancelAsked: self._on_cancel_asked,
            ev.ProgramPaused: self._on_program_paused,
            ev.ProgramResumed: self._on_program_resumed,
            ev.WorkerReady: self._on_worker_ready,
            ev.ChunkFinished: self._on_chunk_finished,
            ev.ChunkRefused: self._on_chunk_refused,
            ev.TakenBack: self._recalls.taken_back,
            ev.StopAsked: self._recalls.stop_asked,
            ev.WorkerResumed: self._recalls.resumed,
            ev.WorkerLost: self._on_worker_lost,
            ev.WorkerBlocked: self._on_worker_blocked,
            ev.WorkerUnblocked: self._on_worker_unblocked,
            ev.SlotsChanged: lambda event: change_slots(
                self.pool, event.slots, self._recalls.recall
            ),
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
        self._now_s = now_s
        self._handlers[type(event)](event)
        self._dealer.deal(now_s)
        effects = self._effects.copy()
        self._effects.clear()
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
        return self.pool.is_lent_out and bool(self.queues)

    @property
    def chunks_dealt(self) -> int:
        """How many chunks have been dealt so far."""
        return self._dealer.chunks

    # -- programs ----------------------------------------------------------------

    def _on_program_opened(self, event: ev.ProgramOpened) -> None:
        self.programs[event.program] = Program(
            event.program, event.depth, self._arrivals, event.growing, event.priority
        )
        self._arrivals += 1

    def _on_terms_defined(self, event: ev.TermsDefined) -> None:
        program = self.programs.get(event.program)
        if program is not None:
            program.define_terms(event.number, event.terms)

    def _on_machine_found(self, event: ev.MachineFound) -> None:
        self.pool.resources.found(event.gpus, event.memory_bytes, event.cpus)

    def _on_page_added(self, event: ev.PageAdded) -> None:
        program = self.programs.get(event.program)
        if program is None or program.dropped or program.called_off:
            return
        if program.started:
            assert not len(event.preds)
            assert not event.joins
            program.grow(event.count, event.terms)
            self._follow(program)
        else:
            program.add_page(
                event.count,
                event.pred_ends,
                event.preds,
                event.joins,
                event.gates,
                event.terms,
            )
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
        self.queues.leave(program)
        for worker in self.pool.holding.values():
            if any(chunk.program is program for chunk in worker.chunks):
                self._recalls.recall(worker, all_=True)
        self._follow(program)

    def _on_cancel_asked(self, event: ev.CancelAsked) -> None:
        program = self.programs.get(event.program)
        if program is None:
            return
        changed = cancel(self.programs, program, event.elements)
        for one in changed:
            if one.cancelling:
                self._recalls.stop_cancelled(one)
        for one in changed:
            self._follow(one)

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
            self.queues.leave(program)

    def _on_program_resumed(self, event: ev.ProgramResumed) -> None:
        program = self.programs.get(event.program)
        if program is not None:
            program.paused = False
            self._follow(program)

    def _follow(self, program: Program) -> None:
        """What follows a change of a program; a chain of empty arrays is no recursion."""
        changed = [program]
        while changed:
            program = changed.pop()
            if program.cancelled:
                self._tell_cancelled(program)
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
            elif not program.paused and (
                (not program.queued and len(program.ready)) or program.lanes is not None
            ):
                self.queues.enter(program, self._dealer.chunks)

    def _tell_cancelled(self, program: Program) -> None:
        cancelled, program.cancelled = program.cancelled, []
        self._effects.append(ev.ElementsCancelled(program.number, cancelled))
        self.queues.leave(program, emptied=True)

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
            if chunk.lane is not None:
                chunk.lane.measured(upto - first, event.elapsed_s)
        whole = first == 0 and upto == len(chunk.elements)
        if whole and chunk.outside is not None and not event.failed:
            program.finish_whole(chunk.elements, chunk.outside)
        else:
            self._finish_part(worker, chunk, first, event)
        if worker.stopping >= 0:
            self._recalls.reported(worker, chunk.seq + upto)
        if upto == len(chunk.elements):
            worker.chunks.remove(chunk)
        self.pool.place(worker)
        self._follow(program)

    def _finish_part(
        self, worker: Worker, chunk: Chunk, first: int, event: ev.ChunkFinished
    ) -> None:
        """Elements from ``first`` on have ended, with failures or without the others."""
        program, upto = chunk.program, chunk.done
        failed = {chunk.elements[i] for i in event.failed if first <= i < upto}
        again = {chunk.elements[i] for i in event.again if first <= i < upto} & failed
        again = {element for element in again if program.retries_left(element)}
        program.finish(chunk.elements[first:upto], failed - again, again)
        if failed and chunk.fused and upto < len(chunk.elements):
            # The worker stops here by itself and says so: WorkerResumed will come.
            worker.recalling = worker.recalling_all = True
            worker.settled = False
            self._recalls.cut(chunk, upto)
        for element in sorted(again, reverse=True):  # given back in front, the first last
            self._attempts.again(program, element, self._now_s)

    def _on_chunk_refused(self, event: ev.ChunkRefused) -> None:
        worker = self.pool.workers.get(event.worker)
        chunk = worker.chunk(event.chunk) if worker else None
        if worker is None or chunk is None:
            return
        program = chunk.program
        program.chunk_max = max(1, len(chunk.elements) // 2)
        self._recalls.cut(chunk, 0)
        worker.chunks.remove(chunk)
        self.pool.place(worker)
        self._follow(program)

    # -- workers ---------------------------------------------------------------------

    def _on_worker_ready(self, event: ev.WorkerReady) -> None:
        self.pool.add(event.worker, event.binding)

    def _on_worker_lost(self, event: ev.WorkerLost) -> None:
        need = self.pool.give_up(event.binding) if event.hopeless else None
        worker = self.pool.remove(event.worker, event.binding)
        if need is not None:
            self._fail_ready(need, event.worker)
        if worker is None:
            return
        begun_seq = event.seq + event.running
        for chunk in worker.chunks[::-1]:
            program = chunk.program
            # One element at most, unless results were lost: these must not run twice either.
            lost = chunk.elements[chunk.done : max(chunk.done, begun_seq - chunk.seq)]
            again = list(lost) if event.again and len(lost) == 1 else []
            again = [element for element in again if program.retries_left(element)]
            chunk.done += len(lost)
            program.finish(lost, () if again else lost, again)
            self._recalls.cut(chunk, chunk.done)
            for element in lost:
                self._effects.append(
                    ev.ElementLost(program.number, element, event.worker, bool(again))
                )
            for element in again:
                self._attempts.again(program, element, self._now_s)
            self._follow(program)

    def _fail_ready(self, need: Need, worker: int) -> None:
        """No worker will come up for what has this need, the last of those that did not is this."""
        waiting = self.queues.by_need
        while need in waiting:  # also what becomes ready as others fail
            _, program, lane = waiting[need][0]
            while len(lane.ready):
                lost = lane.ready.take(len(lane.ready))
                program.finish(lost, lost)
                self._effects += [ev.ElementLost(program.number, e, worker) for e in lost]
            self.queues.leave(program, emptied=True)
            self._follow(program)

    def _on_worker_blocked(self, event: ev.WorkerBlocked) -> None:
        worker = self.pool.workers.get(event.worker)
        if worker is not None:
            self.pool.block(worker)
            if worker.behind_running:
                self._recalls.recall(worker, all_=True)

    def _on_worker_unblocked(self, event: ev.WorkerUnblocked) -> None:
        worker = self.pool.workers.get(event.worker)
        if worker is not None:
            self.pool.unblock(worker)

    def _on_woken(self, event: ev.Woken) -> None:
        self._alarm.woken()
        self._attempts.woken(self._now_s)

    def check(self) -> None:
        """Assert every invariant that ties programs, chunks and workers together."""
        assert not self._effects
        check_scheduler(self)
