"""One program in its client: its shape, what comes in for it, and who waits for that."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from alamo.batch import forks
from alamo.batch.expanded import ExpandedArray, member
from alamo.batch.failures import FailedAttempt
from alamo.batch.stops import cancel_reason
from alamo.batch.timeline import Timeline
from alamo.batch.uids import UidIndex
from alamo.batch.values import CANCELLED, SKIPPED
from alamo.batch.watched import Callback, Watched
from alamo.core.edges import Columns
from alamo.errors import BatchBroken
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.array_view import ArrayView
    from alamo.batch.client import Client


class Program(Watched):
    """One program of this client: a compiled task, or a run of tasks started one by one.

    Attributes:
        number: the client's number of it.
        failed: elements whose task failed, in the order in which that came to be known.
        first_uid, uids: uid of an element is ``uids[element]`` (0 for a join), or
            ``first_uid + element`` when they are in sequence.
        names: element -> the name that the user gave.
        arrays: element -> the array that it stands for.
        expanded: the arrays whose elements are tasks of this program.
        kinds: classes by value that outcomes may refer to.
        edges: what waits for what; ``None`` if nothing does.
        functions: runs of elements: the first, and a function number for all or for each.
        function_names: what the functions are called, by number.
        retried: attempts that failed and that others followed.
        timeline: when and where its tasks ran.
        to_cancel: elements that were cancelled before the start, which is when the manager is
            told, and why.
        is_cancelled_unstarted: its only task was cancelled before it was started.
    """

    def __init__(self, number: int, client: Client) -> None:
        super().__init__(client.memory)
        self.number = number
        self.client = client
        self.started = False
        self._began_s = 0.0
        #: When the tasks of a stream were started, and when frames of outcomes came in.
        self.begun_s = array("d")
        self._frames_s = array("d")
        self._last_s: float | None = None
        self.timeline = Timeline()
        #: Tasks started one by one go into one program, which grows; otherwise it was compiled.
        self.is_stream = False
        self.growing = False
        #: The manager knows of all its tasks, or will not be told.
        self.fed = True
        #: Held while elements of one that has started go out, and while some are cancelled: they
        #: must be at the manager then.
        self.feeding = threading.RLock()
        self.tasks = 0
        self.received_bytes = 0
        self.failed: dict[int, None] = {}
        self.retried = 0
        self.to_cancel: dict[int, str] = {}
        self.is_cancelled_unstarted = False
        self.first_uid = -1
        self.uids: array[int] | None = None
        self._uid_index: UidIndex | None = None
        self.names: dict[int, str] = {}
        self.arrays: dict[int, ArrayView] = {}
        self.expanded: list[ExpandedArray] = []
        self.kinds: list[type] = []
        self.edges: Columns | None = None
        self.functions: list[tuple[int, int | bytes]] = []
        self.function_names: dict[int, str] = {}
        self.end_callback: Callback | None = None
        self.callback_errors: dict[int, BaseException] = {}
        forks.watch_program(self)

    def begin(self) -> dict[int, str]:
        """It is being started; returns the elements to be cancelled at once, and why."""
        with self._lock:
            self._began_s = time.monotonic()
            self.started = True
            return self.to_cancel

    def times(self, element: int) -> tuple[float | None, float | None]:
        """Monotonic times of the start and the end of all (-1) or one; ``None`` if not known."""
        if element < 0:
            began_s = self._began_s if self.started else None
            return began_s, self._last_s if self.has_ended(False) else None
        position = self._where[element]
        began_s = self.begun_s[element] if self.is_stream else None
        return began_s, self._frames_s[position >> 32] if 0 < position < CANCELLED else None

    def attempts_made(self, element: int) -> int:
        """How often an element, which has ended, was started."""
        return 1 + len(self.attempts.get(element, ()))

    # -- shape ---------------------------------------------------------------------------

    def add_elements(self, count: int, tasks: int) -> int:
        """Make room for ``count`` elements of which ``tasks`` are tasks; returns the first."""
        with self._lock:
            first = len(self._where)
            self._where.frombytes(bytes(8 * count))
            self.tasks += tasks
            self.remaining += tasks
        return first

    @property
    def handles(self) -> int:
        """How many tasks the user made."""
        return self.tasks - sum([view.size - 1 for view in self.expanded])

    def uid_of(self, element: int) -> int:
        """The uid of the task at an element."""
        if self.uids is None:
            return self.first_uid + element
        found = None if self.uids[element] else member(self.expanded, element)
        return self.uids[element] if found is None else found[0].uid

    def element_of(self, uid: int) -> int:
        """The element of a uid, or -1.  Cost: O(1); O(log n) for uids out of sequence."""
        if self.uids is None:
            element = uid - self.first_uid
            return element if 0 <= element < self.count else -1
        index = self._uid_index
        if index is None or len(index) != len(self.uids):
            index = self._uid_index = UidIndex(self.uids)
        return index.find(uid)

    def iter_uids(self) -> Iterator[int]:
        """Uids of all tasks, in program order."""
        if self.uids is None:
            return iter(range(self.first_uid, self.first_uid + self.count))
        return (uid for uid in self.uids if uid)

    def only_element(self) -> int:
        """The element of the program's only task (joins aside)."""
        return self.element_of(next(self.iter_uids()))

    def title(self, element: int) -> str:
        """How messages name a task."""
        found = member(self.expanded, element) if self.expanded else None
        if found is not None:
            return found[0].title_at(found[1])
        name = self.names.get(element)
        return f"task {self.uid_of(element)}" + (f" ({name})" if name else "")

    # -- what comes in (receiver thread) ---------------------------------------------------

    def add_results(self, message: msg.Results) -> list[int]:
        """Keep a frame of outcomes; returns the elements with callbacks to run.

        Cost: O(1) a range of elements, 0.05 us an element otherwise.
        """
        ends = memoryview(message.ends).cast("I")
        count = len(ends)
        frame = self._memory.keep(ends, message.payload, message.blocks)
        with self._lock:
            base = (len(self._frames) << 32) + 1
            self._frames.append(frame)
            self._last_s = time.monotonic()
            self._frames_s.append(self._last_s)
            self.timeline.add(message.timing)
            where = self._where
            first = message.first
            elements: Any = range(first, first + count)
            if message.elements:
                elements = memoryview(message.elements).cast("I")
            self.received_bytes += len(message.payload)
            for position, block in message.blocks:
                self.received_bytes += self._memory.blocks.size(block)
                if frame.__class__ is tuple:
                    self._unread_blocks[elements[position]] = block
            failed = dict.fromkeys([elements[p] for p in message.failed])
            if failed:
                self._note_failures(message, failed)
            # Last, for from here on other threads read them, without the lock.
            if message.elements:
                for position, element in enumerate(elements, base):
                    where[element] = position
            else:
                where[first : first + count] = array("Q", range(base, base + count))
            self._note_arrival(elements)
            self.remaining -= count
            called: list[int] = []
            if self.callbacks:
                for element in elements:
                    if element in self.callbacks:
                        if element in failed:
                            del self.callbacks[element]
                        else:
                            called.append(element)
            self._queue_end_callback(called)
            self._wake(elements)
        return called

    def _note_failures(self, message: msg.Results, elements: Iterable[int]) -> None:
        """Tell the failed from those that were cancelled while they ran."""
        ends = memoryview(message.ends).cast("I")
        for position, element in zip(message.failed, elements):
            start = ends[position - 1] if position else 0
            reason = cancel_reason(message.payload[start : ends[position]])
            if reason is None and element in self.arrays:
                reason = self.arrays[element].cancel_reason
            if reason is None:
                self.failed[element] = None
            else:
                self.cancelled[element] = reason

    def _note_arrival(self, elements: Sequence[int]) -> None:
        """A frame with the outcomes of these elements is there; called before waits see it."""

    def add_skipped(self, message: msg.Skipped) -> list[int]:
        """Note tasks that will not run."""
        elements = memoryview(message.elements).cast("I")
        roots = memoryview(message.roots).cast("I")
        with self._lock:
            for element, root in zip(elements, roots, strict=True):
                self._where[element] = SKIPPED
                self.skipped[element] = root
                self.callbacks.pop(element, None)
            self._last_s = time.monotonic()
            self.remaining -= len(elements)
            called: list[int] = []
            self._queue_end_callback(called)
            self._wake(elements)
        for element in elements if self.arrays else ():
            if element in self.arrays:
                self.arrays[element].skip()
        return called

    def add_cancelled(self, elements: Sequence[int], reason: str) -> list[int]:
        """Note tasks that were cancelled before they began; returns callbacks to run."""
        with self._lock:
            fresh = [element for element in elements if not self._where[element]]
            for element in fresh:
                self.callbacks.pop(element, None)
            self.cancelled.update(dict.fromkeys(fresh, reason))
            for element in fresh:  # last, as in ``add_results``
                self._where[element] = CANCELLED
            if fresh:
                self._note_arrival(fresh)
            self._last_s = time.monotonic()
            self.remaining -= len(fresh)
            called: list[int] = []
            self._queue_end_callback(called)
            self._wake(fresh)
        return called

    def cancel_at_start(self, elements: Sequence[int] | None, reason: str) -> bool:
        """Note elements, or all, that shall be cancelled when this is started; whether one was
        not noted before.
        """
        chosen = range(self.count) if elements is None else elements
        fresh = [element for element in chosen if element not in self.to_cancel]
        self.to_cancel.update(dict.fromkeys(fresh, reason))
        return bool(fresh)

    def add_attempt(self, message: msg.AttemptFailed) -> None:
        """Keep a failed attempt that another follows."""
        attempt = FailedAttempt(message.outcome, message.delay_s)
        self.attempts.setdefault(message.element, []).append(attempt)
        self.retried += 1

    def _queue_end_callback(self, called: list[int]) -> None:
        """Element -1 stands for the callback of the program as a whole."""
        if not self.remaining and self.end_callback is not None and self.started:
            if self.failed or self.skipped or self.cancelled:
                self.end_callback = None
            else:
                called.append(-1)
        self.callbacks_pending += len(called)

    def end_at_once(self) -> list[int]:
        """It has started and there is nothing to run; returns callbacks to run."""
        called: list[int] = []
        with self._lock:
            self._queue_end_callback(called)
        return called

    def callback_done(self, element: int, error: BaseException | None) -> None:
        """A callback has run."""
        with self._lock:
            self.callbacks_pending -= 1
            self.callbacks.pop(element, None)
            if element < 0:
                self.end_callback = None  # that of an array refers to the array
            if error is not None:
                self.callback_errors[element] = error
            waiters, self._end_waiters = self._end_waiters, []
        for lock in waiters:
            lock.release()

    def break_off(self, error: BaseException) -> None:
        """No further outcome will come: every wait ends with this error."""
        with self._lock:
            if not self.remaining and not self.callbacks_pending and not self.growing:
                return
            self.broken = error
            locks = [lock for group in self._waiters.values() for lock in group]
            locks += self._end_waiters
            self._waiters, self._end_waiters = {}, []
        for lock in locks:
            lock.release()

    def finish_feeding(self, only_at_hand: bool) -> None:
        """All its tasks were made before it started."""

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads that are not here."""
        super().after_fork()
        self.feeding = threading.RLock()
        self.end_callback = None  # the parent's
        if self.remaining and self.broken is None:
            self.broken = BatchBroken(
                "this task was started before the fork; its result goes to the parent process"
            )

    def value(self, element: int) -> Any:
        """The result of a task whose outcome is known, of an array the list of all."""
        if self.arrays and element in self.arrays:
            return self.arrays[element].all_values()
        return super().value(element)

    def snapshot(self) -> tuple[array[int], frozenset[int], frozenset[int], frozenset[int]]:
        """At one moment: what is not 0 for elements with an outcome; the failed, the skipped, the
        cancelled."""
        with self._lock:
            ended = frozenset(self.failed), frozenset(self.skipped), frozenset(self.cancelled)
            return self._where[:], *ended

    @property
    def has_failures(self) -> bool:
        """Whether a task failed or did not run."""
        return bool(self.failed or self.skipped or self.cancelled)

    def has_failed(self, element: int) -> bool:
        """Whether a task failed or did not run."""
        return element in self.failed or element in self.skipped or element in self.cancelled
