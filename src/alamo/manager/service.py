"""The manager: the shell that drives the scheduler between clients and workers.

Everything here is IO and bookkeeping of bytes.  What runs where is decided in
``core.scheduler``; when the service ends in ``core.session``.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from alamo.core import events as ev
from alamo.core.attempts import backoff_s
from alamo.core.scheduler import Scheduler
from alamo.core.session import End, Session
from alamo.core.terms import PLAIN, Binding
from alamo.core.workers import Worker
from alamo.manager import deaths
from alamo.manager.arrays import ArrayData
from alamo.manager.blocks import BlockRegistry, blocks_max_of
from alamo.manager.clients import Client
from alamo.manager.dealing import Dealer
from alamo.manager.depth import DepthWatch
from alamo.manager.forwarding import Forwarder
from alamo.manager.functions import Functions
from alamo.manager.harvest import Harvester
from alamo.manager.inquiries import Inquiries
from alamo.manager.limits import Limits
from alamo.manager.log_relay import LogRelay
from alamo.manager.loop import Loop
from alamo.manager.pool import Pool
from alamo.manager.programs import ProgramData
from alamo.manager.recalls import recall
from alamo.manager.retrying import to_retry
from alamo.manager.stopping import Stopper, chunk_at
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol import messages as msg
from alamo.protocol import nursery_messages
from alamo.protocol.marks import Timing

if TYPE_CHECKING:
    from alamo.manager.metrics import Metrics

log = logging.getLogger("alamo.manager")


class Death(NamedTuple):
    """What the element that a dead worker was running has come to."""

    outcome: bytes
    timing: Timing | None
    delay_s: float  # before its next attempt, if there is one


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
        self.blocks = BlockRegistry()
        self.clients: dict[int, Client] = {}
        self.programs: dict[int, ProgramData] = {}
        self.functions = Functions(self._forget_function)
        self._program_numbers = 0
        self._client_numbers = 0
        self._stillbirths: dict[Binding, deaths.Stillbirths] = defaultdict(deaths.Stillbirths)
        self._depth = DepthWatch(self)
        self.logs = LogRelay(self)
        #: What the elements that dead workers were running have come to.
        self._dead: dict[int, Death] = {}
        self.harvester = Harvester(self)
        self.forwarder = Forwarder(self)
        self.stopper = Stopper(self)
        self.limits = Limits(self)
        self.inquiries = Inquiries(self)
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
                    self.forwarder.skipped(program, elements, roots)
                case ev.ElementsCancelled(program, elements):
                    self.forwarder.cancelled(program, elements)
                case ev.StopElement():
                    self.stopper.stop(effect)
                case ev.ElementLost():
                    self._element_lost(effect)
                case ev.GateClosed():
                    self._gate_closed(effect)
                case ev.ProgramDone(program):
                    self._program_done(program)
                case ev.SpawnWorkers(count, binding):
                    for _ in range(count):  # after others that did not come up a little later
                        self._spawn_later(binding)
                case ev.RetireWorker(worker):
                    self.pool.retire(worker)
        self._depth.look()

    def _spawn_later(self, binding: Binding) -> None:
        delay_s = self._stillbirths[binding].delay_s
        self.loop.call_later(delay_s, lambda: self._spawn(binding))

    def _spawn(self, binding: Binding) -> None:
        try:
            self.pool.spawn(binding, self.inquiries.wire_binding(binding))
        except OSError as error:
            why = f"{error}; too many workers for the limits of this machine"
            self.loop.at_round_end(lambda: self._stillborn(None, binding, why))

    def _stillborn(self, worker: WorkerProcess | None, binding: Binding, why: str) -> None:
        """A worker did not come up.  When that goes on, what needs its like fails."""
        number = -1 if worker is None else worker.number
        hopeless = False
        if binding == PLAIN:
            self.on_start_failed(why)
        else:
            births = self._stillbirths[binding]
            births.another()
            # Where there was no room for it, there may be when something has ended.
            hopeless = births.too_many and (worker is not None or not self.scheduler.pool.holding)
            outcome = deaths.unborn_record(worker, self.host, why, births.in_a_row)
            self._dead[number] = Death(outcome, None, 0.0)
        self.drive(ev.WorkerLost(number, binding=binding, hopeless=hopeless))
        self._dead.pop(number, None)

    def on_start_failed(self, why: str) -> None:
        """A plain worker did not come up.  When that goes on and nothing can run, it is the end."""
        births = self._stillbirths[PLAIN]
        births.another()
        if births.too_many and self.scheduler.pool.is_stuck:
            self.session.broken(births.reason(why))
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
            case msg.Blocked(blocked) if blocked != worker.awaits_data:
                worker.awaits_data = blocked
                self.set_blocked(worker.number, blocked)
            case msg.Ready(pid):
                worker.set_pid(pid)
                self._stillbirths[worker.binding].none()
                self.drive(ev.WorkerReady(worker.number, worker.binding))
            case msg.BlockMade(block, size):
                fd = worker.connection.take_descriptors(message)[0]
                self.blocks.made(worker.connection, block, size, fd)
            case msg.BlocksGone(blocks):
                self.blocks.gone(blocks)
            case msg.Logged():
                self.logs.tell(message)
        self.check_end()

    def set_blocked(self, worker: int, blocked: bool) -> None:
        """The task in a worker stands still in one wait more, or in one less."""
        if blocked:
            self.harvester.harvest_number(worker)
        self.drive(ev.WorkerBlocked(worker) if blocked else ev.WorkerUnblocked(worker))

    def on_worker_dead(self, worker: WorkerProcess) -> None:
        """A worker's process is gone and all that it sent has been handled."""
        known = self.scheduler.pool.workers.get(worker.number)
        if known is not None:
            self._lost(worker, known)
        elif not worker.retired:
            if worker.is_explained:
                self._stillborn(worker, worker.binding, deaths.describe_stillborn(worker))
            else:
                self.drive(ev.WorkerLost(worker.number, binding=worker.binding))
        self.limits.gone(worker)
        self.stopper.forget(worker)
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
        seq = max(seq, reported)
        outcome = Stopper.lost_record(worker, seq) or deaths.lost_record(worker, self.host)
        if worker.stop is None:
            log.warning("worker %d (pid %d) died: %s", worker.number, worker.pid, worker.status)
        again, delay_s = False, 0.0
        chunk = chunk_at(known, seq)
        if chunk is not None and running >= reported:
            data, element = self.programs[chunk.program.number], chunk.elements[seq - chunk.seq]
            again = bool(to_retry(chunk.program, data, [element], [outcome], [0]))
            delay_s = backoff_s(chunk.program, element)
        self._dead[worker.number] = Death(outcome, deaths.lost_timing(worker), delay_s)
        self.drive(ev.WorkerLost(worker.number, seq, running >= reported, again))
        del self._dead[worker.number]

    def _element_lost(self, effect: ev.ElementLost) -> None:
        death = self._dead[effect.worker]
        number, element = effect.program, effect.element
        if effect.again:
            self.forwarder.attempt_failed(number, element, death.outcome, death.delay_s)
            return
        ends = len(death.outcome).to_bytes(4, "little")
        self.forwarder.forward(number, [element], ends, death.outcome, (0,), timing=death.timing)

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

    def cancel(self, number: int, elements: Sequence[int] | None, reason: str) -> None:
        """Elements of a program, or all, shall not run or not go on."""
        data = self.programs[number]
        data.note_cancel(elements, reason)
        for inner in data.gated if elements is None else data.gated.keys() & set(elements):
            if data.gated[inner] in self.programs:
                self.programs[data.gated[inner]].cancelled = reason
        self.drive(ev.CancelAsked(number, elements))

    def drop_if_unstarted(self, number: int) -> None:
        """The program's client is gone: what it has not started never runs."""
        program = self.scheduler.programs.get(number)
        if program is None or program.started or (program.gate and program.gate[0].started):
            return
        self.drive(ev.ProgramDropped(number))

    def _gate_closed(self, effect: ev.GateClosed) -> None:
        """An array has ended, and with it the element that stands for it."""
        data, element = self.programs[effect.program], effect.element
        inner = self.programs.get(effect.inner)
        kept, blocks = inner.hand_over() if isinstance(inner, ArrayData) else (b"", [])
        failed = (0,) if effect.failed else ()
        self.forwarder.forward(effect.program, [element], bytes(4), b"", failed)
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
