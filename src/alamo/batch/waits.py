"""Waiting for outcomes, with deadlines, and with a worker's slot lent meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alamo.batch.outcomes import Program
from alamo.batch.waiting import acquire_until, deadline_of
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

    @contextmanager
    def _lending_slot(self) -> Iterator[None]:
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

    def element(self, program: Program, element: int, timeout_s: float | None) -> None:
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
            with self._lending_slot():
                if not acquire_until(lock, deadline):
                    program.forget_waiter(element, lock)
                    if not program.has(element):
                        raise WaitTimeout(
                            f"{program.title(element)} has not ended after {timeout_s} s; "
                            "it goes on"
                        )
        if not program.has(element):
            raise self._broken_for(program, element)

    def program(self, program: Program, timeout_s: float | None, what: str) -> None:
        """Wait until all tasks of a program have outcomes and their callbacks have run."""
        deadline = deadline_of(timeout_s)
        with_callbacks = threading.current_thread() is not self._client.callbacks.thread
        while not program.has_ended(with_callbacks):
            lock = program.end_waiter(with_callbacks)
            if lock is not None:
                with self._lending_slot():
                    if not acquire_until(lock, deadline):
                        program.forget_waiter(-1, lock)
                        raise WaitTimeout(
                            f"{what}: {program.remaining} tasks have not ended after "
                            f"{timeout_s} s; they go on"
                        )
            elif program.broken is not None:
                raise self._broken_for(program, -1)

    def task(self, program: Program, element: int, timeout_s: float | None) -> None:
        """Wait until one task has an outcome and its callback, if any, has run."""
        deadline = deadline_of(timeout_s)
        self.element(program, element, timeout_s)
        while (
            element in program.callbacks
            and threading.current_thread() is not self._client.callbacks.thread
        ):
            lock = program.callback_waiter(element)
            if lock is not None and not acquire_until(lock, deadline):
                program.forget_waiter(-1, lock)
                raise WaitTimeout(
                    f"the callback of {program.title(element)} has not ended after "
                    f"{timeout_s} s; it goes on"
                )

    def _broken_for(self, program: Program, element: int) -> BaseException:
        error = program.broken or self._client.broken or BatchBroken("the Batch has ended")
        what = program.title(element) if element >= 0 else f"{program.remaining} tasks"
        again = BatchBroken(f"{what} will get no result: {error}")
        again.__cause__ = error
        return again
