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
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from alamo.batch import forks, intake, launch, spill
from alamo.batch.callbacks import CallbackRunner
from alamo.batch.feeding import Feeder
from alamo.batch.inquiries import Inquiries
from alamo.batch.known_functions import KnownFunctions
from alamo.batch.options import OptionsMaker
from alamo.batch.outcomes import Program
from alamo.batch.outlet import Outlet
from alamo.batch.registration import await_welcome, connect, register
from alamo.batch.waiting import Tick, deadline_of, in_slices, left_until
from alamo.batch.waits import Waits
from alamo.errors import BatchBroken, ProtocolError, SubmitAfterClose, WaitTimeout
from alamo.protocol import messages as msg
from alamo.protocol.blocks import BlockMaker
from alamo.protocol.framing import MessageReader
from alamo.worker.context import context

log = logging.getLogger("alamo")

P = TypeVar("P", bound=Program)

#: uids of client n begin at n times this.
UIDS_A_CLIENT = 1 << 40
#: How long an end that is under way is waited for before it is forced.
_EXIT_WAIT_S = 2.0


class Client:
    """One registered client of one manager.

    Attributes:
        number: its number in the session; 0 is the primary.
        is_primary: it started the manager.
        slots: tasks that the service runs at once.
        ends_with_task: it was made in a task, at whose end it leaves.
        metrics_url: where the manager serves metrics, if it does.
        memory: where outcomes are kept.
        never_started: programs whose compiled task has gone; finalizers add to it.
        uids: numbers for new tasks.
        inquiries: questions to the manager.
        options: makes the options of tasks.
        feeder_class: what feeds arrays.
    """

    feeder_class = Feeder
    metrics_url: str | None = None

    def __init__(self, address: str, secret_path: str, sock: socket.socket | None = None) -> None:
        self.address = address
        self.secret_path = secret_path
        self.process: subprocess.Popen[bytes] | None = None
        self.is_primary = False
        self.closed = False
        self.registered = False
        self.ends_with_task = False
        self._start(sock)

    def _start(self, sock: socket.socket | None) -> None:
        """Set up everything that belongs to one connection, and register."""
        self._pid = os.getpid()
        self._reader: MessageReader[msg.Message] = MessageReader(msg.ToClient)
        self._programs: dict[int, Program] = {}
        self._program_numbers = itertools.count()
        self.never_started: deque[Program] = deque()
        self.functions = KnownFunctions(self.send)
        self.waits = Waits(self)
        self.inquiries = Inquiries(self)
        self.options = OptionsMaker(self)
        self.callbacks = CallbackRunner()
        self.broken: BatchBroken | None = None
        self.ended = threading.Event()
        self._leaving = self._told_closed = self._joining = False
        self.memory = spill.ResultMemory(spill.default_budget_bytes(), self.release_blocks)
        self._sock = connect(self.address) if sock is None else sock
        self._outlet = Outlet(self._sock)
        self._receiver = threading.Thread(target=self._receive, name="alamo-receiver", daemon=True)
        try:
            self._register(primary=sock is not None)
        except BaseException:  # of a client whom nobody knows the manager must not wait
            self._leaving = True
            self._outlet.shut_down()
            if not self._receiver.is_alive():  # it closes the socket when it sees the end
                self._sock.close()
            raise

    def _register(self, primary: bool) -> None:
        if primary:
            welcome = await_welcome(self._sock, self._reader)
        else:
            welcome = register(self._sock, self._reader, self.address, self.secret_path)
        self.number, self.slots = welcome.client, welcome.slots
        self.address, self.secret_path = welcome.address, welcome.secret_path
        self.host, self.manager_pid = welcome.host, welcome.pid
        self.metrics_url = welcome.metrics_url or None
        if context.worker >= 0:
            self.ends_with_task = True
            context.at_task_end(self._end_task)
        self.uids: Iterator[int] = itertools.count(self.number * UIDS_A_CLIENT + 1)
        self.blocks = BlockMaker(self.number + 1, welcome.blocks_max)
        forks.watch(self)
        self._receiver.start()
        self.registered = True

    @classmethod
    def launch(cls, slots: int, log_level: int, telemetry: bool) -> Client:
        """Start a manager and become its primary client."""
        process, sock = launch.start_manager(slots, log_level, telemetry)
        try:
            client = cls("", "", sock)
            client.process = process
            client.is_primary = True
        except BaseException:
            launch.abandon(process, sock)
            raise
        return client

    # -- sending ---------------------------------------------------------------------------

    def send(self, messages: Sequence[msg.Message], fds: Sequence[int] = ()) -> None:
        """Send messages in one piece.

        Raises:
            BatchBroken: the service is gone.
        """
        if self.never_started:
            messages = [*self._drop_never_started(), *messages]
        try:
            self._outlet.send(messages, fds)
        except OSError as error:
            self.check_broken()
            why = self._outlet.why or error
            raise BatchBroken(f"the connection to the manager is broken: {why}") from error

    def post(self, message: msg.Message) -> None:
        """Send a message with the next one, or when something has come in; does not block."""
        self._outlet.post(message)

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
        return self.adopt(Program(self.next_program_number(), self))

    def next_program_number(self) -> int:
        """A number for a new program."""
        return next(self._program_numbers)

    def adopt(self, program: P) -> P:
        """Take in what the manager will send for a program."""
        self._programs[program.number] = program
        self.check_broken()  # behind the line above: _break has seen the program, or we see it
        return program

    def forget_program(self, program: Program) -> None:
        """The program will not be started."""
        self._programs.pop(program.number, None)
        self.post(msg.Dropped(program.number))

    def _drop_never_started(self) -> Iterator[msg.Message]:
        """Forget programs that nobody can start; makes the messages that say so."""
        while True:
            try:
                program = self.never_started.popleft()
            except IndexError:
                return
            if self._programs.get(program.number) is program:
                del self._programs[program.number]
                for view in program.arrays.values():
                    if isinstance(view, Program):
                        self._programs.pop(view.number, None)
                yield msg.Dropped(program.number)

    def release_blocks(self, blocks: list[int]) -> None:
        self.post(msg.BlocksReleased(blocks))

    # -- receiving -------------------------------------------------------------------------

    def _receive(self) -> None:
        reason = ""
        try:
            while self._reader.receive(self._sock):
                for message in self._reader.messages():
                    self._take(message)
                self._outlet.push()
        except Exception as error:  # whatever it is, nobody may wait for ever
            known = isinstance(error, (OSError, ProtocolError, BatchBroken))
            reason = str(error) if known else repr(error)
        self._connection_ended(reason or self._outlet.why)

    def _take(self, message: msg.Message) -> None:
        intake.take(self, message)

    def called(self, program: Program, elements: Iterable[int]) -> None:
        """Queue callbacks; a program whose outcomes are all here is let go."""
        self.callbacks.queue(program, elements)
        self.let_go(program)

    def let_go(self, program: Program) -> None:
        """Forget a program whose outcomes are all here."""
        if not program.remaining and not program.growing and program.fed:
            self._programs.pop(program.number, None)

    # -- the end ---------------------------------------------------------------------------

    def ended_by_manager(self, reason: str) -> None:
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
        self._outlet.close()
        self._reader.close()

    def _break(self, error: BatchBroken) -> None:
        if self.broken is None:
            self.broken = error
        self._break_off(error)

    def _break_off(self, error: BatchBroken) -> None:
        for program in list(self._programs.values()):
            program.break_off(error)
        self._programs.clear()
        self.inquiries.break_off()

    def close(self) -> None:
        """Tell the manager that no more work comes."""
        self.closed = True
        if self._told_closed:
            return
        if self.registered and self.broken is None and not self.ended.is_set():
            self.send([msg.Closed()])
        self._told_closed = True  # now: a close that was interrupted can be repeated

    def finish_feeding(self, only_at_hand: bool) -> None:
        """Wait until the elements of the arrays that were started have been made.

        Args:
            only_at_hand: not of iterables that may block or be endless: these break off.
        """
        for program in list(self._programs.values()):
            program.finish_feeding(only_at_hand)

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
        self._outlet.shut_down()
        self._end_thread(self._receiver, _EXIT_WAIT_S)

    def join(self, timeout_s: float | None, tick: Tick | None = None) -> None:
        """Wait until all work is done, its callbacks have run and the manager has ended."""
        deadline = deadline_of(timeout_s)
        self.close()
        if self.broken is None and not self.ended.is_set():
            try:
                self.send([msg.JoinAsked()])
            except BatchBroken:
                if not self._joining:  # else it may just be ending, as it was asked to before
                    raise
            self._joining = True
        if not in_slices(self.ended.wait, deadline, tick):
            raise WaitTimeout(f"the Batch has not ended after {timeout_s} s; it goes on")
        if not launch.await_end(self.process, self.address, left_until(deadline)):
            raise WaitTimeout(
                f"the manager has not ended after {timeout_s} s: another client does not take "
                "its last results; it goes on"
            )
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
        if self._outlet.send_at_once(msg.TerminateAsked(), _EXIT_WAIT_S) or self.ended.is_set():
            self.ended.wait(timeout=_EXIT_WAIT_S)
        if self.process is not None:
            launch.end(self.process, self.address, self.ended.is_set())
        self.hang_up()

    # -- fork ------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """The child will hold on to what is mapped here."""
        if self.registered and not self.memory.blocks.is_empty:
            self._outlet.send_at_once(msg.Forked(), _EXIT_WAIT_S)

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's connection; register at first use."""
        if self._pid == os.getpid():
            return
        self.is_primary = False
        if self.process is not None:
            self.process.returncode = 0  # it is not ours to wait for: no warning when it is dropped
        self.process = None
        self._sock.close()
        self._register_later()

    def _end_task(self) -> None:
        """The task in which this client lives has ended; a later one may use it again."""
        try:
            if self.is_primary:  # the task made a Batch of its own and forgot it
                self.terminate()
                return
            self.finish_feeding(only_at_hand=True)
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
