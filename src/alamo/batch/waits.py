"""Waiting for outcomes, with deadlines, and with a worker's slot lent meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from alamo.batch.outcomes import Program
from alamo.batch.waiting import Tick, acquire_until, deadline_of
from alamo.errors import BatchBroken, WaitTimeout
from alamo.protocol import messages as msg
from alamo.worker.context import context

if TYPE_CHECKING:
    from alamo.batch.client import Client


class Waits:
    """The waits of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._blocked_waits = 0
        self._blocked_lock = threading.Lock()

    def acquire(self, lock: Any, deadline_s: float | None, tick: Tick | None = None) -> bool:
        """Wait for a lock that the end of something releases; ``False`` when time is over.

        Args:
            tick: called in this thread some times a second.
        """
        return acquire_until(lock, deadline_s, tick)

    def run_here(self, come: Callable[[], bool]) -> None:
        """An engine without workers runs tasks now, until ``come()`` or nothing is left."""

    @contextmanager
    def lending_slot(self) -> Iterator[None]:
        """While a task waits here, its worker's slot serves other tasks."""
        if context.worker < 0 or context.address != self._client.address:
            yield
            return
        with self._blocked_lock:
            self._blocked_waits += 1
            if self._blocked_waits == 1:
                self._client.send([msg.Blocked(True)])
        try:
            yield
        finally:
            with self._blocked_lock:
                self._blocked_waits -= 1
                if not self._blocked_waits and self._client.broken is None:
                    self._client.send([msg.Blocked(False)])

    def element(
        self, program: Program, element: int, timeout_s: float | None, tick: Tick | None = None
    ) -> None:
        """Wait until an element has an outcome.

        Raises:
            WaitTimeout: the time is over.
            BatchBroken: the outcome will never come.
        """
        if program.has(element):
            return
        deadline = deadline_of(timeout_s)
        lock = program.waiter(element)
        if lock is not None:
            with self.lending_slot():
                if not self.acquire(lock, deadline, tick):
                    program.forget_waiter(element, lock)
                    if not program.has(element):
                        raise WaitTimeout(
                            f"{program.title(element)} has not ended after {timeout_s} s; "
                            "it goes on"
                        )
        if not program.has(element):
            raise self.broken_for(program, element)

    def program(
        self,
        program: Program,
        timeout_s: float | None,
        what: str,
        with_callbacks: bool = True,
        tick: Tick | None = None,
    ) -> None:
        """Wait until all tasks of a program have outcomes and their callbacks have run."""
        deadline = deadline_of(timeout_s)
        if threading.current_thread() is self._client.callbacks.thread:
            with_callbacks = False
        while not program.has_ended(with_callbacks):
            lock = program.end_waiter(with_callbacks)
            if lock is not None:
                with self.lending_slot():
                    if not self.acquire(lock, deadline, tick):
                        program.forget_waiter(-1, lock)
                        raise WaitTimeout(
                            f"{what}: {program.remaining} tasks have not ended after "
                            f"{timeout_s} s; they go on"
                        )
            elif program.broken is not None:
                raise self.broken_for(program, -1)

    def task(
        self, program: Program, element: int, timeout_s: float | None, tick: Tick | None = None
    ) -> None:
        """Wait until one task has an outcome and its callback, if any, has run."""
        deadline = deadline_of(timeout_s)
        self.element(program, element, timeout_s, tick)
        while (
            element in program.callbacks
            and threading.current_thread() is not self._client.callbacks.thread
        ):
            lock = program.callback_waiter(element)
            if lock is not None and not self.acquire(lock, deadline, tick):
                program.forget_waiter(-1, lock)
                raise WaitTimeout(
                    f"the callback of {program.title(element)} has not ended after "
                    f"{timeout_s} s; it goes on"
                )

    def broken_for(self, program: Program, element: int) -> BatchBroken:
        """The error that says that an outcome, or all that are missing (-1), will never come."""
        error = program.broken or self._client.broken or BatchBroken("the Batch has ended")
        what = program.title(element) if element >= 0 else f"{program.remaining} tasks"
        again = BatchBroken(f"{what} will get no result: {error}")
        again.__cause__ = error
        return again


class Watched(Protocol):
    """Something that tells a waiter when it has come."""

    def watch(self, waiter: Any) -> bool:
        """Have ``waiter.release()`` called; ``False``: there is nothing to wait for."""

    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""


@contextmanager
def lending_slots(clients: Iterable[Client]) -> Iterator[None]:
    """While a task waits here for work of these clients, its worker's slot serves other tasks."""
    with ExitStack() as stack:
        for client in clients:
            stack.enter_context(client.waits.lending_slot())
        yield


def await_release(watched: Watched, clients: Iterable[Client], deadline_s: float | None) -> bool:
    """Wait until what is watched calls; ``False`` when the time is over."""
    lock = threading.Lock()
    lock.acquire()
    if not watched.watch(lock):
        return True
    try:
        with lending_slots(clients):
            for client in clients:  # all are of one kind
                return client.waits.acquire(lock, deadline_s)
            return acquire_until(lock, deadline_s)
    finally:
        watched.forget(lock)
