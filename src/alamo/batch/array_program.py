"""Outcomes of the elements of one array task, which are made while it runs."""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from alamo.batch.array_view import ArrayView
from alamo.batch.arrivals import Arrivals
from alamo.batch.failures import upstream_failed
from alamo.batch.outcomes import Program
from alamo.batch.values import CANCELLED, SKIPPED
from alamo.batch.waiting import deadline_of, left_until
from alamo.errors import BatchBroken, WaitTimeout
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.pickling import ATOMS_PROTOCOL

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task_stats import TaskStats


log = logging.getLogger("alamo")


class ArrayProgram(Program, ArrayView):
    """The program behind an array task: element i is the array's i-th.

    Attributes:
        uid, name: the array's.
        length: how many elements there will be; ``None`` while nobody knows.
        feed_error: what its iterables raised; there are no elements after that.
        gate: the program in which it was compiled, and its element there.
        order: elements that ended together, as that came in.
    """

    def __init__(self, number: int, client: Client, uid: int, name: str | None) -> None:
        super().__init__(number, client)
        self.growing = True
        self.uid = uid
        self.name = name
        self.length: int | None = None
        self.feed_error: BaseException | None = None
        self.fed = False
        self.gate: tuple[Program, int] | None = None
        self.is_skipped = False
        self.order: list[Sequence[int]] = []
        self._change_waiters: list[Any] = []

    # -- shape ---------------------------------------------------------------------------

    def uid_of(self, element: int) -> int:
        """The array's uid."""
        return self.uid

    def title(self, element: int) -> str:
        """How messages name an element, or the array (-1)."""
        title = self.array_title()
        return f"element {element} of {title}" if element >= 0 else title

    @property
    def has_failures(self) -> bool:
        """Whether an element failed, or there are fewer than there should be."""
        bad = self.failed or self.cancelled or self.is_skipped
        return bool(bad or self.feed_error is not None)

    @property
    def is_wanted(self) -> bool:
        """Whether elements may still be made."""
        return (
            self.growing
            and not self.is_skipped
            and self.broken is None
            and self.cancel_reason is None
        )

    # -- what comes in -------------------------------------------------------------------

    def add_elements(self, count: int, tasks: int) -> int:
        """Make room for elements."""
        first = super().add_elements(count, tasks)
        with self._lock:
            if self.is_skipped:
                self._mark_skipped()
        self.wake()
        return first

    def add_results(self, message: msg.Results) -> list[int]:
        """Keep a frame of outcomes."""
        called = super().add_results(message)
        self.wake()
        return called

    def add_cancelled(self, elements: Sequence[int], reason: str) -> list[int]:
        """Note elements that were cancelled before they began."""
        called = super().add_cancelled(elements, reason)
        self.wake()
        return called

    def _note_arrival(self, elements: Sequence[int]) -> None:
        self.order.append(elements)

    def seal(self, error: BaseException | None = None) -> list[int]:
        """No more elements come; returns callbacks to run."""
        called: list[int] = []
        with self._lock:
            self.growing = False
            self.feed_error = error
            self.length = self.count
            self._queue_end_callback(called)
            self._wake_if_ended()
        self.wake()
        return called

    def call_off(self) -> None:
        """It was cancelled: ``cancel_reason`` says why, and no more elements are made."""
        if self.cancel_reason is None:  # it has ended
            return
        with self.feeding:
            if self.growing:
                self.client.callbacks.queue(self, self.seal(self.cancelled_error()))
            self.fed = True
        self.wake()
        self.client.let_go(self)

    def skip(self) -> None:
        """It will not run: a task whose output it needed has failed."""
        with self._lock:
            self.is_skipped = self.fed = True
            self.growing = False
            self.end_callback = None
            self._mark_skipped()
        self.wake()
        self.client.let_go(self)

    def _mark_skipped(self) -> None:
        """Whatever has been made has ended, and whoever waits for that is woken."""
        self._where = array("Q", [SKIPPED]) * len(self._where)
        self.remaining = 0
        for locks in self._waiters.values():
            for lock in locks:
                lock.release()
        self._waiters.clear()
        self._wake_if_ended()

    def break_off(self, error: BaseException) -> None:
        """No further outcome will come."""
        super().break_off(error)
        self.wake()

    def finish_feeding(self, only_at_hand: bool) -> None:
        """Wait until all elements have been made."""
        if not self.started or self.fed:
            return
        if only_at_hand and self.length is None:
            log.warning("%s breaks off after %d elements", self.title(-1), self.count)
        else:
            self._await_here(lambda: self.fed, None, "the last element")

    def _queue_end_callback(self, called: list[int]) -> None:
        if not self.growing:
            if self.feed_error is not None:
                self.end_callback = None
            super()._queue_end_callback(called)

    def _wake_if_ended(self) -> None:
        if not self.growing:
            super()._wake_if_ended()

    def has_ended(self, with_callbacks: bool) -> bool:
        """Whether all elements are made and have outcomes."""
        return not self.growing and super().has_ended(with_callbacks)

    def after_fork(self) -> None:
        """In a forked child."""
        super().after_fork()
        self._change_waiters = []
        if self.growing and self.broken is None:
            self.broken = BatchBroken(
                "this array was being made when the process forked; the parent process has it"
            )

    # -- waiting for a change ------------------------------------------------------------

    def wake(self) -> None:
        """Something has changed: whoever waits for that looks again."""
        with self._lock:
            waiters, self._change_waiters = self._change_waiters, []
        for lock in waiters:
            lock.release()

    def change_waiter(self, come: Callable[[], bool]) -> Any:
        """A held lock that the next change releases; ``None`` when it has come."""
        lock = threading.Lock()
        lock.acquire()
        return lock if self.watch_change(come, lock) else None

    def watch_change(self, come: Callable[[], bool], waiter: Any) -> bool:
        """Have ``waiter.release()`` called at the next change; ``False``: it has come."""
        with self._lock:
            if come() or self.broken is not None:
                return False
            self._change_waiters.append(waiter)
            return True

    def forget_change(self, waiter: Any) -> None:
        """Nobody waits any more."""
        with self._lock:
            if waiter in self._change_waiters:
                self._change_waiters.remove(waiter)

    def await_change(
        self, come: Callable[[], bool], deadline_s: float | None, what: str = "it"
    ) -> None:
        """Wait until ``come()``, or no outcome will come any more.

        Raises:
            WaitTimeout: the time is over.
        """
        while (lock := self.change_waiter(come)) is not None:
            if self.client.waits.acquire(lock, deadline_s):
                continue
            self.forget_change(lock)
            if not come():
                raise WaitTimeout(f"{what} has not come in time; {self.title(-1)} goes on")

    def _await_here(self, come: Callable[[], bool], deadline_s: float | None, what: str) -> None:
        """The same for the user, who may be a task, whose slot others use meanwhile."""
        if not come():
            with self.client.waits.lending_slot():
                self.await_change(come, deadline_s, what)

    def _check_broken(self) -> None:
        """Raise if nothing more will come: anew each time, for a traceback keeps its frames."""
        if self.broken is not None:
            raise BatchBroken(f"{self.title(-1)} will not end: {self.broken}") from self.broken

    # -- waiting, as a handle does ---------------------------------------------------------

    @property
    def size(self) -> int:
        """Elements made so far."""
        return self.count

    def wait_all(self, timeout_s: float | None) -> None:
        """Wait until all have ended; not for callbacks."""
        self.client.waits.program(self, timeout_s, self.title(-1), with_callbacks=False)

    def wait_one(self, index: int, timeout_s: float | None) -> bool:
        """Wait until one has ended."""
        deadline = deadline_of(timeout_s)
        self._await_here(
            lambda: self.count > index or not self.growing, deadline, f"element {index}"
        )
        if self.count > index:
            self.client.waits.element(self, index, left_until(deadline))
        self.raise_if_skipped()
        if self.count <= index and self.growing:
            self._check_broken()
        return self.count > index

    def wait_length(self) -> int:
        """Wait until it is known how many there will be."""
        self._await_here(lambda: self.length is not None or self.is_skipped, None, "its length")
        self.raise_if_skipped()
        if self.length is None:
            self._check_broken()
        assert self.length is not None
        return self.length

    def completed(self, timeout_s: float | None) -> Arrivals[int]:
        """Indices as they end."""
        from alamo.batch.arrived_frames import ArrivedFrames  # which needs this module

        return ArrivedFrames(self, timeout_s)

    def watch_one(self, index: int, waiter: Any) -> bool:
        """Release the waiter when one may have ended."""
        if self.count <= index and self.watch_change(
            lambda: self.count > index or not self.growing, waiter
        ):
            return True
        return self.count > index and not self.is_skipped and self.watch(index, waiter)

    def forget_one(self, index: int, waiter: Any) -> None:
        """Nobody waits any more."""
        self.forget_change(waiter)
        self.forget_waiter(index, waiter)

    def value_at(self, index: int) -> Any:
        """The value of an element."""
        self.raise_if_skipped()
        return self.value(index)

    def text_at(self, index: int, stream: int) -> str | bytes:
        """What an element printed."""
        return self.text(index, stream)

    def place_of(self, index: int) -> tuple[Program, int]:
        """This and the same number."""
        return self, index

    def stats_at(self, index: int) -> TaskStats | None:
        """What is known of an element's run."""
        from alamo.batch.task_stats import stats_of  # for those who ask for it

        return stats_of(self, index)

    # -- what goes out -------------------------------------------------------------------

    def raise_if_skipped(self) -> None:
        """Raise why the array did not run, if it did not."""
        if self.is_skipped:
            assert self.gate is not None
            program, element = self.gate
            raise upstream_failed(program, element, program.skipped[element])

    def values(self) -> tuple[list[Any], dict[int, BaseException]]:
        """The values of all elements, and the errors of those that failed.

        Cost: nothing a result that is ``None``, 0.2 us another, what is kept included.
        """
        values: list[Any] = [None] * self.count
        errors: dict[int, BaseException] = {}
        loads = pickling.load
        for elements in self.order:
            position = self._where[elements[0]]
            frame = self._frames[position >> 32] if position < CANCELLED else None
            if frame.__class__ is not tuple:  # spilled, or cancelled
                self._add_one_by_one(elements, values, errors)
                continue
            ends, payload = frame
            start = 0
            if not ends[-1]:
                continue
            if not payload:  # dropped, for the objects are kept
                self._add_one_by_one(elements, values, errors)
                continue
            for element, end in zip(elements, ends):
                if start == end:
                    continue
                # The older protocol: a number or the like.  Others may fail to load, and are kept.
                if payload[start] == 0x80 and payload[start + 1] == ATOMS_PROTOCOL:
                    values[element] = loads(payload[start:end])
                else:
                    self._add_one_by_one((element,), values, errors)
                start = end
        return values, errors

    def _add_one_by_one(
        self, elements: Sequence[int], values: list[Any], errors: dict[int, BaseException]
    ) -> None:
        for element in elements:
            try:
                values[element] = self.value(element)
            except Exception as error:
                errors[element] = error
