"""A client as the manager holds it: authentication first, then its messages."""

from __future__ import annotations

import logging
import os
import socket
from array import array
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.errors import ProtocolError
from alamo.manager.connection import Connection
from alamo.protocol import auth
from alamo.protocol import messages as msg

if TYPE_CHECKING:
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
                service.setup.slots,
                service.blocks_max,
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
                if program in self.programs:
                    number = self.programs[program]
                    service.programs[number].merge()
                    service.drive(ev.ProgramStarted(number, ranks))
            case msg.Opened(program, cwd, growing):
                number = service.open_program(self.number, program, cwd)
                self.programs[program] = number
                service.drive(ev.ProgramOpened(number, self._depth, growing))
            case msg.Sealed(program):
                if program in self.programs:
                    service.drive(ev.ProgramSealed(self.programs[program]))
            case msg.FunctionDefined(number, blob):
                self._functions[number] = service.add_function(blob)
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
                self._submits_no_more()
                service.session.closed(self.number)
            case msg.JoinAsked():
                service.session.join_asked(self.number)
            case msg.TerminateAsked():
                service.session.terminate_asked(self.number)
        service.check_end()

    def _on_page(self, page: msg.Page) -> None:
        number = self.programs.get(page.program)
        if number is None:
            return
        check_page(page)
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
        self._service.programs[number].add_page(page, functions)
        self._service.drive(
            ev.PageAdded(number, page.count, page.pred_ends, page.preds, page.joins)
        )

    def _on_object(self, message: msg.ObjectDefined) -> None:
        number = self.programs.get(message.program)
        if number is None:
            return
        if message.block >= 0:
            self._service.blocks.use(message.block)
        message.program = number
        self._service.programs[number].definitions[message.number] = message

    def _set_blocked(self, blocked: bool) -> None:
        if self.worker >= 0 and blocked != self._blocked:
            self._blocked = blocked
            if blocked:
                self._service.harvester.harvest_number(self.worker)
            event = ev.WorkerBlocked(self.worker) if blocked else ev.WorkerUnblocked(self.worker)
            self._service.drive(event)

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

    def _submits_no_more(self) -> None:
        for number in list(self.programs.values()):
            self._service.drop_if_unstarted(number)
            self._service.drive(ev.ProgramSealed(number))

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
        self._submits_no_more()
        service.check_end()


def check_page(page: msg.Page) -> None:
    """Whether the columns fit together.  Cost: O(1).

    Raises:
        ProtocolError: they do not.
    """
    size = 4 * page.count
    if len(page.lengths) != size:
        raise ProtocolError("a page whose arguments do not fit its elements")
    if not isinstance(page.functions, int) and len(page.functions) != size:
        raise ProtocolError("a page whose functions do not fit its elements")
    ends = page.pred_ends
    if ends and (len(ends) != size or memoryview(ends).cast("I")[-1] * 4 != len(page.preds)):
        raise ProtocolError("a page whose predecessors do not fit their ends")
