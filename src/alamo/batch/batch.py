"""The Batch: what a user makes first, and makes tasks with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from alamo.batch import display, exits, launch, starting
from alamo.batch.arguments import (
    MAY_BE_ACCESSES,
    accesses_of_array,
    as_accesses,
    check_callback,
    lift_accesses,
)
from alamo.batch.array_compiler import compile_tasks
from alamo.batch.array_task import _Array
from alamo.batch.client import Client
from alamo.batch.closing import Closing
from alamo.batch.controls import Controls
from alamo.batch.job import Jobs
from alamo.batch.logs import check_log_level, set_up_logging
from alamo.batch.options import check_priority
from alamo.batch.outstanding import Outstanding
from alamo.batch.process import Processes
from alamo.batch.results import AsyncDict, AsyncValue
from alamo.batch.retry import Retry
from alamo.batch.single import SingleTasks
from alamo.batch.sources import Source
from alamo.batch.task import Task, _Function
from alamo.batch.waiting import default_timeout
from alamo.core.access import (
    READ,
    WRITE,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    has_own_channels,
    make_access,
)
from alamo.errors import GraphError
from alamo.policy import Policy

__all__ = [
    "AsyncDict",
    "AsyncValue",
    "Batch",
    "CommunicationDomain",
    "CommunicationObject",
    "DataAccess",
    "Policy",
    "Retry",
    "Task",
    "default_timeout",
]


class Batch(Controls, Outstanding, Closing, Processes, Jobs):
    """A batch service on this machine: a manager process and its workers.

    A Batch can be pickled into any process of the same user, which then is a further
    client of the same service.  As a context manager it closes and joins at a normal
    exit and terminates at an exception.

    Args:
        num_workers: how many tasks run at once; by default the cores granted to this process.
        log_level: level of the logger ``alamo``, here and in the manager and workers.
        enable_telem: serve metrics for Prometheus at ``metrics_url`` (extra ``alamo[metrics]``).

    Raises:
        UsageError: no possible ``num_workers``, or metrics without their extra.

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
        telemetry = launch.check_telemetry(enable_telem)
        slots = launch.check_num_workers(num_workers)
        level = check_log_level(log_level)
        set_up_logging(level)
        self._adopt(lambda: self._launch(slots, level, telemetry))

    _launch = staticmethod(Client.launch)

    def _adopt(self, make: Callable[[], Client]) -> None:
        self._joined = False
        self._client = make()
        try:
            self._singles = SingleTasks(self._client)
            exits.watch(self)
        except BaseException:  # Ctrl-C: nobody will ever own the service
            self._leave()
            raise

    # -- describing tasks --------------------------------------------------------------------

    def read(self, obj: Any, *channels: Any) -> DataAccess:
        """Describe READ accesses, to be given to a task.

        Args:
            obj: a communication object: a directory or file path (``str`` or path object), any
                other object of the user's own, or a ``CommunicationObject``.
            *channels: names under the path, or keys of the object; none for all of it.

        Raises:
            TypeError: a channel of a path is no name, or one of a ``DDict`` cannot be a key.

        Cost: 0.15 us; 0.5 us and more for a path.
        """
        if len(channels) == 1 and not has_own_channels(obj.__class__):
            return DataAccess(obj, channels[0], READ)  # what make_access does, a call cheaper
        return make_access(obj, channels, READ, os.getcwd)

    def write(self, obj: Any, *channels: Any) -> DataAccess:
        """Describe WRITE accesses, to be given to a task; arguments as those of ``read``."""
        if len(channels) == 1 and not has_own_channels(obj.__class__):
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
        timeout: float | None = None,
        retries: int | Retry = 0,
        policy: Policy | None = None,
        priority: int = 0,
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
            timeout: seconds that an attempt may run before it is stopped, with all that it
                started; then it has failed with ``TaskTimeout``.
            retries: how often the task may run again when it failed, or a ``Retry``.
            policy: what it needs of the machine; by default one slot.
            priority: of tasks that are ready the higher goes first: among those of one
                ``compile``, or among all that are started by themselves.

        Raises:
            TypeError: ``func`` or ``callback_func`` cannot be called.
            UsageError: an option has a value that it cannot have.
            PolicyError: the Batch can never give what the policy asks for.

        Cost: 0.7 us; 0.1 us more with options.
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
        options = None
        if timeout is not None or retries or policy is not None or priority:
            options = client.options.make(timeout, retries, policy, priority)
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
            options,
            func,
            args,
        )

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any],
        callback_func: Callable[..., Any] | None = None,
        callback_args: tuple[Any, ...] = (),
        reads: DataAccess | Sequence[DataAccess] | Callable[..., Any] | None = None,
        writes: DataAccess | Sequence[DataAccess] | Callable[..., Any] | None = None,
        name: str | None = None,
        timeout: float | None = None,
        retries: int | Retry = 0,
        policy: Policy | None = None,
        priority: int = 0,
    ) -> Task:
        """Make one task of many elements: an array, whose i-th calls ``func`` with the i-th items.

        The iterables are taken from lazily, from ``start`` on, no more than some 100 000 elements
        ahead of what has ended, in a thread of their own unless they are lists, ranges or the
        like; they may be endless, and may wait for results.  ``join`` waits until they end;
        at the end of a task that did not wait for its array, one that may be endless breaks off.

        ``task.result`` is a handle of all elements: ``result[i]``, iteration, ``len``,
        ``as_completed()``, ``get()``.  An element that fails leaves the others alone; then the
        array has failed for those that need its output, as it has when an iterable raises.

        Args:
            func: as in ``function``.
            *iterables: as many as ``func`` takes arguments; the shortest sets the length.
            callback_func: called here as ``callback_func(results, *callback_args)`` when all
                elements have succeeded.
            reads, writes: accesses of the array as a whole, one or a list; or a function of an
                element's arguments that gives that element's: then they are made at ``compile``.
            name: shown in messages beside the uid.
            timeout, retries, policy: as in ``function``, of each element by itself.
            priority: among the elements of all arrays and tasks that are started by themselves;
                in a compiled task, if it is given, instead of that one's priority.

        Raises:
            TypeError: ``func`` cannot be called, or something cannot be iterated.

        Cost: 0.2 us an element over a range, 0.6 us over a list of numbers.

        Example:
            >>> from alamo import Batch
            >>> with Batch(num_workers=1) as batch:
            ...     batch.map(abs, range(-3, 2)).run()
            [3, 2, 1, 0, 1]
        """
        if not callable(func):
            raise TypeError(f"a task's function must be callable, not {type(func).__qualname__}")
        if not iterables:
            raise TypeError("map needs something to iterate over")
        client = self._client
        client.check_open()
        if callback_func is not None:
            check_callback(callback_func, callback_args)
        return _Array(
            self,
            callback_func,
            callback_args,
            accesses_of_array(reads, READ),
            accesses_of_array(writes, WRITE),
            False,
            name,
            next(client.uids),
            options=client.options.make(timeout, retries, policy, priority),
            func=func,
            source=Source(iterables),
        )

    def compile(
        self,
        tasks_to_compile: Sequence[Task],
        callback_func: Callable[..., Any] | None = None,
        callback_args: tuple[Any, ...] = (),
        name: str | None = None,
        priority: int = 0,
    ) -> Task:
        """Make one task of a list of tasks, which run in parallel as far as their accesses allow.

        The order of the list is a valid order to call them in; whatever runs when, every
        result and file ends as if they had been called in that order.  Arguments are
        taken as they are now.

        Args:
            tasks_to_compile: tasks of this Batch, neither compiled nor started.
            callback_func: called here as ``callback_func(*callback_args)`` when all of
                them have succeeded and their own callbacks have run.
            priority: of what is ready in all that was started, the higher goes first; within
                the compiled task the priorities of its tasks count, then the longest path.

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
            self._client.callbacks.start()
        if not len(tasks_to_compile):
            raise GraphError("compile got an empty list; give it at least one task")
        return compile_tasks(
            self, tasks_to_compile, callback_func, callback_args, name, check_priority(priority)
        )

    def _start(self, task: Task) -> Any:
        return starting.start(self, self._singles, task)

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
        self._adopt(lambda: Client(state["address"], state["secret_path"]))

    def __repr__(self) -> str:
        return display.text(self, display.of_batch)

    def _repr_html_(self) -> str:
        return display.html(self, display.of_batch)
