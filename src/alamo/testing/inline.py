"""A Batch without processes: the same client and scheduler, and a worker in the calling thread."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alamo.batch import spill
from alamo.batch.array_program import ArrayProgram
from alamo.batch.batch import Batch
from alamo.batch.callbacks import CallbackRunner, call
from alamo.batch.client import UIDS_A_CLIENT, Client
from alamo.batch.feeding import Feeder
from alamo.batch.inquiries import Inquiries
from alamo.batch.known_functions import KnownFunctions
from alamo.batch.options import OptionsMaker
from alamo.batch.outcomes import Program
from alamo.batch.waiting import Tick
from alamo.batch.waits import Waits
from alamo.errors import BatchBroken, UsageError
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.testing.service import Failures, InlineService


class InlineBatch(Batch):
    """A Batch that runs tasks in the calling thread, one after the other, in the same order always.

    ``start`` runs all that can run before it returns; an array over an iterator that may wait is
    pulled from when somebody waits for its elements.  Arguments, results and errors are pickled
    as they are between processes.  What tasks print through ``sys.stdout`` is caught; time limits
    of waits cannot interrupt a task.  Options are checked as those of ``Batch``: retries follow at
    once, without their pauses, and ``timeout=`` and ``cancel`` cannot interrupt a task, but decide
    how it has ended.

    Args:
        num_workers, log_level: as those of ``Batch``; one task runs at a time, and ``scale``
            changes the number that is shown.
        enable_telem: refused: there is no manager to serve metrics.
        failures: what is to fail: name or uid of a task, or its function -> the exception that it
            raises instead of running.  ``WorkerLost`` itself (the class) stands for a worker that
            dies.

    Example:
        >>> from alamo.testing import InlineBatch
        >>> with InlineBatch(failures={"second": OSError("disk full")}) as batch:
        ...     first = batch.function(pow, 2, 5, name="first")
        ...     second = batch.function(pow, first.result, 2, name="second")
        ...     _ = batch.compile([first, second]).start()
        ...     first.result.get(), type(second.attempts[0].error)
        (32, <class 'OSError'>)
    """

    def __init__(
        self,
        num_workers: int | None = None,
        log_level: int | str = logging.WARNING,
        enable_telem: bool | None = False,
        failures: Failures | None = None,
    ) -> None:
        if enable_telem:
            raise UsageError(
                "enable_telem=True: an InlineBatch has no manager that could serve metrics"
            )
        self._failures = failures or {}
        super().__init__(num_workers, log_level)

    def _launch(self, slots: int, log_level: int, telemetry: bool) -> Client:
        return InlineClient(self._failures, slots)

    def __reduce__(self) -> tuple[Any, ...]:
        """In this process it becomes a further client of the same service; elsewhere nothing."""
        client = self._client
        _clients[id(client)] = client
        return _further, (id(client), os.getpid())


_clients: weakref.WeakValueDictionary[int, Client] = weakref.WeakValueDictionary()


def _further(key: int, pid: int) -> InlineBatch:
    client = _clients.get(key) if pid == os.getpid() else None
    if client is None:
        raise BatchBroken("an InlineBatch lives in the process that made it")
    assert isinstance(client, InlineClient)
    batch = InlineBatch.__new__(InlineBatch)
    batch._adopt(client.further)
    return batch


class InlineClient(Client):
    """A client whose manager is in its own thread."""

    callbacks: InlineCallbacks
    service: InlineService

    def __init__(self, failures: Failures, slots: int, first: InlineClient | None = None) -> None:
        self._failures = failures
        self.slots = slots
        self._first = first or self
        super().__init__("", "")

    def further(self) -> InlineClient:
        """Another client of the same service."""
        return InlineClient(self._failures, self.slots, self._first)

    def _start(self, sock: socket.socket | None) -> None:
        first = self._first
        self._pid = os.getpid()
        self._programs: dict[int, Program] = {}
        self.never_started: deque[Program] = deque()
        self.broken: BatchBroken | None = None
        self.ended = threading.Event()
        self._leaving = False
        self.host, self.manager_pid = socket.gethostname(), self._pid
        self.blocks = NoBlocks()  # type: ignore[assignment]
        self.waits = InlineWaits(self)
        self.inquiries = Inquiries(self)
        self.options = OptionsMaker(self)
        self.registered = True
        self.is_primary = first is self
        if first is self:
            #: One thread at a time runs tasks.
            self._turn = threading.RLock()
            self.service = InlineService()
            self.callbacks = InlineCallbacks()
            self._numbers = itertools.count()
            self._program_numbers = itertools.count()
            self.functions = KnownFunctions(self.send)
            self.memory = spill.ResultMemory(spill.default_budget_bytes(), lambda blocks: None)
        else:  # numbers are the service's, for all its clients
            first.check_broken()
            self._turn, self.service, self.callbacks = first._turn, first.service, first.callbacks
            self._program_numbers = first._program_numbers
            self.functions, self.memory = first.functions, first.memory
        self.number = next(first._numbers)
        self.uids: Iterator[int] = itertools.count(self.number * UIDS_A_CLIENT + 1)

    @property
    def feeder_class(self) -> type[Feeder]:  # type: ignore[override]
        """It is defined below."""
        return InlineFeeder

    def send(self, messages: Sequence[msg.Message], fds: Sequence[int] = ()) -> None:
        """Take messages in, and run what can run, unless this is a task's own call."""
        self.check_broken()
        with self._turn:
            for message in [*self._drop_never_started(), *messages]:
                self.service.take(message, self)
            self.run_until(lambda: False, pull=False)

    def post(self, message: msg.Message) -> None:
        """Take a message in; nothing begins to run by it."""
        with self._turn:
            self.service.take(message, self)

    def run_until(self, come: Callable[[], bool], pull: bool) -> None:
        """Run tasks and callbacks; within a task only when it waits for others."""
        with self._turn:
            if pull or not self.service.is_inside:
                self.service.run_until(come, pull)
            self.callbacks.run()

    def failure_of(self, number: int, element: int, function: bytes) -> Any:
        program = self._programs.get(number)
        if not self._failures or program is None:
            return None
        name = program.name if isinstance(program, ArrayProgram) else program.names.get(element)
        for key, failure in self._failures.items():
            if key in (name, program.uid_of(element)):
                return failure
            if callable(key) and pickling.dump_function(key) == function:
                return failure
        return None

    def title_of(self, number: int, element: int) -> str:
        program = self._programs.get(number)
        return f"task {element}" if program is None else program.title(element)

    def close(self) -> None:
        """No more work comes."""
        self.closed = True

    def take(self, message: msg.Message) -> None:
        """A message of the service."""
        self._take(message)

    def join(self, timeout_s: float | None, tick: Tick | None = None) -> None:
        """Run what is left to run."""
        self.check_broken()

        def come() -> bool:
            if tick is not None:
                tick()
            return False

        self.run_until(come, pull=True)
        self.ended.set()
        self._break_off(BatchBroken("this Batch has ended"))

    def terminate(self) -> None:
        """What has not run never will."""
        self.closed = True
        if not self.ended.is_set():
            self._break(BatchBroken("the Batch ended: the primary client terminated it"))
            self.ended.set()

    def leave(self) -> None:
        """Nothing is shared with anybody."""

    def before_fork(self) -> None:
        """Nothing is shared with anybody."""

    def after_fork(self) -> None:
        """A forked child has an inline Batch of its own."""


class InlineWaits(Waits):
    """Waits that run what they wait for."""

    _client: InlineClient

    def run_here(self, come: Callable[[], bool]) -> None:
        """Run tasks until one of them makes it come."""
        client = self._client
        client.run_until(lambda: come() or client.broken is not None, pull=True)

    def acquire(self, lock: Any, deadline_s: float | None, tick: Tick | None = None) -> bool:
        """Run tasks until one of them releases the lock."""

        def come() -> bool:
            if tick is not None:
                tick()
            return not lock.locked()

        self.run_here(come)
        if lock.acquire(blocking=False):
            return True
        if deadline_s is None:
            raise UsageError("this wait would never end: nothing is left that could run")
        return False


class InlineCallbacks(CallbackRunner):
    """Callbacks in the calling thread, between tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[tuple[Program, int]] = deque()

    def start(self) -> None:
        """There is no thread."""

    def queue(self, program: Program, elements: Any) -> None:
        """Have these called by ``run``."""
        self._waiting.extend((program, element) for element in elements)

    def run(self) -> None:
        """Call what is queued, unless this is a callback's own call."""
        if self.thread is not None:
            return
        self.thread = threading.current_thread()
        try:
            while self._waiting:
                program, element = self._waiting.popleft()
                program.callback_done(element, call(program, element))
        finally:
            self.thread = None


class NoBlocks:
    """No shared memory: everything travels in line."""

    @contextmanager
    def helped(self) -> Iterator[None]:
        """Nothing to help with."""
        yield

    def fill(self, buffers: Sequence[Any]) -> None:
        """There is no block."""

    def stop_helper(self) -> None:
        """There is no helper."""


class InlineFeeder(Feeder):
    """Feeds an array when somebody waits for it, unless all of it is at hand."""

    def start(self) -> None:
        """Feed what is at hand."""
        if not self._source.may_block:
            try:
                self._feed_at_hand(True)
            except BaseException as error:
                self.give_up(error)
                raise
            return
        assert isinstance(self._client, InlineClient)
        self._client.service.sources.append(self)

    def pull(self) -> bool:
        """Feed one element; ``False`` at the end."""
        if not self._program.is_wanted:
            return False
        try:
            columns = self._source.take(1)
            if columns:
                self._feed(columns)
                return True
        except BaseException as error:
            self._finish(error)
            return False
        self._finish(None)
        return False
