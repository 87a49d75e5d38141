"""Tasks started one by one: elements of a program that grows while it runs."""

from __future__ import annotations

import os
import threading
import time
import weakref
from array import array
from typing import TYPE_CHECKING, Any

from alamo.batch.arguments import blame_argument
from alamo.batch.outcomes import Program
from alamo.batch.program_functions import ProgramFunctions
from alamo.batch.program_terms import ProgramTerms
from alamo.batch.results import compiling
from alamo.batch.shared import SharedObjects, send_and_close
from alamo.batch.watched import Callback
from alamo.errors import AlamoError, SerializationError, UsageError
from alamo.protocol import messages as msg
from alamo.protocol.importable import importable

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task

#: A program takes this many tasks, or so many bytes of functions, arguments and results: they
#: are freed together, when the handles of all its tasks are gone.
PROGRAM_MAX = 1024
PROGRAM_MAX_BYTES = 1 << 20
#: Every worker gets all parts of a program; a class that changes between starts makes many.
_PARTS_MAX = 64
#: Priorities of which a program is kept open for further tasks.
_LANES_MAX = 16

_all: weakref.WeakSet[SingleTasks] = weakref.WeakSet()


class SingleTasks:
    """Starts single tasks of one Batch.  Accesses have no effect on them."""

    def __init__(self, client: Client, priority: int = 0) -> None:
        self._client = client
        self._priority = priority
        #: Of other priorities, by these, the last used last: their tasks are in other programs.
        self._lanes: dict[int, SingleTasks] = {}
        self._lock = threading.RLock()
        self._program: Program | None = None
        self._sent_bytes = 0
        self._shared: SharedObjects | None = None
        self._functions: ProgramFunctions
        self._terms: ProgramTerms
        self._cwd = b""
        _all.add(self)

    def after_fork(self) -> None:
        """In a forked child: begin anew."""
        self._lock = threading.RLock()
        self._program = None
        self._lanes = {}

    def start(self, task: Task) -> None:
        """Send a task that has not been started.

        Raises:
            SerializationError: its function or an argument cannot be pickled.
        """
        priority = task.options.priority if task.options is not None else 0
        if priority != self._priority:
            self._lane(priority).start(task)
            return
        with self._lock:
            try:
                self._send(task)
            except BaseException:
                if self._shared is not None:
                    self._shared.close()
                self._retire(task)
                raise
        task.func, task.args, task.callback_func = None, (), None  # type: ignore[attr-defined]

    def _lane(self, priority: int) -> SingleTasks:
        """What starts tasks of another priority.  A program may be kept open for each of some."""
        with self._lock:
            lane = self._lanes.pop(priority, None) or SingleTasks(self._client, priority)
            self._lanes[priority] = lane
            closed = None
            if len(self._lanes) > _LANES_MAX:
                closed = self._lanes.pop(next(iter(self._lanes)))
        if closed is not None:
            closed._seal()
        return lane

    def seal_all(self) -> None:
        """Tasks to come go into other programs than those so far."""
        with self._lock:
            lanes = list(self._lanes.values())
        for lane in (self, *lanes):
            lane._seal()

    def _seal(self) -> None:
        """The program takes no more tasks; the next one, if there is one, gets another."""
        with self._lock:
            program, self._program = self._program, None
            if program is not None and program.growing:
                program.growing = False
                self._client.let_go(program)
                self._client.post(msg.Sealed(program.number))

    def _retire(self, task: Task) -> None:
        """A start failed or was interrupted: whether the manager counts the task is not known.

        So no other may come behind it in its program, whose number would not be the manager's.
        """
        task.program, task.index = None, -1
        program, self._program = self._program, None
        if program is not None:
            program.growing = False
            self._client.let_go(program)
            self._client.post(msg.Sealed(program.number))

    def _send(self, task: Task) -> None:
        program = self._open()
        assert self._shared is not None
        self._shared.forget()
        importable.scan()
        try:
            compiling.compiler = NoHandles
            number = self._function_number(task)
            terms = self._terms.number(task.options)
            data = self._dump(task, self._shared)
        finally:
            compiling.compiler = None
        element = program.add_elements(1, 1)
        assert program.uids is not None
        program.uids.append(task.uid)
        program.begun_s.append(time.monotonic())
        if task.name is not None:
            program.names[element] = task.name
        if task.form is not None:  # type: ignore[attr-defined]
            program.forms[element] = task.form  # type: ignore[attr-defined]
        if task.callback_func is not None:
            self._client.callbacks.start()
            program.callbacks[element] = Callback(task.callback_func, tuple(task.callback_args))
        objects = ((element, tuple(self._shared.used)),) if self._shared.used else ()
        page = msg.Page(
            program.number,
            1,
            number,
            array("I", [len(data)]).tobytes(),
            data,
            objects=objects,
            terms=terms,
        )
        with program.feeding:  # cancelling it, as its callback may, must come behind it
            task.program, task.index = program, element
            self._send_with_seal(program, page, len(data))

    def _send_with_seal(self, program: Program, page: msg.Page, size: int) -> None:
        """Send a page; the program takes no more when it is full."""
        assert self._shared is not None
        messages: list[msg.Message] = [page]
        if program.count >= PROGRAM_MAX:
            program.growing = False
            messages.append(msg.Sealed(program.number))
        self._sent_bytes += size
        unsent, fds = self._shared.take_unsent()
        send_and_close(self._client.send, [*self._terms.take_unsent(), *unsent, *messages], fds)

    def _new_program(self) -> Program:
        return self._client.new_program()

    def _open(self) -> Program:
        """The program that takes the next task."""
        cwd = os.getcwdb()
        program = self._program
        opening: list[msg.Message] = []
        if program is not None and program.growing and program.broken is None:
            assert self._shared is not None
            size = self._sent_bytes + self._shared.shipped_bytes + program.received_bytes
            size += self._functions.sent_bytes
            fits = size < PROGRAM_MAX_BYTES and len(self._shared.parts) < _PARTS_MAX
            if cwd == self._cwd and fits:
                return program
            program.growing = False
            self._client.let_go(program)
            opening.append(msg.Sealed(program.number))
        program = self._program = self._new_program()
        program.is_stream = program.growing = True
        program.begin()
        program.uids = array("Q")
        self._cwd = cwd
        self._shared = SharedObjects(self._client, program.number, self._client.send)
        program.kinds = self._shared.parts.kinds
        self._functions = ProgramFunctions(self._client, program.number, self._client.send)
        self._terms = ProgramTerms(program.number)
        self._sent_bytes = 0
        opening += [
            msg.Opened(program.number, cwd, growing=True, priority=self._priority),
            msg.Started(program.number),
        ]
        self._client.send(opening)  # now: an argument may be sent before the task
        return program

    def _function_number(self, task: Task) -> int:
        try:
            return self._functions.number(task.func)  # type: ignore[attr-defined]
        except AlamoError as error:
            raise type(error)(f"the function of {task.title()}: {error}") from error

    def _dump(self, task: Task, shared: SharedObjects) -> bytes:
        args: tuple[Any, ...] = task.args  # type: ignore[attr-defined]
        try:
            return shared.dump(args, [])
        except SerializationError as error:
            raise blame_argument(task.title(), args, error) from error
        except AlamoError as error:
            raise type(error)(f"an argument of {task.title()}: {error}") from error


def _after_fork_in_child() -> None:
    for singles in list(_all):
        singles.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class NoHandles:
    """Stands in for the compiler: handles cannot be arguments of a single task."""

    @staticmethod
    def source_of(task: Task, what: str) -> int:
        raise UsageError(
            f"the {what} handle of {task.title()} is given to a task started by itself; "
            "compile both in one list with the handle as an argument, or give its value: "
            "handle.get()"
        )
