"""The manager's part and the worker's part of an inline Batch: the scheduler, driven by hand."""

from __future__ import annotations

import os
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from alamo import blocking
from alamo.core import events as ev
from alamo.core.attempts import backoff_s
from alamo.core.chunks import Chunk
from alamo.core.explain import account
from alamo.core.scheduler import Scheduler
from alamo.errors import WorkerLost
from alamo.manager.arrays import ArrayData
from alamo.manager.inquiries import account_message, machine_message
from alamo.manager.machine import Machine
from alamo.manager.programs import ProgramData
from alamo.protocol import messages as msg
from alamo.protocol.blocks import BlockMaker, BlockReader
from alamo.protocol.marks import Timing
from alamo.protocol.records import LOST, LostInfo, Record
from alamo.testing.calls import calls_of, function_at
from alamo.testing.clock import Clock
from alamo.testing.data_waits import DataWaits
from alamo.testing.ends import Ends, is_tried_again, terms_here
from alamo.testing.execution import Execution
from alamo.testing.stopwatch import Stopwatch
from alamo.worker.inputs import ChunkInputs
from alamo.worker.runner import FunctionTable

Failures = Mapping[Any, BaseException | type[BaseException]]

_encode = msgspec.msgpack.Encoder().encode


class Source(Protocol):
    """Something that makes elements while the service runs."""

    def pull(self) -> bool:
        """Make some; ``False`` when there will be no more."""


class InlineOwner(Protocol):
    """The client of a program."""

    def take(self, message: msg.Message) -> None:
        """Receive what a manager sends to its client."""

    def failure_of(self, number: int, element: int, function: bytes) -> Any:
        """The failure chosen for an element of a program with this pickled function."""

    def title_of(self, number: int, element: int) -> str:
        """The name of an element of a program in messages."""


class _Dealt:
    """A chunk at a worker."""

    __slots__ = ("calls", "chunk", "message", "position", "worker")

    def __init__(
        self, worker: int, chunk: Chunk, message: msg.Chunk, calls: list[Callable[[], Any]]
    ) -> None:
        self.worker = worker
        self.chunk = chunk
        self.message = message
        self.calls = calls
        self.position = 0


class InlineService:
    """Runs programs on one slot, one element at a ``step``."""

    def __init__(self) -> None:
        self._owners: dict[int, InlineOwner] = {}
        self._scheduler = Scheduler(slots=1)
        self._programs: dict[int, ProgramData] = {}
        self._functions = FunctionTable()
        self._blobs: dict[int, bytes] = {}
        self._inputs = ChunkInputs(BlockReader(lending=False), BlockMaker(1, 0))
        #: Chunks by worker, those of the worker that runs last.
        self._dealt: dict[int, deque[_Dealt]] = {}
        self._running: list[_Dealt] = []
        self._answers: deque[ev.Event] = deque()
        self._workers = 1
        self._clock = Clock()
        self._ends = Ends()
        self._execution = Execution(self._inputs)
        self._waits = DataWaits(self._running_title)
        self._driving = False
        self.sources: list[Source] = []
        self._drive(ev.WorkerReady(0))

    # -- messages --------------------------------------------------------------------------

    def take(self, message: msg.Message, owner: InlineOwner) -> None:
        """A message of a client."""
        match message:
            case msg.Opened(program, cwd, growing, is_array, priority):
                kind = ArrayData if is_array else ProgramData
                self._programs[program] = kind(program, 0, program, cwd)
                self._owners[program] = owner
                depth = self._running[-1].chunk.program.depth + 1 if self._running else 0
                self._drive(ev.ProgramOpened(program, depth, growing, priority))
            case msg.Page():
                self._take_page(message)
            case msg.Started(program, ranks):
                if program in self._programs:
                    self._programs[program].merge()
                    self._drive(ev.ProgramStarted(program, ranks))
            case msg.Sealed(program, failed):
                self._drive(ev.ProgramSealed(program, failed))
            case msg.Dropped(program):
                self._drive(ev.ProgramDropped(program))
            case msg.TermsDefined(program, number):
                if program in self._programs:
                    self._programs[program].define_terms(message)
                    self._drive(ev.TermsDefined(program, number, terms_here(message)))
            case msg.CancelAsked():
                self._cancel(message)
            case msg.AccountAsked(request, program, element):
                found = account(self._scheduler, program, element)
                owner.take(account_message(found, request))
            case msg.MachineAsked(request):
                owner.take(machine_message(Machine(), request, 1))
            case msg.FunctionDefined(number, blob):
                self._functions.define(number, blob)
                self._blobs[number] = blob
            case msg.ObjectDefined():
                if message.program in self._programs:
                    self._programs[message.program].add_object(message)
                    self._inputs.define(message)

    def _take_page(self, page: msg.Page) -> None:
        data = self._programs.get(page.program)
        if data is None:
            return
        functions: int | array[int]
        if isinstance(page.functions, int):
            functions = page.functions
        else:
            functions = array("I", page.functions)
        for element, inner in page.gates:
            gated = self._programs[inner]
            assert isinstance(gated, ArrayData)
            gated.gate = (data, element)
            data.gated[element] = inner
        if data.terms is not None:
            data.terms.add_page(data.count, page.count, page.terms)
        data.add_page(page, functions)
        columns = page.pred_ends, page.preds, page.joins, page.gates, page.terms
        self._drive(ev.PageAdded(page.program, page.count, *columns))

    def _cancel(self, message: msg.CancelAsked) -> None:
        data = self._programs.get(message.program)
        if data is None:
            return
        elements = None if message.everything else array("I", message.elements).tolist()
        data.note_cancel(elements, message.reason)
        for element in data.gated if elements is None else data.gated.keys() & set(elements):
            if data.gated[element] in self._programs:
                self._programs[data.gated[element]].note_cancel(None, message.reason)
        self._drive(ev.CancelAsked(message.program, elements))

    # -- the scheduler ---------------------------------------------------------------------

    def _drive(self, event: ev.Event) -> None:
        self._answers.append(event)
        if self._driving:
            return
        self._driving = True
        try:
            while self._answers:
                for effect in self._scheduler.handle(self._answers.popleft(), self._clock.now_s()):
                    self._carry_out(effect)
        finally:
            self._driving = False

    def _carry_out(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Deal(worker, chunk):
                self._deal(worker, chunk)
            case ev.Recall(worker):
                self._take_back(worker)
            case ev.SpawnWorkers(count, binding):
                for _ in range(count):
                    self._answers.append(ev.WorkerReady(self._workers, binding))
                    self._workers += 1
            case ev.ElementsSkipped(program, elements, roots):
                columns = array("I", elements).tobytes(), array("I", roots).tobytes()
                self._owners[program].take(msg.Skipped(program, *columns))
                self._ended(self._programs[program], elements)
            case ev.ElementsCancelled(program, elements):
                self._tell_cancelled(program, elements)
            case ev.StopElement(worker, seq):
                self._ends.stop(worker, seq)
            case ev.WakeAt(at_s):
                self._clock.wake_at(at_s)
            case ev.GateClosed(program, element, inner, failed):
                self._close_gate(program, element, inner, failed)
            case ev.ElementLost(program, element, _, again):
                if not again:
                    outcome = _lost_record()
                    self._forward(program, [element], outcome, True, Stopwatch().timing())
            case ev.ProgramDone(program):
                self._programs.pop(program, None)
                self._owners.pop(program, None)
                self._inputs.forget(program)

    def _deal(self, worker: int, chunk: Chunk) -> None:
        data = self._programs[chunk.program.number]
        message = data.make_chunk(chunk, 0)
        calls = calls_of(message, self._functions)
        self._dealt.setdefault(worker, deque()).append(_Dealt(worker, chunk, message, calls))

    def _take_back(self, worker: int) -> None:
        """What the worker has not begun."""
        chunks = self._dealt.get(worker, deque())
        for dealt in chunks:
            running = dealt in self._running
            seq = dealt.chunk.seq + dealt.position + running
            if seq < dealt.chunk.end_seq:
                self._answers.append(ev.TakenBack(worker, seq))
                break
        self._answers.append(ev.WorkerResumed(worker))
        self._dealt[worker] = deque([d for d in chunks if d in self._running])

    def _tell_cancelled(self, program: int, elements: list[int]) -> None:
        data = self._programs[program]
        for element in elements:
            column = array("I", [element]).tobytes()
            reason = data.why_cancelled(element)
            self._owners[program].take(msg.Cancelled(program, column, reason))
        self._ended(data, elements)

    def _close_gate(self, program: int, element: int, inner: int, failed: bool) -> None:
        data, gated = self._programs[program], self._programs.get(inner)
        self._forward(program, [element], b"", failed)
        if element in data.consumers and isinstance(gated, ArrayData):
            data.kept[element], _ = gated.hand_over()

    def _forward(
        self,
        program: int,
        elements: Sequence[int],
        outcome: bytes,
        failed: bool,
        timing: Timing | None = None,
    ) -> None:
        """Keep an outcome that another task needs, and tell the client."""
        data = self._programs[program]
        ends = len(outcome).to_bytes(4, sys.byteorder)
        for element in elements:
            if element in data.consumers:
                data.kept[element] = outcome
        if isinstance(data, ArrayData) and data.is_collected:
            data.collect(elements, ends, outcome)
        column = array("I", elements).tobytes()
        self._ended(data, elements)
        failures = (0,) if failed else ()
        results = msg.Results(program, elements[0], column, ends, outcome, failures, timing=timing)
        self._owners[program].take(results)

    def _ended(self, data: ProgramData, elements: Iterable[int]) -> None:
        if data.inputs or data.objects:
            data.ended(elements)

    # -- running ---------------------------------------------------------------------------

    @property
    def is_inside(self) -> bool:
        """Whether an element is running, so this is a call of its own code."""
        return bool(self._running)

    def step(self) -> bool:
        """Run one element; ``False`` when there is none."""
        for worker, chunks in self._dealt.items():
            while chunks and chunks[0].position >= len(chunks[0].chunk.elements):
                chunks.popleft()
            busy = any(dealt.worker == worker for dealt in self._running)
            if chunks and not busy:
                self._run(chunks[0])
                return True
        return False

    def run_until(self, come: Callable[[], bool], pull: bool) -> None:
        """Run elements until ``come()`` or none is left.

        Args:
            pull: take from sources when nothing else is to be done.
        """
        worker = self._running[-1].worker if self._running else -1
        if worker >= 0:  # the running element waits for others
            self._drive(ev.WorkerBlocked(worker))
        try:
            while not come():
                if not (self.step() or self._skip_pause() or (pull and self._pull())):
                    return
        finally:
            if worker >= 0:
                self._drive(ev.WorkerUnblocked(worker))

    def _skip_pause(self) -> bool:
        """Nothing can run now: go on to when something may that failed and is tried again."""
        if not self._clock.skip():
            return False
        self._drive(ev.Woken())
        return True

    def _pull(self) -> bool:
        for source in list(self.sources):
            if source.pull():
                return True
            self.sources.remove(source)
            return True
        return False

    def _run(self, dealt: _Dealt) -> None:
        chunk, position = dealt.chunk, dealt.position
        program, element = chunk.program.number, chunk.elements[position]
        self._running.append(dealt)
        try:
            function = self._blobs[function_at(dealt.message, position)]
            failure = self._owners[program].failure_of(program, element, function)
            if failure is WorkerLost:
                self._lose(dealt)
                return
            stopwatch, begun_s = Stopwatch(), time.monotonic()
            with blocking.listening_here(self._waits):
                outcome, ok = self._execution.outcome(dealt.message, dealt.calls[position], failure)
            ran_s, timing = time.monotonic() - begun_s, stopwatch.timing()
        finally:
            self._running.remove(dealt)
        data = self._programs[program]
        stopped = self._ends.settled(data, dealt.worker, chunk, position, outcome, ran_s)
        if stopped is not None:
            outcome, ok = stopped, False
        if dealt.message.keep and position in dealt.message.keep:
            self._inputs.keep(dealt.message, position, outcome)
            dealt.message.inputs = (*dealt.message.inputs, (element, outcome))
        dealt.position += 1
        failed = () if ok else (position,)
        again = () if ok or not self._tell_attempt(chunk, position, outcome) else failed
        if not again:
            self._forward(program, [element], outcome, not ok, timing)
        stops = not ok and chunk.fused and position + 1 < len(chunk.elements)
        event = ev.ChunkFinished(dealt.worker, chunk.number, position + 1, failed, again=again)
        self._drive(event)
        if stops:
            self._dealt[dealt.worker].clear()
            self._drive(ev.TakenBack(dealt.worker, chunk.seq + position + 1))
            self._drive(ev.WorkerResumed(dealt.worker))

    def _running_title(self) -> str:
        dealt = self._running[-1]
        program = dealt.chunk.program.number
        return self._owners[program].title_of(program, dealt.chunk.elements[dealt.position])

    def _lose(self, dealt: _Dealt) -> None:
        """The worker dies while it runs the element."""
        del self._dealt[dealt.worker]
        again = self._tell_attempt(dealt.chunk, dealt.position, _lost_record())
        self._drive(ev.WorkerLost(dealt.worker, dealt.chunk.seq + dealt.position, True, again))

    def _tell_attempt(self, chunk: Chunk, position: int, outcome: bytes) -> bool:
        """Whether an element that failed is tried again, of which its client is told."""
        number, element = chunk.program.number, chunk.elements[position]
        again = is_tried_again(chunk, self._programs[number], position, outcome)
        if again:
            delay_s = backoff_s(chunk.program, element)
            self._owners[number].take(msg.AttemptFailed(number, element, outcome, delay_s))
        return again


def _lost_record() -> bytes:
    """The outcome of an element whose worker was chosen to die."""
    info = LostInfo(socket.gethostname(), os.getpid(), 9, -1, "chosen by the test (WorkerLost)")
    return _encode(Record(LOST, _encode(info)))
