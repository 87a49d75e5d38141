"""The Batch: what a user makes first, and makes tasks with."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from alamo.batch import launch
from alamo.batch.arguments import MAY_BE_ACCESSES, as_accesses, check_callback, lift_accesses
from alamo.batch.client import Client
from alamo.batch.compiler import Compiler
from alamo.batch.logs import check_log_level, set_up_logging
from alamo.batch.outcomes import Callback
from alamo.batch.results import AsyncDict, AsyncValue
from alamo.batch.single import SingleTasks
from alamo.batch.task import HandlesByUid, Task, _Compiled, _Function
from alamo.batch.waiting import default_timeout
from alamo.core.access import (
    READ,
    WRITE,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    make_access,
)
from alamo.core.paths import is_path_type
from alamo.errors import BatchBroken, GraphError, UsageError
from alamo.protocol import messages as msg

__all__ = [
    "AsyncDict",
    "AsyncValue",
    "Batch",
    "CommunicationDomain",
    "CommunicationObject",
    "DataAccess",
    "Task",
    "default_timeout",
]

_batches: weakref.WeakSet[Batch] = weakref.WeakSet()


class Batch:
    """A batch service on this machine: a manager process and its workers.

    A Batch can be pickled into any process of the same user, which then is a further
    client of the same service.  As a context manager it closes and joins at a normal
    exit and terminates at an exception.

    Args:
        num_workers: how many tasks run at once; the cores granted to this process
            (affinity, cgroup, Slurm) by default.
        log_level: level of the logger ``alamo``, here and in the manager and workers.
        enable_telem: metrics; not part of this version.

    Raises:
        UsageError: ``num_workers`` is no number of at least 1, or more than the machine holds.

    Cost: 0.1 s, and two processes of 15 MB beside the workers.

    Example:
        >>> from alamo import Batch
        >>> with Batch(num_workers=2) as batch:
        ...     batch.function(pow, 2, 5).run()
        32
    """

    def __init__(
        self,
        num_workers: int | None = None,
        log_level: int | str = logging.WARNING,
        enable_telem: bool | None = False,
    ) -> None:
        if enable_telem:
            raise UsageError(
                "enable_telem=True: this version of alamo has no telemetry; leave it out"
            )
        slots = launch.check_num_workers(num_workers)
        level = check_log_level(log_level)
        set_up_logging(level)
        self._adopt(Client.launch(slots, level))

    def _adopt(self, client: Client) -> None:
        self._client = client
        self._singles = SingleTasks(client)
        self._joined = False
        _batches.add(self)

    # -- describing tasks --------------------------------------------------------------------

    def read(self, obj: Any, *channels: Any) -> DataAccess:
        """Describe READ accesses, to be given to a task.

        Args:
            obj: a communication object: a directory or file path (``str`` or path object), any
                other object of the user's own, or a ``CommunicationObject``.
            *channels: names under the path, or keys of the object; none for all of it.

        Raises:
            TypeError: a channel of a path is no name.

        Cost: 0.15 us; 0.5 us and more for a path.
        """
        if len(channels) == 1 and not is_path_type(obj.__class__):
            return DataAccess(obj, channels[0], READ)  # what make_access does, a call cheaper
        return make_access(obj, channels, READ, os.getcwd)

    def write(self, obj: Any, *channels: Any) -> DataAccess:
        """Describe WRITE accesses, to be given to a task; arguments as those of ``read``."""
        if len(channels) == 1 and not is_path_type(obj.__class__):
            return DataAccess(obj, channels[0], WRITE)
        return make_access(obj, channels, WRITE, os.getcwd)

    def function(
        self,
        func: Callable[..., Any],
        *args: Any,
        callback_func: Callable[..., Any] | None = None,
        callback_args: tuple[Any, ...] = (),
        reads: DataAccess | Sequence[DataAccess] | None = None,
        writes: DataAccess | Sequence[DataAccess] | None = None,
        name: str | None = None,
    ) -> Task:
        """Make a task that calls ``func(*args)`` in a worker.

        Args:
            func: importable in a worker, or anything that cloudpickle can send.
            *args: its arguments.  Handles of other tasks (``task.result``) are replaced by
                what they stand for.  Accesses at the end are taken as ``reads`` and
                ``writes``; if one tuple then remains, it is the arguments:
                ``function(f, (a, b), batch.read(...), batch.write(...))``.
            callback_func: called here as ``callback_func(result, *callback_args)`` when
                the task has succeeded.
            reads, writes: its accesses, one or a list.
            name: shown in messages beside the uid.

        Raises:
            TypeError: ``func`` or ``callback_func`` cannot be called.

        Cost: 0.3 us.
        """
        if not callable(func):
            raise TypeError(f"a task's function must be callable, not {type(func).__qualname__}")
        client = self._client
        if client.closed:
            client.check_open()
        if callback_func is not None:
            check_callback(callback_func, callback_args)
        if args and args[-1].__class__ in MAY_BE_ACCESSES:
            args, reads, writes = lift_accesses(args, reads, writes)
        return _Function(
            self,
            callback_func,
            callback_args,
            as_accesses(reads, READ) if reads is not None else (),
            as_accesses(writes, WRITE) if writes is not None else (),
            False,
            name,
            next(client.uids),
            None,
            -1,
            func,
            args,
        )

    def compile(
        self,
        tasks_to_compile: Sequence[Task],
        callback_func: Callable[..., Any] | None = None,
        callback_args: tuple[Any, ...] = (),
        name: str | None = None,
    ) -> Task:
        """Make one task of a list of tasks, which run in parallel as far as their accesses allow.

        The order of the list is a valid order to call them in; whatever runs when, every
        result and file ends as if they had been called in that order.  Arguments are
        taken as they are now.

        Args:
            tasks_to_compile: tasks of this Batch, neither compiled nor started.
            callback_func: called here as ``callback_func(*callback_args)`` when all of
                them have succeeded and their own callbacks have run.

        Raises:
            GraphError: (a ``RuntimeError``) the list is empty, or holds what cannot be compiled.
            SerializationError: a function or an argument cannot be pickled; nothing has been sent.
            SubmitAfterClose: the Batch was closed.

        Cost: 0.7 us a task, 0.6 us an access.
        """
        self._client.check_open()
        if not isinstance(tasks_to_compile, Sequence):
            raise GraphError(
                f"compile takes a list of tasks, not a {type(tasks_to_compile).__qualname__}"
            )
        if callback_func is not None:
            check_callback(callback_func, callback_args)
        if not len(tasks_to_compile):
            raise GraphError("compile got an empty list; give it at least one task")
        uid = next(self._client.uids)
        compiler = Compiler(self, self._client)
        compiler.compile(tasks_to_compile)
        program = compiler.program
        if callback_func is not None:
            program.end_callback = Callback(callback_func, tuple(callback_args))
        return _Compiled(
            self,
            callback_func,
            callback_args,
            compiled=True,
            name=name,
            _uid=uid,
            program=program,
            ranks=compiler.ranks,
        )

    def _start(self, task: Task) -> Any:
        """Body of ``Task.start``."""
        client = self._client
        client.check_open()
        program = task.program
        if not task.compiled:
            if program is not None:
                raise UsageError(
                    f"{task.title()} has been started already; make a new task for each call"
                )
            self._singles.start(task)
            return task.result, task.stdout, task.stderr
        assert program is not None
        if program.started:
            raise UsageError(
                f"{task.title()} has been started already; compile a new list of tasks"
            )
        if program.broken is not None:
            raise BatchBroken(f"{task.title()} cannot be started any more: {program.broken}")
        program.started = True
        assert isinstance(task, _Compiled)
        client.send([msg.Started(program.number, task.ranks)])
        task.ranks = b""
        return HandlesByUid(task)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Say that this client submits no more; a second call does nothing."""
        self._client.close()

    def join(self, timeout: float | None = default_timeout) -> None:
        """Wait until all clients have closed, all work is done and the service has ended.

        Args:
            timeout: seconds.

        Raises:
            WaitTimeout: (a ``TimeoutError``) the time is over; the service goes on.
            UsageError: called before ``close``, or by a client that did not make the Batch.
            BatchBroken: the service ended before all work was done.
        """
        if not self._client.is_primary:
            raise UsageError(
                "only the process that made the Batch can join it; other clients just close()"
            )
        if self._joined:
            return
        if not self._client.closed:
            raise UsageError(
                "call close() before join(): the service runs on while work may be submitted"
            )
        self._client.join(timeout)
        self._joined = True

    def terminate(self) -> None:
        """End the service at once: running tasks are killed, waits raise ``BatchBroken``.

        Raises:
            UsageError: called by a client that did not make the Batch.
        """
        if not self._client.is_primary:
            raise UsageError(
                "only the process that made the Batch can terminate it; other clients just close()"
            )
        self._joined = True
        self._client.terminate()

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._client.is_primary:
            self._leave()
        elif kind is None:
            self.close()
            if not self._joined:
                self.join()
        elif not self._joined:
            self.terminate()

    def __del__(self) -> None:
        """The primary client terminates a Batch that was not joined; another one closes."""
        if "_client" in self.__dict__ and not self._joined:
            try:
                self._leave()
            except Exception:
                pass

    def _leave(self) -> None:
        if self._client.is_primary:
            self.terminate()
        else:
            self._client.leave()
            self._joined = True

    # -- pickling ------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        client = self._client
        return {"address": client.address, "secret_path": client.secret_path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Register a new client with the service.

        Raises:
            BatchBroken: the service has ended, or is on another machine.
            AuthenticationFailed: this user may not use it.
        """
        self._adopt(Client(state["address"], state["secret_path"]))

    def __repr__(self) -> str:
        client = self._client
        state = "closed" if client.closed else "broken" if client.broken is not None else "open"
        role = "" if client.is_primary else f", client {client.number}"
        return f"<Batch of {client.slots} workers, manager pid {client.manager_pid}, {state}{role}>"


def _at_exit() -> None:
    """A clean exit closes and joins; a crash terminates."""
    crashed = getattr(sys, "last_type", None) is not None and not hasattr(sys, "ps1")
    for batch in list(_batches):
        try:
            if batch._joined:
                continue
            if not batch._client.is_primary or crashed:
                batch._leave()
            else:
                batch.close()
                batch.join()
        except Exception as error:
            logging.getLogger("alamo").warning("at exit: %s", error)


atexit.register(_at_exit)
