"""A client as the manager holds it: authentication first, then its messages."""

from __future__ import annotations

import logging
import os
import socket
from array import array
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.errors import GraphError, ProtocolError
from alamo.manager.arrays import ArrayData, check_array_page
from alamo.manager.connection import Connection
from alamo.manager.pages import check_joins, check_page
from alamo.manager.programs import ProgramData
from alamo.manager.scaling import scale
from alamo.manager.terms import core_terms
from alamo.protocol import auth
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.manager.programs import ProgramData
    from alamo.manager.service import Service

log = logging.getLogger("alamo.manager")

#: A Hello is smaller; who sends more before it has proved who it is gets no memory for it.
STRANGER_FRAME_MAX = 4096


class Client:
    """One connected client.

    Attributes:
        number: its number in the session; -1 until it has proved who it is.
        worker: the worker in which it lives, or -1.
        programs: its program numbers -> the manager's.
        blocks: blocks shown to it whose content it has not released.
    """

    def __init__(
        self, service: Service, sock: socket.socket, primary: bool, address: str, secret_path: str
    ) -> None:
        self._service = service
        self._address = address
        self._secret_path = secret_path
        self.number = -1
        self.worker = -1
        self.pid = -1
        self._depth = 0
        self._blocked = False
        self._held = False
        self.programs: dict[int, int] = {}
        self._functions: dict[int, int] = {}
        self.blocks: dict[int, int] = {}
        self._nonce = auth.make_secret()
        self.connection = Connection(
            service.loop,
            sock,
            msg.ClientMessage,
            self._on_message,
            self._on_close,
            STRANGER_FRAME_MAX,
        )
        if primary:
            self._welcome(service.setup.pid, -1, b"")
        elif auth.peer_uid(sock) != os.getuid():
            self._refuse("this Batch belongs to another user")
        else:
            self.connection.send(msg.Challenge(self._nonce))

    @property
    def is_stranger(self) -> bool:
        """Whether it is connected and has not yet proved who it is."""
        return self.number < 0 and not self.connection.closed

    def expire(self, why: str) -> None:
        """Send it away if it is a stranger."""
        if self.is_stranger:
            self._refuse(why)

    # -- letting in --------------------------------------------------------------------

    def _refuse(self, reason: str) -> None:
        log.warning("a client was refused: %s", reason)
        self.connection.send(msg.Refused(reason))
        self.connection.flush()
        self.connection.close(quiet=True)

    def _on_hello(self, hello: msg.Message) -> None:
        if not isinstance(hello, msg.Hello):
            self._refuse("the first message must be Hello")
        elif hello.version != msg.VERSION:
            self._refuse(f"it speaks protocol version {hello.version}, this manager {msg.VERSION}")
        elif not auth.is_proof(self._service.setup.secret, b"client", self._nonce, hello.proof):
            self._refuse("it does not know the secret of this Batch")
        else:
            self._welcome(hello.pid, hello.worker, hello.nonce)

    def _welcome(self, pid: int, worker: int, nonce: bytes) -> None:
        service = self._service
        self.number = service.next_client()
        self.connection.trust()
        self.pid = pid
        self.worker = worker
        self._depth = service.depth_of_worker(worker) + 1 if worker >= 0 else 0
        service.clients[self.number] = self
        service.session.register(self.number)
        self.connection.send(
            msg.Welcome(
                self.number,
                auth.proof(service.setup.secret, b"manager", nonce),
                self._address,
                self._secret_path,
                service.host,
                os.getpid(),
                service.scheduler.pool.slots,
                service.client_blocks_max,
                service.metrics.url if service.metrics is not None else "",
            )
        )

    # -- messages ------------------------------------------------------------------------

    def _on_message(self, message: msg.Message) -> None:
        if self.number < 0:
            self._on_hello(message)
            return
        service = self._service
        match message:
            case msg.Page():
                self._on_page(message)
            case msg.Started(program, ranks):
                self._on_started(program, ranks)
            case msg.Opened():
                self._on_opened(message)
            case msg.TermsDefined():
                self._on_terms(message)
            case msg.CancelAsked():
                self._on_cancel(message)
            case msg.AccountAsked(request, program, element):
                service.inquiries.account(self, request, self.programs.get(program, -1), element)
            case msg.MachineAsked(request):
                service.inquiries.machine(self, request)
            case msg.Sealed(program, failed):
                if program in self.programs:
                    data = service.programs[self.programs[program]]
                    if isinstance(data, ArrayData):
                        service.forwarder.objects_gone(data, data.let_go(None))
                    service.drive(ev.ProgramSealed(data.number, failed))
            case msg.FunctionDefined():
                self._on_function(message)
            case msg.ObjectDefined():
                self._on_object(message)
            case msg.Dropped(program):
                if program in self.programs:
                    service.drive(ev.ProgramDropped(self.programs[program]))
            case msg.BlockMade(block, size):
                fd = self.connection.take_descriptors(message)[0]
                service.blocks.made(self.connection, block, size, fd)
            case msg.BlocksReleased(blocks):
                self._on_released(blocks)
            case msg.BlocksGone(blocks):
                service.blocks.gone(blocks)
            case msg.Forked():
                service.blocks.keep(self.blocks)
            case msg.Blocked(blocked):
                self._set_blocked(blocked)
            case msg.Closed():
                self._submits_no_more(gone=False)
                service.session.closed(self.number)
            case msg.ScaleAsked(slots):
                scale(service, self, slots)
            case msg.JoinAsked():
                service.session.join_asked(self.number)
            case msg.TerminateAsked():
                service.session.terminate_asked(self.number)
        service.check_end()

    def _on_opened(self, message: msg.Opened) -> None:
        if message.program in self.programs:
            raise ProtocolError("a program that is there already")
        service = self._service
        number = service.open_program(self.number, message.program, message.cwd, message.array)
        self.programs[message.program] = number
        event = ev.ProgramOpened(number, self._depth, message.growing, message.priority)
        service.drive(event)
        if self._held:
            service.drive(ev.ProgramPaused(number))

    def _on_terms(self, message: msg.TermsDefined) -> None:
        number = self.programs.get(message.program)
        if number is not None:
            self._service.programs[number].define_terms(message)
            self._service.inquiries.find_machine(message)
            self._service.drive(ev.TermsDefined(number, message.number, core_terms(message)))

    def _on_cancel(self, message: msg.CancelAsked) -> None:
        number = self.programs.get(message.program)
        if number is None:
            return
        elements = None if message.everything else array("I", message.elements).tolist()
        if elements and max(elements) >= self._service.programs[number].count:
            raise ProtocolError("cancelling elements that are not there")
        self._service.cancel(number, elements, message.reason)

    def _on_started(self, remote: int, ranks: bytes) -> None:
        number = self.programs.get(remote)
        if number is None:
            return
        data = self._service.programs[number]
        if len(ranks) not in (0, 4 * data.count):
            raise ProtocolError("ranks that do not fit the program")
        data.merge()
        self._service.drive(ev.ProgramStarted(number, ranks))

    def _on_page(self, page: msg.Page) -> None:
        """Take in a page.  One that cannot be right must not hurt other clients' programs."""
        number = self.programs.get(page.program)
        if number is None:
            return
        data = self._service.programs[number]
        if isinstance(data, ArrayData):
            check_array_page(page)
        else:
            check_page(page, data)
        program = self._service.scheduler.programs.get(number)
        if (
            program is not None
            and program.started
            and (page.joins or page.preds or page.gates or program.has_edges)
        ):
            raise ProtocolError("a page with dependencies after the program has started")
        gates = self._gates_of(page, data)
        functions: int | array[int]
        table = self._functions
        if isinstance(page.functions, int):
            used = {page.functions}
            functions = table.get(page.functions, msg.NO_FUNCTION)
        else:
            column = array("I")
            column.frombytes(page.functions)
            used = set(column)
            functions = array("I", [table.get(f, msg.NO_FUNCTION) for f in column])
        if not all(f in table or f == msg.NO_FUNCTION for f in used):
            raise ProtocolError("a page whose functions were not defined")
        if page.joins or page.gates or msg.NO_FUNCTION in used:
            check_joins(page, data.count)
        if data.terms is not None:
            data.terms.check(page)
            data.terms.add_page(data.count, page.count, page.terms)
        elif page.terms:
            raise ProtocolError("a page whose terms were not defined")
        data.add_page(page, functions)
        if page.unused and isinstance(data, ArrayData):
            self._service.forwarder.objects_gone(data, data.let_go(page.unused))
        event = ev.PageAdded(
            number, page.count, page.pred_ends, page.preds, page.joins, gates, page.terms
        )
        try:
            self._service.drive(event)
        except GraphError as error:
            raise ProtocolError(f"a page that cannot be right: {error}") from error

    def _gates_of(self, page: msg.Page, data: ProgramData) -> tuple[tuple[int, int], ...]:
        """The page's gates, by the manager's numbers of the programs behind them."""
        gates = []
        for element, remote in page.gates:
            inner = self._service.programs.get(self.programs.get(remote, -1))
            inside = data.count <= element < data.count + page.count
            if not isinstance(inner, ArrayData) or inner.gate is not None or not inside:
                raise ProtocolError("a gate without an array behind it")
            inner.gate = (data, element)
            data.gated[element] = inner.number
            gates.append((element, inner.number))
        return tuple(gates)

    def _on_function(self, message: msg.FunctionDefined) -> None:
        if message.number in self._functions:
            raise ProtocolError("a function that was defined before")
        if message.program < 0:
            self._functions[message.number] = self._service.functions.add(message.blob)
        elif message.program in self.programs:
            data = self._service.programs[self.programs[message.program]]
            number = self._service.functions.add(message.blob)
            self._functions[message.number] = data.functions[message.number] = number

    def program_done(self, data: ProgramData) -> None:
        """Forget a program of this client."""
        self.programs.pop(data.remote, None)
        for number in data.functions:
            self._functions.pop(number, None)

    def _on_object(self, message: msg.ObjectDefined) -> None:
        number = self.programs.get(message.program)
        if message.block >= 0:
            self._service.blocks.use(message.block)
        if number is None:  # an array that has ended while its elements were made
            self._service.blocks.released([message.block])
            return
        message.program = number
        self._service.programs[number].add_object(message)

    def _set_blocked(self, blocked: bool) -> None:
        if self.worker >= 0 and blocked != self._blocked:
            self._blocked = blocked
            self._service.set_blocked(self.worker, blocked)

    # -- a client that does not take its results -----------------------------------------

    def hold(self) -> None:
        """Run no more of its programs until it has taken what is queued for it."""
        if not self._held:
            self._held = True
            self.connection.when_below(self.connection.queued_bytes // 2, self._go_on)
            self._service.loop.at_round_end(self._pause)  # now is the middle of something

    def _pause(self) -> None:
        if self._held:
            for number in list(self.programs.values()):
                self._service.drive(ev.ProgramPaused(number))

    def _go_on(self) -> None:
        if self._held:
            self._held = False
            for number in list(self.programs.values()):
                self._service.drive(ev.ProgramResumed(number))

    # -- blocks --------------------------------------------------------------------------

    def show_block(self, block: int) -> None:
        """An outcome with this block is about to be sent to the client."""
        self._service.blocks.show(block, self.connection)
        self._service.blocks.use(block)
        self.blocks[block] = self.blocks.get(block, 0) + 1

    def _on_released(self, blocks: list[int]) -> None:
        held = []
        for block in blocks:
            left = self.blocks.pop(block, 0) - 1
            if left > 0:
                self.blocks[block] = left
            if left >= 0:
                held.append(block)
        self._service.blocks.released(held)

    def _submits_no_more(self, gone: bool) -> None:
        """What it has not started never runs.  Arrays that run are fed to their end if it lives."""
        service = self._service
        for number in list(self.programs.values()):
            service.drop_if_unstarted(number)
            if gone or (number in service.programs and not service.programs[number].is_array):
                service.drive(ev.ProgramSealed(number, failed=gone))

    # -- the end -------------------------------------------------------------------------

    def _on_close(self, reason: str) -> None:
        if reason:
            log.info(
                "the connection to client %d (pid %d) broke: %s", self.number, self.pid, reason
            )
        if self.number < 0:
            return
        service = self._service
        self._set_blocked(False)
        service.clients.pop(self.number, None)
        held = [block for block, uses in self.blocks.items() for _ in range(uses)]
        service.blocks.keep(held)  # its process may live on, with arrays in them
        service.blocks.released(held)
        service.blocks.peer_gone(self.connection)
        service.session.gone(self.number)
        self._submits_no_more(gone=True)
        self._go_on()
        service.check_end()
