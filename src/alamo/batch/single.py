"""Tasks started one by one: elements of a program that grows while it runs."""

from __future__ import annotations

import os
import threading
import weakref
from array import array
from typing import TYPE_CHECKING, Any

from alamo.batch.arguments import blame_argument
from alamo.batch.outcomes import Callback, Program
from alamo.batch.results import compiling
from alamo.batch.shared import SharedObjects
from alamo.errors import AlamoError, SerializationError, UsageError
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.importable import importable
from alamo.protocol.pickling import ATOMS

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task

#: A program takes this many tasks, or so many bytes of arguments and results: they are
#: freed together, when the handles of all its tasks are gone.
PROGRAM_MAX = 1024
PROGRAM_MAX_BYTES = 1 << 20

_all: weakref.WeakSet[SingleTasks] = weakref.WeakSet()


class SingleTasks:
    """Starts single tasks of one Batch.  Accesses have no effect on them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._program: Program | None = None
        self._sent_bytes = 0
        self._shared: SharedObjects | None = None
        self._cwd = ""
        _all.add(self)

    def after_fork(self) -> None:
        """In a forked child: begin anew."""
        self._lock = threading.Lock()
        self._program = None

    def start(self, task: Task) -> None:
        """Send a task that has not been started.

        Raises:
            SerializationError: its function or an argument cannot be pickled.
        """
        with self._lock:
            program = self._open()
            assert self._shared is not None
            self._shared.forget()
            importable.scan()
            compiling.compiler = _NoHandles
            try:
                number = self._function_number(task)
                data = self._dump(task, self._shared)
            finally:
                compiling.compiler = None
            element = program.add_elements(1, 1)
            assert program.uids is not None
            program.uids.append(task.uid)
            if task.name is not None:
                program.names[element] = task.name
            if task.callback_func is not None:
                program.callbacks[element] = Callback(task.callback_func, tuple(task.callback_args))
            objects = ((element, tuple(self._shared.used)),) if self._shared.used else ()
            page = msg.Page(
                program.number,
                1,
                number,
                array("I", [len(data)]).tobytes(),
                data,
                objects=objects,
            )
            task.program, task.index = program, element
            messages: list[msg.Message] = [page]
            if program.count >= PROGRAM_MAX:
                program.growing = False
                messages.append(msg.Sealed(program.number))
            self._client.send(messages)
            self._sent_bytes += len(data)
        task.func, task.args, task.callback_func = None, (), None  # type: ignore[attr-defined]

    def _open(self) -> Program:
        """The program that takes the next task."""
        cwd = os.getcwd()
        program = self._program
        opening: list[msg.Message] = []
        if program is not None and program.growing and program.broken is None:
            assert self._shared is not None
            size = self._sent_bytes + self._shared.shipped_bytes + program.received_bytes
            if cwd == self._cwd and size < PROGRAM_MAX_BYTES:
                return program
            program.growing = False
            self._client.let_go(program)
            opening.append(msg.Sealed(program.number))
        program = self._program = self._client.new_program()
        program.is_stream = program.growing = program.started = True
        program.uids = array("Q")
        self._cwd = cwd
        self._shared = SharedObjects(self._client, program.number)
        self._sent_bytes = 0
        opening += [msg.Opened(program.number, cwd, growing=True), msg.Started(program.number)]
        self._client.send(opening)  # now: an argument may be sent before the task
        return program

    def _function_number(self, task: Task) -> int:
        try:
            return self._client.function_number(task.func)  # type: ignore[attr-defined]
        except AlamoError as error:
            raise type(error)(f"the function of {task.title()}: {error}") from error

    def _dump(self, task: Task, shared: SharedObjects) -> bytes:
        args: tuple[Any, ...] = task.args  # type: ignore[attr-defined]
        try:
            return self._dump_args(args, shared)
        except SerializationError as error:
            raise blame_argument(task.title(), args, error) from error
        except AlamoError as error:
            raise type(error)(f"an argument of {task.title()}: {error}") from error

    @staticmethod
    def _dump_args(args: tuple[Any, ...], shared: SharedObjects) -> bytes:
        placed = tuple([a if a.__class__ in ATOMS else shared.place(a, []) for a in args])
        data, buffers = pickling.dump(placed)
        if buffers:
            data, _ = pickling.dump(tuple([shared.force(a, []) for a in placed]))
        return data


def _after_fork_in_child() -> None:
    for singles in list(_all):
        singles.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _NoHandles:
    """Stands in for the compiler: handles cannot be arguments of a single task."""

    @staticmethod
    def source_of(task: Task, what: str) -> int:
        raise UsageError(
            f"the {what} handle of {task.title()} is an argument of a task started by itself; "
            "compile both in one list, or pass the value: handle.get()"
        )
