"""The thread behind an executor: sends calls, and ends their Futures.

    submit() ──► inbox ──► dispatcher thread ──► manager
                   ▲              └──► Futures
                   └── receiver thread

Calls wait here until they are about to run, so that they can be cancelled: no more are with the
manager than some hundredths of a second of work.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from collections import deque
from concurrent.futures import BrokenExecutor
from queue import SimpleQueue
from time import monotonic
from typing import Any, TextIO

from alamo.batch.batch import Batch
from alamo.batch.call_future import CallFuture
from alamo.batch.calls import Arrival, Call, Calls
from alamo.errors import BatchBroken

log = logging.getLogger("alamo")

#: A call that ends sooner after it was sent lets more be sent ahead; one that ends later, fewer.
_SOON_S = 0.03
_LATE_S = 0.1
#: By how many more for each call that ended soon: eight times as many a round trip.
_GROWTH = 7

#: How long the receiver may take to see that the connection is broken.
_END_WAIT_S = 2.0

_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


class ExecutorBroken(BatchBroken, BrokenExecutor):
    """The Batch behind an executor is gone: calls that have not ended never will."""


class Dispatcher:
    """Runs the calls of one executor.

    Args:
        is_owner: the Batch ends with it.

    Attributes:
        refusal: why it takes no more calls.
        error: what broke it.
    """

    def __init__(self, batch: Batch, is_owner: bool) -> None:
        self.batch = batch
        self._is_owner = is_owner
        self.client = batch._client
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        #: Nothing is put behind the last look into the inbox.  Reentrant: finalizers call stop.
        self._lock = threading.RLock()
        self.refusal: str | None = None
        self.error: BatchBroken | None = None
        self._stopping = False
        self._cancelling = False
        self._waiting: deque[Call] = deque()
        self._calls = Calls(self.client, self._inbox)
        self._least = self.client.slots + 1
        self._window = self._least
        self._adapted_s = 0.0
        self._under_way = 0
        self._beginning: list[Call] = []  # those whose sending was broken off
        self.thread = threading.Thread(target=self._run, name="alamo-executor", daemon=True)
        self.thread.start()
        _dispatchers.add(self)

    # -- from other threads ------------------------------------------------------------------

    def put(self, call: Call) -> bool:
        """Have a call made; ``False`` when none is taken any more."""
        with self._lock:
            if self.refusal is not None:
                return False
            self._inbox.put(call)
            return True

    def stop(self, refusal: str, cancel: bool = False) -> None:
        """Take no more calls, and end with the last."""
        with self._lock:
            self.refusal = self.refusal or refusal
        self._stopping = True
        self._cancelling = self._cancelling or cancel
        self._inbox.put(None)

    def join(self) -> None:
        """Wait until the last call has ended."""
        if self.thread is not threading.current_thread():
            self.thread.join()

    def after_fork(self) -> None:
        """In a forked child: the thread is not here."""
        self._lock = threading.RLock()
        self.refusal = "this executor was made before the fork; make one in this process"

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._take(self._inbox.get())
                for _ in range(self._inbox.qsize()):
                    self._take(self._inbox.get())
                self._send()
        except BatchBroken as error:
            self.client.ended.wait(_END_WAIT_S)  # what was received until then is in the inbox
            self._break(error)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            log.exception("an executor ends because of a fault in it")
            self._break(BatchBroken(f"a fault in the executor: {error!r}"))
        if self._is_owner:
            self._end_batch()

    def _is_over(self) -> bool:
        return self._stopping and not self._under_way and not self._waiting

    def _take(self, event: Call | Arrival | None) -> None:
        if event.__class__ is tuple:
            self._waiting.append(event)  # type: ignore[arg-type]
        elif isinstance(event, Arrival):
            self._arrived(event)
        elif self._cancelling:
            self._send()  # what idle workers are there for does not wait
            for future, _, _, _ in self._waiting:
                if future.cancel():
                    future.set_running_or_notify_cancel()
            self._waiting.clear()

    def _send(self) -> None:
        """Send as many calls as may be under way."""
        waiting = self._waiting
        while waiting and self._under_way < self._window:
            if self.client.closed:
                self._drop_waiting(BatchBroken("the Batch was closed while it waited"))
                return
            calls: list[Call] = []
            room = self._window - self._under_way
            while waiting and len(calls) < room:
                call = waiting.popleft()
                if call[0].begin():
                    calls.append(call)
            self._under_way += len(calls)
            try:
                self._under_way -= len(calls) - self._calls.send(calls)
            except BaseException:
                self._beginning = calls
                raise

    def _arrived(self, arrival: Arrival) -> None:
        """End the Futures of calls that have ended."""
        program, elements, broken = arrival
        if broken is not None:
            raise BatchBroken(str(broken)) from broken
        futures = program.futures
        first = futures[elements[0]]
        assert first is not None
        self._adapt(first.sent_s, len(elements))
        del first
        self._under_way -= len(elements)
        program.left -= len(elements)
        for element in elements:
            future = futures[element]
            assert future is not None
            futures[element] = None
            printed = program.printed(element)
            if printed is not None:
                _pass_on(printed[0], sys.stdout)
                _pass_on(printed[1], sys.stderr)
            try:
                value = program.take(element)
            except BaseException as error:
                future.set_exception(error.with_traceback(None))
            else:
                future.finish(value)

    def _adapt(self, sent_s: float, ended: int) -> None:
        """Some calls have ended that were sent at that time: how many may be under way?"""
        now_s = monotonic()
        age_s = now_s - sent_s
        if age_s < _SOON_S:
            if self._waiting:
                self._window += _GROWTH * ended
        elif age_s > _LATE_S and sent_s > self._adapted_s:  # those sent before tell nothing new
            self._window = max(int(self._under_way * _SOON_S / age_s), self._least)
            self._adapted_s = now_s

    # -- the end -----------------------------------------------------------------------------

    def _break(self, error: BatchBroken) -> None:
        """No call ends any more."""
        with self._lock:
            self.error = error
            self.refusal = str(error)
        while not self._inbox.empty():
            event = self._inbox.get()
            if not isinstance(event, Arrival) or event.broken is None:
                self._take(event)
        for program in self._calls.programs:
            for future in program.futures:
                if future is not None:
                    _fail(future, error)
        for future, _, _, _ in self._beginning:
            _fail(future, error)
        self._drop_waiting(error)

    def _drop_waiting(self, error: BatchBroken) -> None:
        for future, _, _, _ in self._waiting:
            if future.begin():
                _fail(future, error)
        self._waiting.clear()

    def _end_batch(self) -> None:
        try:
            if self.error is not None:
                self.batch.terminate()
            else:
                self.batch.close()
                self.batch.join()
        except BatchBroken as error:
            log.warning("an executor has ended, and its Batch is broken: %s", error)


def _fail(future: CallFuture, error: BaseException) -> None:
    if not future.done():
        future.set_exception(ExecutorBroken(f"this call will get no result: {error}"))


def _pass_on(output: bytes, to: TextIO | None) -> None:
    """What a call has printed, as if it had been printed here."""
    if output and to is not None:
        try:
            to.write(output.decode("utf-8", "backslashreplace"))
        except (OSError, ValueError):  # it is closed
            pass


def _at_exit() -> None:
    """A clean exit makes all calls that wait; after a crash they are dropped."""
    crashed = getattr(sys, "last_type", None) is not None and not hasattr(sys, "ps1")
    for one in list(_dispatchers):
        one.stop("cannot schedule new futures after interpreter shutdown", crashed)
    for one in list(_dispatchers) if not crashed else ():
        one.join()


def _after_fork_in_child() -> None:
    for one in list(_dispatchers):
        one.after_fork()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
