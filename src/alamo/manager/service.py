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
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.core import workers
from alamo.core.scheduler import Scheduler
from alamo.core.session import End, Session
from alamo.core.workers import Worker
from alamo.errors import SerializationError
from alamo.manager import deaths
from alamo.manager.arrays import ArrayData
from alamo.manager.blocks import BlockRegistry, blocks_max_of
from alamo.manager.clients import Client
from alamo.manager.dealing import Dealer, failure_record
from alamo.manager.functions import Functions
from alamo.manager.harvest import Harvester, replaced
from alamo.manager.log_relay import LogRelay
from alamo.manager.loop import Loop
from alamo.manager.pool import Pool, WorkerProcess
from alamo.manager.programs import ProgramData
from alamo.manager.recalls import recall
from alamo.protocol import messages as msg
from alamo.protocol import nursery_messages
from alamo.protocol.marks import Timing
from alamo.protocol.records import block_of

if TYPE_CHECKING:
    from alamo.manager.metrics import Metrics

log = logging.getLogger("alamo.manager")

#: Outcomes of tasks this short, with this many to come, are gathered this long for their client:
#: each message wakes it up, which costs both sides as much as ten tasks.
_LINGER_S = 0.002
_SHORT_S = 0.000_05
_MANY = 1024

#: A client that has not taken so much gets no more of its programs run until it has taken half.
QUEUE_MAX_BYTES = 64 << 20

#: How long all workers may stand still in waits, one of which may be about to end.
_TOO_DEEP_S = 1.0


class Service:
    """State of one running manager."""

    def __init__(self, loop: Loop, setup: msg.Setup, address: str, files: int) -> None:
        self.loop = loop
        self.setup = setup
        self.host = socket.gethostname()
        self.session = Session()
        self.scheduler = Scheduler(setup.slots)
        self.handle = self.scheduler.handle
        self.metrics: Metrics | None = None
        self.forwarded_bytes = 0
        self.blocks = BlockRegistry()
        self.clients: dict[int, Client] = {}
        self.programs: dict[int, ProgramData] = {}
        self.functions = Functions(self._forget_function)
        self._program_numbers = 0
        self._client_numbers = 0
        self._stillbirths = deaths.Stillbirths()
        self._looking_again = False
        self.logs = LogRelay(self)
        self._dead: dict[int, WorkerProcess] = {}
        self.harvester = Harvester(self)
        self._dealer = Dealer(self)
        worker_blocks_max, self.client_blocks_max = blocks_max_of(setup.slots)
        nursery_setup = nursery_messages.NurserySetup(
            setup.sys_path, setup.cwd, setup.log_level, address, worker_blocks_max, files
        )
        self.pool = Pool(loop, self, nursery_setup)
        for _ in range(setup.slots):
            self.pool.spawn()  # an error here is the Batch's

    # -- driving the scheduler ---------------------------------------------------------

    def drive(self, event: ev.Event) -> None:
        """Give the scheduler an event and do what it answers."""
        for effect in self.handle(event, time.monotonic()):
            match effect:
                case ev.Deal():
                    self._dealer.deal(effect)
                case ev.WakeAt(at_s):
                    self.loop.call_at(at_s, lambda: self.drive(ev.Woken()))
                case ev.Recall(worker, everything):
                    recall(self, self.pool.workers[worker], everything)
                case ev.ElementsSkipped(program, elements, roots):
                    self._skipped(program, elements, roots)
                case ev.ElementLost(program, element, worker):
                    self._element_lost(program, element, worker)
                case ev.GateClosed():
                    self._gate_closed(effect)
                case ev.ProgramDone(program):
                    self._program_done(program)
                case ev.SpawnWorkers(count):
                    for _ in range(count):  # after others that did not come up a little later
                        self.loop.call_later(self._stillbirths.delay_s, self._spawn)
                case ev.RetireWorker(worker):
                    self.pool.retire(worker)
        if self.scheduler.is_too_deep and not self._looking_again:
            self._look_again(-1)

    def _look_again(self, dealt: int) -> None:
        """All workers stand still.  If nothing has gone on when this is asked again, it is the end.

        Args:
            dealt: chunks dealt when it was asked before.
        """
        scheduler = self.scheduler
        self._looking_again = scheduler.is_too_deep and scheduler.chunks_dealt != dealt
        if self._looking_again:
            now = scheduler.chunks_dealt
            self.loop.call_later(_TOO_DEEP_S, lambda: self._look_again(now))
        elif scheduler.is_too_deep:
            self.session.broken(
                f"{scheduler.pool.blocked} tasks wait for tasks that they submitted, and no worker "
                f"is left to run these: at most {workers.LENT_MAX} tasks may stand still in a wait "
                "at once; nest them less deeply, or do not wait inside of them"
            )
            self.check_end()

    def _spawn(self) -> None:
        try:
            self.pool.spawn()
        except OSError as error:
            self.on_start_failed(f"{error}; too many workers for the limits of this machine")
            self.drive_later(ev.WorkerLost(-1))

    def on_start_failed(self, why: str) -> None:
        """A worker did not come up.  When that goes on and nothing else can run, it is the end."""
        self._stillbirths.another()
        if self._stillbirths.too_many and self.scheduler.pool.is_stuck:
            self.session.broken(self._stillbirths.reason(why))
            self.check_end()

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
                self.logs.tell(message)
        self.check_end()

    def forward(
        self,
        number: int,
        elements: Sequence[int],
        ends: bytes,
        payload: bytes,
        failed: tuple[int, ...] = (),
        blocks: tuple[tuple[int, int], ...] = (),
        timing: Timing | None = None,
    ) -> None:
        """Pass outcomes on to the client, unopened, and keep those that other tasks need."""
        data = self.programs[number]
        client = self.clients.get(data.client)
        used = [block for _, block in blocks]
        self.forwarded_bytes += len(payload) + sum(map(self.blocks.size_of, used))
        unseen: dict[int, bytes] = {}
        for position, block in blocks:
            self.blocks.use(block)
            try:
                if client is not None:
                    client.show_block(block)
            except OSError as error:
                lost = SerializationError(f"the result could not be passed on: {error}")
                unseen[position] = failure_record(lost, self.host)
        if data.consumers:
            self._keep_sources(data, elements, ends, payload)
        if isinstance(data, ArrayData) and data.is_collected:
            for block in data.collect(elements, ends, payload):
                self.blocks.use(block)
        if unseen:
            ends, payload = replaced(ends, payload, unseen)
            failed = tuple(sorted({*failed, *unseen}))
            blocks = tuple([pair for pair in blocks if pair[0] not in unseen])
        if client is not None:
            is_range = isinstance(elements, range)
            column = b"" if is_range else _column(elements)
            linger_s = self._linger_s(number, len(elements))
            client.connection.send(
                msg.Results(
                    data.remote, elements[0], column, ends, payload, failed, blocks, timing
                ),
                linger_s=linger_s,
            )
            if client.connection.queued_bytes > QUEUE_MAX_BYTES:
                client.hold()
            if not linger_s:  # somebody may wait for it: before anything is decided
                client.connection.flush()
        if data.inputs or data.objects or data.is_array:
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
                block = block_of(outcome)
                if block >= 0:
                    self.blocks.use(block)
                    data.kept_blocks[element] = [block]
            start = end

    def _inputs_ended(self, data: ProgramData, elements: Iterable[int]) -> None:
        blocks, objects = data.ended(elements)
        self.blocks.released(blocks)
        self.objects_gone(data, objects)

    def objects_gone(self, data: ProgramData, objects: list[int]) -> None:
        """Nobody needs these objects of a program any more."""
        blocks = []
        for number in objects:
            data.object_users.pop(number, None)
            definition = data.definitions.pop(number, None)
            if definition is not None and definition.block >= 0:
                blocks.append(definition.block)
        self.blocks.released(blocks)
        if objects and data.is_array:  # it may be endless, and no worker should keep them all
            for worker in self.pool.workers.values():
                sent = [n for n in objects if (data.number, n) in worker.known_objects]
                if sent:
                    worker.known_objects.difference_update([(data.number, n) for n in sent])
                    worker.connection.send(msg.ObjectsForgotten(data.number, tuple(sent)))

    def on_worker_dead(self, worker: WorkerProcess) -> None:
        """A worker's process is gone and all that it sent has been handled."""
        known = self.scheduler.pool.workers.get(worker.number)
        if known is not None:
            self._lost(worker, known)
        elif not worker.retired:
            if worker.is_explained:
                self.on_start_failed(deaths.describe_stillborn(worker))
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
        ends, timing = len(payload).to_bytes(4, "little"), deaths.lost_timing(worker)
        self.forward(number, [element], ends, payload, (0,), timing=timing)

    # -- programs ----------------------------------------------------------------------

    def next_client(self) -> int:
        """Number for a client that has just been let in."""
        self._client_numbers += 1
        return self._client_numbers - 1

    def depth_of_worker(self, worker: int) -> int:
        """Depth of the program whose task runs in the worker."""
        known = self.scheduler.pool.workers.get(worker)
        return known.chunks[0].program.depth if known is not None and known.chunks else 0

    def open_program(self, client: int, remote: int, cwd: bytes, array: bool) -> int:
        """A client begins a program; returns the manager's number of it."""
        number = self._program_numbers
        self._program_numbers += 1
        kind = ArrayData if array else ProgramData
        self.programs[number] = kind(number, client, remote, cwd)
        return number

    def _forget_function(self, number: int) -> None:
        for worker in self.pool.workers.values():
            if number in worker.known_functions:
                worker.known_functions.discard(number)
                worker.connection.send(msg.FunctionsForgotten([number]))

    def drop_if_unstarted(self, number: int) -> None:
        """The program's client is gone: what it has not started never runs."""
        program = self.scheduler.programs.get(number)
        if program is None or program.started or (program.gate and program.gate[0].started):
            return
        self.drive(ev.ProgramDropped(number))

    def _skipped(self, number: int, elements: list[int], roots: list[int]) -> None:
        data = self.programs[number]
        client = self.clients.get(data.client)
        if client is not None:
            client.connection.send(msg.Skipped(data.remote, _column(elements), _column(roots)))
        if data.inputs or data.objects:
            self._inputs_ended(data, elements)

    def _gate_closed(self, effect: ev.GateClosed) -> None:
        """An array has ended, and with it the element that stands for it."""
        data, element = self.programs[effect.program], effect.element
        inner = self.programs.get(effect.inner)
        kept, blocks = inner.hand_over() if isinstance(inner, ArrayData) else (b"", [])
        failed = (0,) if effect.failed else ()
        self.forward(effect.program, [element], bytes(4), b"", failed)
        if element in data.consumers:
            data.kept[element], data.kept_blocks[element] = kept, blocks
        else:
            self.blocks.released(blocks)

    def _program_done(self, number: int) -> None:
        data = self.programs.pop(number)
        client = self.clients.get(data.client)
        if client is not None:
            client.program_done(data)
        self.functions.release(data.functions.values())
        blocks = [block for held in data.kept_blocks.values() for block in held]
        blocks += [d.block for d in data.definitions.values() if d.block >= 0]
        if isinstance(data, ArrayData):
            blocks += data.hand_over()[1]
        self.blocks.released(blocks)
        for worker in self.pool.workers.values():
            sent = {key for key in worker.known_objects if key[0] == number}
            if sent:
                worker.known_objects -= sent
                worker.connection.send(msg.ObjectsForgotten(number))
        self.loop.at_round_end(self.check_end)

    # -- the end -------------------------------------------------------------------------

    def check_end(self) -> None:
        """End the service when its time has come."""
        if self.session.verdict(self.scheduler.unfinished) is not End.NOT_YET:
            self.loop.stop()


def _column(elements: Iterable[int]) -> bytes:
    return array("I", elements).tobytes()
