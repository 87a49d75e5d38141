"""The manager: the shell that drives the scheduler between clients and workers.

Everything here is IO and bookkeeping of bytes.  What runs where is decided in
``core.scheduler``; when the service ends in ``core.session``.
"""

from __future__ import annotations

import logging
import socket
import time
from array import array
from collections.abc import Iterable, Sequence

from alamo.core import events as ev
from alamo.core.scheduler import Scheduler
from alamo.core.session import End, Session
from alamo.core.workers import Worker
from alamo.manager import deaths
from alamo.manager.blocks import BlockRegistry, blocks_max_of
from alamo.manager.clients import Client
from alamo.manager.harvest import Harvester
from alamo.manager.loop import Loop
from alamo.manager.pool import Pool, WorkerProcess
from alamo.manager.programs import ProgramData
from alamo.protocol import messages as msg
from alamo.protocol.layout import GRACE_S
from alamo.protocol.records import as_record

log = logging.getLogger("alamo.manager")

#: A worker from which the later half was taken may take this long for the other, or loses it too.
_HALF_S = 0.005

#: Outcomes of tasks this short, with this many to come, are gathered this long for their client:
#: each message wakes it up, which costs both sides as much as ten tasks.
_LINGER_S = 0.002
_SHORT_S = 0.000_05
_MANY = 1024


class Service:
    """State of one running manager."""

    def __init__(self, loop: Loop, setup: msg.Setup, address: str, files: int) -> None:
        self.loop = loop
        self.setup = setup
        self.host = socket.gethostname()
        self.session = Session()
        self.scheduler = Scheduler(setup.slots)
        self.blocks = BlockRegistry()
        self.clients: dict[int, Client] = {}
        self.programs: dict[int, ProgramData] = {}
        self.functions: dict[int, bytes] = {}
        self._function_numbers: dict[bytes, int] = {}
        self._program_numbers = 0
        self._client_numbers = 0
        self._stillbirths = deaths.Stillbirths()
        self._dead: dict[int, WorkerProcess] = {}
        self.harvester = Harvester(self)
        self.blocks_max = blocks_max_of(setup.slots)
        nursery_setup = msg.NurserySetup(
            setup.sys_path, setup.cwd, setup.log_level, address, self.blocks_max, files
        )
        self.pool = Pool(loop, self, nursery_setup)
        for _ in range(setup.slots):
            self.pool.spawn()  # an error here is the Batch's

    # -- driving the scheduler ---------------------------------------------------------

    def drive(self, event: ev.Event) -> None:
        """Give the scheduler an event and do what it answers."""
        for effect in self.scheduler.handle(event, time.monotonic()):
            match effect:
                case ev.Deal():
                    self._deal(effect)
                case ev.WakeAt(at_s):
                    self.loop.call_at(at_s, lambda: self.drive(ev.Woken()))
                case ev.Recall(worker, everything):
                    self._recall(self.pool.workers[worker], everything)
                case ev.ElementsSkipped(program, elements, roots):
                    self._skipped(program, elements, roots)
                case ev.ElementLost(program, element, worker):
                    self._element_lost(program, element, worker)
                case ev.ProgramDone(program):
                    self._program_done(program)
                case ev.SpawnWorkers(count):
                    for _ in range(count):  # after others that did not come up a little later
                        self.loop.call_later(self._stillbirths.delay_s, self._spawn)
                case ev.RetireWorker(worker):
                    self.pool.retire(worker)

    def _spawn(self) -> None:
        try:
            self.pool.spawn()
        except OSError as error:
            self._stillborn(f"{error}; too many workers for the limits of this machine")
            self.drive_later(ev.WorkerLost(-1))

    def _stillborn(self, why: str) -> None:
        """A worker did not come up.  When that goes on and nothing else can run, it is the end."""
        self._stillbirths.another()
        if self._stillbirths.too_many and self.scheduler.pool.is_stuck:
            self.session.broken(self._stillbirths.reason(why))

    def _deal(self, effect: ev.Deal) -> None:
        worker = self.pool.workers[effect.worker]
        chunk = effect.chunk
        data = self.programs[chunk.program.number]
        message = data.make_chunk(chunk, worker.epoch)
        self._define_functions(worker, message.functions)
        if data.objects:
            for number in data.objects_of(chunk.elements):
                self._define_object(worker, data, number)
        for _, outcome in message.inputs:
            self._show_blocks_of(outcome, worker)
        worker.end_seq = chunk.end_seq
        worker.connection.send(message)
        if len(chunk.elements) > 1:
            self.harvester.watch(worker)

    def _define_functions(self, worker: WorkerProcess, functions: int | bytes) -> None:
        needed = {functions} if isinstance(functions, int) else set(memoryview(functions).cast("I"))
        for number in needed - worker.known_functions:
            worker.known_functions.add(number)
            worker.connection.send(msg.FunctionDefined(number, self.functions[number]))

    def _define_object(self, worker: WorkerProcess, data: ProgramData, number: int) -> None:
        key = (data.number, number)
        if key in worker.known_objects:
            return
        worker.known_objects.add(key)
        definition = data.definitions[number]
        if definition.block >= 0:
            self.blocks.show(definition.block, worker.connection)
        worker.connection.send(definition)

    def _show_blocks_of(self, outcome: bytes, worker: WorkerProcess) -> None:
        record = as_record(outcome)
        if record is not None and record.block >= 0:
            self.blocks.show(record.block, worker.connection)

    def _recall(self, worker: WorkerProcess, everything: bool) -> None:
        """Take back what the worker has not begun (the protocol is told in ``layout``)."""
        first = worker.next_seq + 1
        cut = first if everything else first + max(0, worker.end_seq - first) // 2
        if cut >= worker.end_seq:
            if worker.recall is None:  # else it has stopped at the earlier limit and will say so
                self.drive_later(ev.WorkerResumed(worker.number))
            return
        cut = worker.lower_limit(cut)
        token = worker.recall = object()

        def settle() -> None:
            if worker.recall is token:
                self.harvester.harvest(worker)
                self.drive(ev.TakenBack(worker.number, max(cut, worker.next_seq + 1)))
                if not everything:
                    self.loop.call_later(_HALF_S, escalate)

        def escalate() -> None:
            # It is still before its half: it may be in a task of an hour.
            if worker.recall is token:
                self._recall(worker, True)

        self.loop.call_later(GRACE_S, settle)

    def drive_later(self, event: ev.Event) -> None:
        """An event that comes while effects are being carried out."""
        self.loop.at_round_end(lambda: self.drive(event))

    # -- workers -----------------------------------------------------------------------

    def on_worker_message(self, worker: WorkerProcess, message: msg.Message) -> None:
        """A worker sent a message."""
        match message:
            case msg.Finished():
                self.harvester.announced(worker, message)
            case msg.Stopped(seq, epoch):
                worker.epoch = epoch
                worker.recall = None
                worker.lift_limit()
                self.drive(ev.TakenBack(worker.number, seq))
                self.drive(ev.WorkerResumed(worker.number))
            case msg.Ready(pid):
                worker.set_pid(pid)
                self._stillbirths.none()
                self.drive(ev.WorkerReady(worker.number))
            case msg.BlockMade(block, size):
                fd = worker.connection.take_descriptors(message)[0]
                self.blocks.made(worker.connection, block, size, fd)
            case msg.BlocksGone(blocks):
                self.blocks.gone(blocks)
            case msg.Logged():
                self.tell_log(message)
        self.check_end()

    def forward(
        self,
        number: int,
        elements: Sequence[int],
        ends: bytes,
        payload: bytes,
        failed: tuple[int, ...] = (),
        blocks: tuple[tuple[int, int], ...] = (),
    ) -> None:
        """Pass outcomes on to the client, unopened, and keep those that other tasks need."""
        data = self.programs[number]
        client = self.clients.get(data.client)
        used = [block for _, block in blocks]
        for block in used:
            self.blocks.use(block)
            if client is not None:
                client.show_block(block)
        if data.consumers:
            self._keep_sources(data, elements, ends, payload)
        if client is not None:
            is_range = isinstance(elements, range)
            column = b"" if is_range else _column(elements)
            linger_s = self._linger_s(number, len(elements))
            client.connection.send(
                msg.Results(data.remote, elements[0], column, ends, payload, failed, blocks),
                linger_s=linger_s,
            )
            if not linger_s:  # somebody may wait for it: before anything is decided
                client.connection.flush()
        if data.inputs or data.objects:
            self._inputs_ended(data, elements)
        if used:
            self.blocks.released(used)

    def _linger_s(self, number: int, count: int) -> float:
        """How long outcomes may wait for more to go with them to their client."""
        program = self.scheduler.programs.get(number)
        if program is None or program.mean_s is None or program.mean_s > _SHORT_S:
            return 0.0
        return _LINGER_S if program.unfinished - count > _MANY else 0.0

    def _keep_sources(
        self, data: ProgramData, elements: Sequence[int], ends: bytes, payload: bytes
    ) -> None:
        start = 0
        for element, end in zip(elements, memoryview(ends).cast("I"), strict=True):
            if element in data.consumers:
                outcome = data.kept[element] = payload[start:end]
                record = as_record(outcome)
                if record is not None and record.block >= 0:
                    self.blocks.use(record.block)
                    data.kept_blocks[element] = record.block
            start = end

    def _inputs_ended(self, data: ProgramData, elements: Iterable[int]) -> None:
        blocks, objects = data.ended(elements)
        for number in objects:
            definition = data.definitions.pop(number, None)
            if definition is not None and definition.block >= 0:
                blocks.append(definition.block)
        self.blocks.released(blocks)

    def on_worker_dead(self, worker: WorkerProcess) -> None:
        """A worker's process is gone and all that it sent has been handled."""
        known = self.scheduler.pool.workers.get(worker.number)
        if known is not None:
            self._lost(worker, known)
        elif not worker.retired:
            if worker.is_explained:
                self._stillborn(deaths.describe_stillborn(worker))
            self.drive(ev.WorkerLost(worker.number))
        worker.connection.close(quiet=True)
        self.blocks.peer_gone(worker.connection)
        self.check_end()

    def on_pool_broken(self, reason: str) -> None:
        """No worker can be started any more."""
        self.session.broken(reason)
        self.check_end()

    def _lost(self, worker: WorkerProcess, known: Worker) -> None:
        """Pass on what it had finished and not announced; blame the task that it was running."""
        seq = worker.next_seq
        running = worker.running_seq([(c.number, c.seq, c.end_seq) for c in known.chunks])
        self.harvester.harvest(worker)
        reported = max((c.seq + c.done for c in known.chunks[:1]), default=0)
        self._dead[worker.number] = worker
        lost = ev.WorkerLost(worker.number, max(seq, reported), running >= reported)
        self.drive(lost)
        del self._dead[worker.number]

    def _element_lost(self, number: int, element: int, worker_number: int) -> None:
        worker = self._dead[worker_number]
        log.warning("worker %d (pid %d) died: %s", worker_number, worker.pid, worker.status)
        payload = deaths.lost_record(worker, self.host)
        self.forward(number, [element], len(payload).to_bytes(4, "little"), payload, (0,))

    # -- programs ----------------------------------------------------------------------

    def next_client(self) -> int:
        """Number for a client that has just been let in."""
        self._client_numbers += 1
        return self._client_numbers - 1

    def depth_of_worker(self, worker: int) -> int:
        """Depth of the program whose task runs in the worker."""
        known = self.scheduler.pool.workers.get(worker)
        return known.chunks[0].program.depth if known is not None and known.chunks else 0

    def open_program(self, client: int, remote: int, cwd: str) -> int:
        """A client begins a program; returns the manager's number of it."""
        number = self._program_numbers
        self._program_numbers += 1
        self.programs[number] = ProgramData(number, client, remote, cwd)
        return number

    def add_function(self, blob: bytes) -> int:
        """Keep a pickled function; returns its number here.  Equal bytes get one number."""
        number = self._function_numbers.setdefault(blob, len(self._function_numbers))
        self.functions[number] = blob
        return number

    def drop_if_unstarted(self, number: int) -> None:
        """The program's client is gone: what it has not started never runs."""
        program = self.scheduler.programs.get(number)
        if program is not None and not program.started:
            self.drive(ev.ProgramDropped(number))

    def _skipped(self, number: int, elements: list[int], roots: list[int]) -> None:
        data = self.programs[number]
        client = self.clients.get(data.client)
        if client is not None:
            client.connection.send(msg.Skipped(data.remote, _column(elements), _column(roots)))
        if data.inputs or data.objects:
            self._inputs_ended(data, elements)

    def _program_done(self, number: int) -> None:
        data = self.programs.pop(number)
        client = self.clients.get(data.client)
        if client is not None:
            client.programs.pop(data.remote, None)
        blocks = list(data.kept_blocks.values())
        blocks += [d.block for d in data.definitions.values() if d.block >= 0]
        self.blocks.released(blocks)
        for worker in self.pool.workers.values():
            sent = {key for key in worker.known_objects if key[0] == number}
            if sent:
                worker.known_objects -= sent
                worker.connection.send(msg.ObjectsForgotten(number))
        self.loop.at_round_end(self.check_end)

    # -- the end -------------------------------------------------------------------------

    def tell_log(self, message: msg.Logged) -> None:
        """Pass a log record on to the primary client."""
        primary = self.clients.get(self.session.primary if self.session.primary is not None else -1)
        if primary is not None:
            primary.connection.send(message)

    def check_end(self) -> None:
        """End the service when its time has come."""
        if self.session.verdict(self.scheduler.unfinished) is not End.NOT_YET:
            self.loop.stop()


def _column(elements: Iterable[int]) -> bytes:
    return array("I", elements).tobytes()
