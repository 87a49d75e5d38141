"""The simulated world around the scheduler: clients, a shell, workers, on virtual time.

    clients ──► shell (World) ──► Scheduler.handle ──► effects ──► shell ──► workers (SimWorker)
                     ▲                                                           │
                     └───────── messages in order, after random delays ──────────┘

It obeys the protocol as ``protocol/layout.py`` tells it: a worker runs its chunks in order, says
now and then how far it is, stops before LIMIT and at the first failure of a fused chunk, drops
every chunk of an older epoch, and may die between any two steps; what it had finished by then is
found in shared memory.  Every run is a function of its seed.

A rule that is broken raises ``Broken`` with the seed and the end of the trace.
"""

from __future__ import annotations

import itertools
import random
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from sim_programs import Page, Spec, make_program
from sim_terms import Machine, check_grant, check_in_use, column_of
from sim_truth import ProgramTruth
from sim_worker import SimChunk, SimWorker

from alamo.core import chunks
from alamo.core import events as ev
from alamo.core.scheduler import Scheduler
from alamo.core.terms import PLAIN, Binding

TRACE_LINES = 60
SCALES_MAX = 100


class Broken(AssertionError):
    """A rule did not hold."""


@dataclass
class Settings:
    """What kind of world a seed makes."""

    slots: int
    programs: int
    size: int
    latency_s: float
    crash_share: float = 0.0
    nested_share: float = 0.0
    kill_every_s: float = 0.0
    stillborn_share: float = 0.0
    duplicate_share: float = 0.0
    pause_share: float = 0.0
    scale_every_s: float = 0.0
    terms_share: float = 0.0
    stop_share: float = 0.0
    cancel_share: float = 0.0
    machine: Machine = field(default_factory=Machine)
    flush_share: float = 0.3
    stops_at_last: bool = False
    first_size: int = 16  # what is not measured yet comes in larger chunks, to be cut more often
    check_every: int = 1

    @staticmethod
    def drawn(rng: random.Random, size: int = 60) -> Settings:
        programs, size = rng.choice(
            ((1, size * 4), (1, size), (2, size), (4, size), (8, size // 3))
        )
        slots = rng.choice((1, 1, 2, 2, 3, 5, 8))
        return Settings(
            slots=slots,
            programs=programs,
            size=size,
            latency_s=rng.choice((1e-6, 3e-5, 3e-4, 3e-3)),
            crash_share=rng.choice((0.0, 0.0, 0.01, 0.1)),
            nested_share=rng.choice((0.0, 0.0, 0.0, 0.01 if size > 60 else 0.1)),
            kill_every_s=rng.choice((0.0, 0.0, 0.002, 0.01, 0.1)),
            stillborn_share=rng.choice((0.0, 0.1, 0.5)),
            duplicate_share=rng.choice((0.0, 0.1)),
            flush_share=rng.choice((0.0, 0.1, 0.5, 1.0)),
            stops_at_last=rng.random() < 0.5,
            first_size=rng.choice((chunks.FIRST_SIZE, 2, 16)),
            pause_share=rng.choice((0.0, 0.0, 0.5)),
            scale_every_s=rng.choice((0.0, 0.0, 0.002, 0.01, 0.1)),
            terms_share=rng.choice((0.0, 0.0, 0.5, 1.0)),
            stop_share=rng.choice((0.0, 0.0, 0.3)),
            cancel_share=rng.choice((0.0, 0.0, 0.3)),
            machine=Machine.drawn(rng, slots),
        )


class World:
    """One run: ``World(seed).run()``."""

    def __init__(
        self, seed: int, settings: Settings | None = None, specs: Sequence[Spec] = ()
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.settings = settings or Settings.drawn(self.rng)
        self.specs = list(specs)
        self.scheduler = Scheduler(self.settings.slots)
        self.slots = self.settings.slots
        self.now_s = 0.0
        self.programs: dict[int, ProgramTruth] = {}
        self.workers: dict[int, SimWorker] = {}
        self.history: list[tuple[float, ev.Event]] = []
        self.answers: list[list[tuple[Any, ...]]] = []
        self.counts: dict[str, int] = {}
        self._trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ticks = itertools.count()
        self._worker_numbers = itertools.count()
        #: Those that never come up, after which the shell gives their binding up.
        self.hopeless: set[int] = set()
        self._program_numbers = itertools.count()
        self._driving = False
        self._budget = 20_000

    # -- time --------------------------------------------------------------------------

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heappush(self._agenda, (self.now_s + delay_s, next(self._ticks), action))

    def delay_s(self) -> float:
        """A random latency."""
        return self.settings.latency_s * self.rng.expovariate(1.0)

    def run(self) -> World:
        usual_size, chunks.FIRST_SIZE = chunks.FIRST_SIZE, self.settings.first_size
        try:
            self._run()
        except AssertionError as error:
            trace = "\n".join(self._trace)
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = f"seed {self.seed}: {error} [{at.name}: {at.line}]"
            raise Broken(f"{what}\n{self.settings}\n...\n{trace}\n{what}") from error
        finally:
            chunks.FIRST_SIZE = usual_size
        return self

    def _run(self) -> None:
        settings = self.settings
        for _ in range(settings.slots):
            self._spawn()
        found = settings.machine
        self.drive(ev.MachineFound(found.gpus, found.memory_bytes, found.cpus))
        specs = self.specs or [
            make_program(
                self.rng,
                settings.size,
                0,
                settings.nested_share,
                settings.crash_share,
                settings.machine,
                settings.terms_share,
                settings.stop_share,
                settings.cancel_share,
            )
            for _ in range(settings.programs)
        ]
        for spec in specs:
            self.submit(spec, None, self.rng.choice((0.0, 1.0)) * self.rng.expovariate(50.0))
        if settings.kill_every_s:
            self._plan_kill()
        if settings.scale_every_s:
            self._plan_scale()
        while self._agenda:
            self.now_s, _, action = heappop(self._agenda)
            action()
            self._budget -= 1
            assert self._budget > 0, "it goes on for ever"
        self._check_end()

    # -- the shell: events in, effects out ---------------------------------------------

    def drive(self, event: ev.Event) -> None:
        assert not self._driving
        self._driving = True
        self.history.append((self.now_s, event))
        self.say(f"> {brief(event)}")
        effects = self.scheduler.handle(event, self.now_s)
        if len(self.history) % self.settings.check_every == 0:
            self.scheduler.check()
        self.answers.append([signature(effect) for effect in effects])
        for effect in effects:
            self.say(f"    < {signature(effect)}")
            self.count(type(effect).__name__)
            getattr(self, f"_do_{type(effect).__name__}")(effect)
        self._check_dealing(effects)
        for program in self.programs.values():
            if program.asked and not program.is_done:
                program.check_cancelled()
        self._driving = False

    def _check_dealing(self, effects: list[ev.Effect]) -> None:
        """Nobody idles while work is ready, and no more are dealt to than there are slots."""
        pool, queues = self.scheduler.pool, self.scheduler.queues
        if queues.plain and not queues.by_need:
            assert pool.next_free() is None, "work is ready, a worker is free, nothing is dealt"
        if any(type(effect) is ev.Deal for effect in effects):
            busy = [w for w in self.workers.values() if w.owes() and not w.known_blocked]
            cores = sum(w.cores_dealt() for w in busy)
            assert cores <= self.slots, "more are dealt to than there are slots"

    def say(self, line: str) -> None:
        self._trace.append(f"{self.now_s:.6f} {line}")

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by

    def _do_Deal(self, effect: ev.Deal) -> None:
        chunk = effect.chunk
        worker = self.workers[effect.worker]
        elements = tuple(chunk.elements)
        assert elements
        assert not chunk.program.paused
        self.count("dealt", len(elements))
        self.count("fused", chunk.fused)
        program = self.programs[chunk.program.number]
        program.dealt(elements, worker.number, fused=chunk.fused)
        message = SimChunk(
            chunk.number,
            program,
            chunk.seq,
            elements,
            chunk.fused,
            worker.shell_epoch,
            chunk.grant,
        )
        for element in elements:
            check_grant(program.spec.need_of(element), chunk.grant, worker.binding)
        self.count("granted", chunk.grant is not None)
        self.count("bound", worker.binding != PLAIN)
        self._budget += 20 * len(elements) + 20
        worker.take(message)

    def _do_Recall(self, effect: ev.Recall) -> None:
        self.workers[effect.worker].recall(effect.all)

    def _do_SpawnWorkers(self, effect: ev.SpawnWorkers) -> None:
        assert effect.count > 0
        for _ in range(effect.count):
            self._spawn(effect.binding)

    def _do_StopElement(self, effect: ev.StopElement) -> None:
        self.workers[effect.worker].stop(effect.seq)

    def _do_ElementsCancelled(self, effect: ev.ElementsCancelled) -> None:
        program = self.programs[effect.program]
        self.count("cancelled", len(effect.elements))
        for element in effect.elements:
            program.cancelled(element)

    def _do_RetireWorker(self, effect: ev.RetireWorker) -> None:
        worker = self.workers.pop(effect.worker)
        assert not worker.owes(), "a worker with work is retired"
        assert not worker.begun
        worker.alive = False
        if self.rng.random() < 0.2:  # a shell that tells of its end all the same
            self.after(self.delay_s(), lambda: self.drive(ev.WorkerLost(worker.number)))

    def _do_WakeAt(self, effect: ev.WakeAt) -> None:
        assert effect.at_s >= self.now_s
        self.after(effect.at_s - self.now_s, lambda: self.drive(ev.Woken()))

    def _do_ElementLost(self, effect: ev.ElementLost) -> None:
        program = self.programs[effect.program]
        if effect.worker in self.hopeless:
            self.count("without a worker")
            program.unborn(effect.element)
        else:
            program.lost(effect.element, effect.worker, effect.again)

    def _do_ElementsSkipped(self, effect: ev.ElementsSkipped) -> None:
        program = self.programs[effect.program]
        self.count("skipped", len(effect.elements))
        for element, root in zip(effect.elements, effect.roots, strict=True):
            program.skip(element, root)

    def _do_GateClosed(self, effect: ev.GateClosed) -> None:
        inner = self.programs[effect.inner] if effect.inner >= 0 else None
        self.count("gates that fail", effect.failed)
        self.programs[effect.program].gate_closed(effect.element, inner, effect.failed)

    def _do_ProgramDone(self, effect: ev.ProgramDone) -> None:
        program = self.programs[effect.program]
        program.done()
        if program.waiter is not None:
            self.after(self.delay_s(), program.waiter)

    # -- workers -----------------------------------------------------------------------

    def _spawn(self, binding: Binding = PLAIN) -> None:
        number = next(self._worker_numbers)
        if self.rng.random() < self.settings.stillborn_share:
            hopeless = binding != PLAIN and self.rng.random() < 0.8
            if hopeless:
                self.hopeless.add(number)
            lost = ev.WorkerLost(number, binding=binding, hopeless=hopeless)
            self.after(self.delay_s(), lambda: self.drive(lost))
            return

        def ready() -> None:
            self.workers[number] = SimWorker(self, number, binding)
            self.drive(ev.WorkerReady(number, binding))

        self.after(self.delay_s() * 3, ready)

    def worker_dead(self, worker: SimWorker) -> None:
        """The shell has noticed; what the worker had said and finished has been handled."""
        if self.workers.pop(worker.number, None) is None:
            return
        program, element = worker.running or (None, -1)
        worker.lost()
        again = False
        if program is not None:
            known = self.scheduler.programs.get(program.number)
            again = known is not None and known.retries_left(element) > 0
            self.count("again", again)
            program.killed(element, again)
        self.drive(ev.WorkerLost(worker.number, worker.next_seq, worker.begun, again))
        if program is not None:
            program.check_lost(element, worker.number, again)

    def _plan_kill(self) -> None:
        def kill() -> None:
            if all(program.is_done for program in self.programs.values()):
                return
            if self.workers:
                self.rng.choice(list(self.workers.values())).die()
            self._plan_kill()

        self.after(self.rng.expovariate(1 / self.settings.kill_every_s), kill)

    def _plan_scale(self) -> None:
        def scale() -> None:
            over = all(program.is_done for program in self.programs.values())
            if over or self.counts.get("SlotsChanged", 0) == SCALES_MAX:
                return
            self.count("SlotsChanged")
            self.scale(max(self.settings.machine.cores, self.rng.choice((1, 2, 3, 5, 8))))
            self._plan_scale()

        self.after(self.rng.expovariate(1 / self.settings.scale_every_s), scale)

    def scale(self, slots: int) -> None:
        """The owner of the service asks for more or fewer slots."""
        if slots < self.slots:
            self.count("cuts")
            for worker in self.workers.values():
                worker.may_begin_late = worker.owes() and not worker.begun
        self.slots = slots
        self.drive(ev.SlotsChanged(slots))

    def check_running(self, beginner: SimWorker) -> None:
        """Called as an element begins.

        There is an excess when a task goes on after a wait; and after a cut, in which a worker
        may begin one element more if it was about to.
        """
        workers = self.workers.values()
        check_in_use(self.settings.machine, (w.grant for w in workers if w.alive and w.running))
        running = sum(worker.cores_running() for worker in workers)
        if running > self.slots and not self.counts.get("waits"):
            assert beginner.may_begin_late, "more run than there are slots"
        beginner.may_begin_late = False

    # -- clients -----------------------------------------------------------------------

    def submit(self, spec: Spec, waiter: Callable[[], None] | None, delay_s: float) -> ProgramTruth:
        number = next(self._program_numbers)
        program = self.programs[number] = ProgramTruth(self, number, spec, waiter)
        self.count("elements", spec.count)
        priority = self.rng.choice((0, 0, 5, -1))
        steps: list[ev.Event] = [ev.ProgramOpened(number, spec.depth, spec.growing, priority)]
        steps += [ev.TermsDefined(number, n, t) for n, t in enumerate(spec.terms) if n]
        first = 0
        for page in spec.pages:
            steps += self._open_arrays(program, first, page)
            first += page[0]
        steps.append(ev.ProgramStarted(number, spec.ranks))
        for count in spec.growth:
            steps.append(ev.PageAdded(number, count, terms=column_of(spec, first, count)))
            first += count
        if spec.growing:
            steps.append(ev.ProgramSealed(number))
        grows = len(spec.growth) + spec.growing
        hurried = self.rng.random() < 0.5

        def step() -> None:
            event = steps.pop(0)
            if program.is_done:
                return
            if isinstance(event, ev.ProgramOpened) and event.program != number:
                self._begin_array(event, steps, step)
                return
            if not program.opened:
                program.opened, program.opened_s = True, self.now_s
            if isinstance(event, ev.PageAdded) and not program.called_off:
                program.sent += event.count
            self.drive(event)
            if isinstance(event, ev.TermsDefined):
                step()  # the page of an array's gate comes with the array
                return
            if isinstance(event, ev.ProgramStarted):
                for array in program.arrays.values():
                    self._feed(array)
            if steps and len(steps) <= grows:
                busy_s = sum(spec.durations) / self.settings.slots
                self.after(self.rng.random() * min(busy_s, 0.05), step)
            elif steps:
                self.after(0.0 if hurried else self.delay_s(), step)

        self.after(delay_s, step)
        if spec.dropped_after_s is not None:
            self.after(delay_s + spec.dropped_after_s, lambda: self.drop(program))
        for after_s, elements in spec.cancels:
            self._plan_cancel(program, delay_s + after_s, elements)
        share = self.settings.pause_share
        if share and self.rng.random() < share:
            self.after(delay_s + self.delay_s(), lambda: self._pause(program, 3))
        return program

    def _pause(self, program: ProgramTruth, times: int) -> None:
        """Its client does not take results for a while, some times."""
        if program.is_done or not times:
            return
        self.count("pauses")
        self.drive(ev.ProgramPaused(program.number))

        def resume() -> None:
            self.drive(ev.ProgramResumed(program.number))
            self.after(10 * self.delay_s(), lambda: self._pause(program, times - 1))

        self.after(10 * self.delay_s(), resume)

    def _open_arrays(self, program: ProgramTruth, first: int, page: Page) -> list[ev.Event]:
        """What the client sends for a page: the arrays behind its gates, and the page."""
        opened: list[ev.Event] = []
        gates = []
        for element, spec in program.spec.gates.items():
            if first <= element < first + page[0]:
                number = next(self._program_numbers)
                array = self.programs[number] = ProgramTruth(self, number, spec, None)
                array.gate = program, element
                program.arrays[element] = array
                self.count("elements", spec.count)
                opened.append(ev.ProgramOpened(number, spec.depth, True))
                gates.append((element, number))
                opened += [ev.TermsDefined(number, n, t) for n, t in enumerate(spec.terms) if n]
        terms = column_of(program.spec, first, page[0])
        return [*opened, ev.PageAdded(program.number, *page, tuple(gates), terms)]

    def _begin_array(
        self, event: ev.ProgramOpened, steps: list[ev.Event], step: Callable[[], None]
    ) -> None:
        """An array opens with the page that holds its gate."""
        array = self.programs[event.program]
        if not array.is_done:  # nor the program around it dropped
            array.opened, array.opened_s = True, self.now_s
            self.drive(event)
        step()
        if array.spec.dropped_after_s is not None:
            self.after(array.spec.dropped_after_s, lambda: self.drop(array))
        for after_s, elements in array.spec.cancels:
            self._plan_cancel(array, after_s, elements)

    def _feed(self, array: ProgramTruth) -> None:
        """The elements of an array come, before its gate opens and after that."""
        spec, number = array.spec, array.number
        counts = [page[0] for page in spec.pages] + spec.growth
        steps: list[ev.Event] = []
        first = 0
        for count in counts:
            steps.append(ev.PageAdded(number, count, terms=column_of(spec, first, count)))
            first += count
        steps.append(ev.ProgramSealed(number, spec.breaks_off))

        def step() -> None:
            event = steps.pop(0)
            if array.is_done:
                return
            if isinstance(event, ev.PageAdded):
                array.sent += 0 if array.called_off else event.count
            else:
                array.is_sealed = True
            self.drive(event)
            if steps:
                self.after(self.delay_s() * self.rng.choice((0.0, 1.0, 30.0)), step)

        self.after(self.delay_s(), step)

    def drop(self, program: ProgramTruth) -> None:
        if not program.opened:
            for one in (program, *program.arrays.values()):
                one.is_done = one.dropped = True
        if not program.is_done:
            for one in (program, *program.arrays.values()):
                one.dropped = True
                one.is_done = one.is_done or not one.opened
            for worker in self.workers.values():
                spared = worker.might_begin()
                if spared is not None and spared[0] in (program, *program.arrays.values()):
                    spared[0].spared.add(spared[1])
            self.drive(ev.ProgramDropped(program.number))

    def _plan_cancel(
        self, program: ProgramTruth, after_s: float, elements: list[int] | None
    ) -> None:
        def cancel() -> None:
            if program.opened and not program.is_done:
                self.count("CancelAsked")
                program.cancel(elements)
                self.drive(ev.CancelAsked(program.number, elements))
                if program.called_off:
                    for array in program.arrays.values():
                        if not array.opened:
                            array.is_done = array.dropped = True

        self.after(after_s, cancel)

    # -- the end -----------------------------------------------------------------------

    def _check_end(self) -> None:
        for program in self.programs.values():
            assert program.is_done, f"STALL: program {program.number} {program.open_elements()}"
            program.check()
        scheduler = self.scheduler
        assert not scheduler.programs
        assert not scheduler.unfinished
        scheduler.check()
        for worker in self.workers.values():
            assert not worker.owes()
            known = scheduler.pool.workers[worker.number]
            assert not known.blocked
            assert not known.recalling, f"worker {worker.number} never confirmed"
        assert set(scheduler.pool.workers) == set(self.workers)
        plain = [w for w in self.workers.values() if w.binding == PLAIN]
        assert self.slots <= len(plain) <= self.slots + scheduler.pool.spare
        assert len(self.workers) - len(plain) <= self.slots
        assert not scheduler.pool.awaited
        self._check_replay()

    def _check_replay(self) -> None:
        """The same events give the same effects."""
        again = Scheduler(self.settings.slots)
        for (now_s, event), answer in zip(self.history, self.answers, strict=True):
            effects = [signature(effect) for effect in again.handle(event, now_s)]
            assert effects == answer, "the same events gave other effects"


def signature(effect: ev.Effect) -> tuple[Any, ...]:
    """An effect as plain values, as it was when it was made."""
    name = type(effect).__name__
    if isinstance(effect, ev.Deal):
        c = effect.chunk
        elements = c.elements if isinstance(c.elements, range) else tuple(c.elements)
        return name, effect.worker, c.number, c.program.number, c.seq, elements, c.fused, c.grant
    fields = (getattr(effect, field) for field in effect.__struct_fields__)
    return name, *(tuple(value) if isinstance(value, list) else value for value in fields)


def brief(event: ev.Event) -> str:
    fields = ((name, getattr(event, name)) for name in event.__struct_fields__)
    shown = (f"{k}={f'{len(v)} bytes' if isinstance(v, bytes) else v}" for k, v in fields)
    return f"{type(event).__name__}({', '.join(shown)})"
