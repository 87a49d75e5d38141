"""The connection of this process to a manager: sends programs, receives outcomes.

any thread ──► send() ──► manager ──► receiver thread ──► Program (wakes waits)
                                            └──► callback thread
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from alamo.batch import forks, launch, spill
from alamo.batch.callbacks import CallbackRunner
from alamo.batch.logs import show
from alamo.batch.outcomes import Program
from alamo.batch.registration import await_welcome, connect, register
from alamo.batch.waiting import deadline_of, left_until
from alamo.batch.waits import Waits
from alamo.errors import BatchBroken, ProtocolError, SubmitAfterClose, WaitTimeout
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.blocks import BlockMaker
from alamo.protocol.framing import MessageReader, encode_all, send_all
from alamo.worker.context import context

log = logging.getLogger("alamo")

#: uids of client n begin at n times this.
_UIDS_A_CLIENT = 1 << 40
#: How the pickle of a function ends that is its module and name: STACK_GLOBAL, MEMOIZE, STOP.
_REFERENCE_END = b"\x93\x94."
#: How long an end that is under way is waited for before it is forced.
_EXIT_WAIT_S = 2.0


class Client:
    """One registered client of one manager.

    Attributes:
        number: its number in the session; 0 is the primary.
        is_primary: it started the manager.
        slots: tasks that the service runs at once.
        memory: where outcomes are kept.
        uids: numbers for new tasks.
    """

    def __init__(self, address: str, secret_path: str, sock: socket.socket | None = None) -> None:
        self.address = address
        self.secret_path = secret_path
        self.process: subprocess.Popen[bytes] | None = None
        self.is_primary = False
        self.closed = False
        self._start(sock)
        forks.watch(self)

    def _start(self, sock: socket.socket | None) -> None:
        """Set up everything that belongs to one connection, and register."""
        self._pid = os.getpid()
        self._send_lock = threading.Lock()
        self._reader: MessageReader[msg.Message] = MessageReader(msg.ToClient)
        self._programs: dict[int, Program] = {}
        self._program_numbers = itertools.count()
        self._functions: dict[bytes, int] = {}
        self._functions_lock = threading.Lock()
        self._function_numbers: dict[int, tuple[Any, int]] = {}
        self.waits = Waits(self)
        self.callbacks = CallbackRunner()
        self.broken: BatchBroken | None = None
        self.ended = threading.Event()
        self._leaving = False
        self._why = ""
        self.memory = spill.ResultMemory(spill.default_budget_bytes(), self._release_blocks)
        if sock is not None:
            self._sock, welcome = sock, await_welcome(sock, self._reader)
        else:
            self._sock = connect(self.address)
            try:
                welcome = register(self._sock, self._reader, self.address, self.secret_path)
            except BaseException:
                self._sock.close()
                raise
        self.number, self.slots = welcome.client, welcome.slots
        self.address, self.secret_path = welcome.address, welcome.secret_path
        self.host, self.manager_pid = welcome.host, welcome.pid
        if context.worker >= 0:
            context.at_task_end(self._end_task)
        self.uids: Iterator[int] = itertools.count(self.number * _UIDS_A_CLIENT + 1)
        self.blocks = BlockMaker(self.number + 1, welcome.blocks_max)
        self._receiver = threading.Thread(target=self._receive, name="alamo-receiver", daemon=True)
        self._receiver.start()
        self.registered = True

    @classmethod
    def launch(cls, slots: int, log_level: int) -> Client:
        """Start a manager and become its primary client."""
        process, sock = launch.start_manager(slots, log_level)
        try:
            client = cls("", "", sock)
        except BaseException:
            sock.close()  # it ends at this, and removes what it has made
            launch.end(process, "", under_way=True)
            raise
        client.process = process
        client.is_primary = True
        return client

    # -- sending ---------------------------------------------------------------------------

    def send(self, messages: Sequence[msg.Message], fds: Sequence[int] = ()) -> None:
        """Send messages in one piece.

        Raises:
            BatchBroken: the service is gone.
        """
        data = encode_all(messages)
        with self._send_lock:
            try:
                send_all(self._sock, data, fds)
            except OSError as error:
                self.check_broken()
                raise BatchBroken(f"the connection to the manager is broken: {error}") from error
            except BaseException:  # Ctrl-C: what comes next would be read as the rest of this
                self._shut_down("sending to it was interrupted")
                raise

    def check_open(self) -> None:
        """Raise unless work can be submitted."""
        self.memory.release_returned()
        if self.closed:
            raise SubmitAfterClose("this Batch was closed; work must be submitted before close()")
        self.check_broken()
        self.register_again()

    def check_broken(self) -> None:
        """Raise if the service is gone: anew each time, for a traceback keeps its frames alive."""
        if self.broken is not None:
            raise BatchBroken(str(self.broken))

    def new_program(self) -> Program:
        """An empty program, known here and not yet to the manager."""
        program = Program(next(self._program_numbers), self)
        self._programs[program.number] = program
        self.check_broken()  # behind the line above: _break has seen the program, or we see it
        return program

    def forget_program(self, program: Program) -> None:
        """The program will not be started."""
        self._programs.pop(program.number, None)
        self._tell(msg.Dropped(program.number))

    def function_number(self, function: Callable[..., Any]) -> int:
        """The number of a function that the manager knows, sending it if it is new.

        Functions that travel by reference are looked up by identity; others are pickled
        anew by each program, for what they refer to may have changed.

        Raises:
            SerializationError: it cannot be pickled.
        """
        known = self._function_numbers.get(id(function))
        if known is not None and known[0] is function:
            return known[1]
        blob = pickling.dump_function(function)
        with self._functions_lock:
            number = self._functions.get(blob)
            if number is None:
                number = len(self._functions)
                self.send([msg.FunctionDefined(number, blob)])
                self._functions[blob] = number
        if blob.endswith(_REFERENCE_END):
            self._function_numbers[id(function)] = (function, number)
        return number

    def _release_blocks(self, blocks: list[int]) -> None:
        self._tell(msg.BlocksReleased(blocks))

    def _tell(self, message: msg.Message) -> None:
        """Send something that is of no use to a manager that is gone."""
        if self.broken is None and not self.ended.is_set():
            try:
                self.send([message])
            except BatchBroken:
                pass

    # -- receiving -------------------------------------------------------------------------

    def _receive(self) -> None:
        reason = ""
        try:
            while self._reader.receive(self._sock):
                for message in self._reader.messages():
                    self._take(message)
        except Exception as error:  # whatever it is, nobody may wait for ever
            known = isinstance(error, (OSError, ProtocolError, BatchBroken))
            reason = str(error) if known else repr(error)
        self._connection_ended(reason or self._why)

    def _take(self, message: msg.Message) -> None:
        match message:
            case msg.Results():
                program = self._programs.get(message.program)
                if program is not None:
                    self._called(program, program.add_results(message))
                elif message.blocks:
                    self._release_blocks([block for _, block in message.blocks])
            case msg.Skipped():
                program = self._programs.get(message.program)
                if program is not None:
                    self._called(program, program.add_skipped(message))
            case msg.BlockMade(block, size):
                self.memory.add_block(block, size, self._reader.take_descriptors(message)[0])
            case msg.BlocksFree(blocks):
                gone = self.blocks.freed(blocks)
                if gone:
                    self.send([msg.BlocksGone(gone)])
            case msg.BlocksGone(blocks):
                self.memory.blocks.gone(blocks)
                self.blocks.forget(blocks)
            case msg.Logged(name, level, text):
                show(name, level, text)
            case msg.Ended(reason):
                self._ended_by_manager(reason)

    def _called(self, program: Program, elements: Iterable[int]) -> None:
        """Queue callbacks; a program whose outcomes are all here is let go."""
        self.callbacks.queue(program, elements)
        self.let_go(program)

    def let_go(self, program: Program) -> None:
        """Forget a program whose outcomes are all here."""
        if not program.remaining and not program.growing:
            self._programs.pop(program.number, None)

    # -- the end ---------------------------------------------------------------------------

    def _ended_by_manager(self, reason: str) -> None:
        self._leaving = True
        if reason:
            self._break(BatchBroken(f"the Batch on {self.host} ended: {reason}"))
        self.ended.set()

    def _connection_ended(self, reason: str) -> None:
        if not self._leaving:
            text = f"the manager (pid {self.manager_pid} on {self.host}) is gone"
            text += launch.bury(self.process, self.address) + (f": {reason}" if reason else "")
            self._break(BatchBroken(text))
        self._break_off(BatchBroken("this process has left the Batch"))
        self.ended.set()
        self.callbacks.stop()
        self.blocks.stop_helper()
        self._shut_down("")  # wakes a sender, who holds the lock
        with self._send_lock:
            self._sock.close()
        self._reader.close()

    def _break(self, error: BatchBroken) -> None:
        if self.broken is None:
            self.broken = error
        self._break_off(error)

    def _break_off(self, error: BatchBroken) -> None:
        for program in list(self._programs.values()):
            program.break_off(error)
        self._programs.clear()

    def close(self) -> None:
        """Tell the manager that no more work comes."""
        if self.closed:
            return
        self.closed = True
        if self.registered and self.broken is None and not self.ended.is_set():
            self.send([msg.Closed()])

    def leave(self) -> None:
        """Close and end the connection; for clients other than the primary."""
        try:
            self.close()
        except BatchBroken:
            pass
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection; for clients other than the primary."""
        self._leaving = True
        self._shut_down("")
        self._end_thread(self._receiver, _EXIT_WAIT_S)

    def _shut_down(self, why: str) -> None:
        """Wake whoever sends or receives."""
        self._why = why
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def join(self, timeout_s: float | None) -> None:
        """Wait until all work is done, its callbacks have run and the manager has ended."""
        deadline = deadline_of(timeout_s)
        if self.broken is None and not self.ended.is_set():
            self.send([msg.JoinAsked()])
        if not self.ended.wait(left_until(deadline)):
            raise WaitTimeout(f"the Batch has not ended after {timeout_s} s; it goes on")
        if self.process is not None:
            self.process.wait()
        self._end_thread(self._receiver, left_until(deadline))
        if not self._end_thread(self.callbacks.thread, left_until(deadline)):
            raise WaitTimeout(f"callbacks have not ended after {timeout_s} s; they go on")
        self.check_broken()

    @staticmethod
    def _end_thread(thread: threading.Thread | None, timeout_s: float | None) -> bool:
        """Wait for a thread that is about to end, unless it is this one."""
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def terminate(self) -> None:
        """End the service at once and wait until its processes are gone."""
        self.closed = True
        if self.ended.is_set() or self._send_at_once(msg.TerminateAsked()):
            self.ended.wait(timeout=_EXIT_WAIT_S)
        if self.process is not None:
            launch.end(self.process, self.address, self.ended.is_set())
        self.hang_up()

    def _send_at_once(self, message: msg.Message) -> bool:
        """Send something short, or not when the manager takes nothing from us."""
        if not self._send_lock.acquire(timeout=_EXIT_WAIT_S):
            return False
        try:
            data = encode_all([message])
            return self._sock.send(data, socket.MSG_DONTWAIT) == len(data)
        except OSError:
            return False
        finally:
            self._send_lock.release()

    # -- fork ------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """The child will hold on to what is mapped here."""
        if self.registered and not self.memory.blocks.is_empty:
            self._send_at_once(msg.Forked())

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's connection; register at first use."""
        if self._pid == os.getpid():
            return
        self.is_primary = False
        self.process = None
        self._sock.close()
        self._register_later()

    def _end_task(self) -> None:
        """The task in which this client lives has ended; a later one may use it again."""
        try:
            if self.is_primary:  # the task made a Batch of its own and forgot it
                self.terminate()
                return
            self.leave()
            self.closed = False
            if self.broken is None:
                self._register_later()
        except Exception:
            log.exception("a Batch could not be closed at the end of its task")

    def _register_later(self) -> None:
        self._register_lock = threading.Lock()
        self.registered = False
        self.memory.detach()
        self.uids = forks.RegisterAtUse(self)

    def register_again(self) -> None:
        """Connect and register, from the first use after ``_register_later``."""
        if not self.registered:
            with self._register_lock:
                if not self.registered:
                    self._start(None)
