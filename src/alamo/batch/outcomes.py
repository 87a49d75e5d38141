"""Outcomes of one program in its client: columns of where each lies, decoded when asked for.

Outcomes stay the bytes in which they came until ``get`` wants one; a million results
cost what their pickles weigh plus 8 bytes each.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from alamo.batch import forks
from alamo.batch.failures import unloadable, upstream_failed, worker_lost
from alamo.batch.uids import UidIndex
from alamo.errors import BatchBroken
from alamo.protocol import exceptions, pickling
from alamo.protocol import messages as msg
from alamo.protocol.pickling import ATOMS
from alamo.protocol.records import LOST, OK, STDOUT, Record

if TYPE_CHECKING:
    from alamo.batch.client import Client

_decode_record = msgspec.msgpack.Decoder(Record).decode

_SKIPPED = (1 << 64) - 1
_POSITION = (1 << 32) - 1


class Callback(NamedTuple):
    """A function to call with a task's result and these arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


class Program:
    """One program of this client: a compiled task, or a run of tasks started one by one.

    Attributes:
        number: the client's number of it.
        remaining: tasks without an outcome yet (joins are not counted).
        failed: elements whose task failed.
        skipped: element -> the failed element because of which it did not run.
        first_uid, uids: uid of an element is ``uids[element]`` (0 for a join), or
            ``first_uid + element`` when they are in sequence.
        names: element -> the name that the user gave.
        broken: why no further outcome will come.
    """

    def __init__(self, number: int, client: Client) -> None:
        self.number = number
        self.client = client
        self._memory = client.memory
        self._where = array("Q")
        self._frames: list[Any] = []
        self._values: dict[int, Any] = {}
        self._opening = threading.RLock()
        self._lock = threading.Lock()
        self._unread_blocks: dict[int, int] = {}
        self._waiters: dict[int, list[Any]] = {}
        self._end_waiters: list[Any] = []
        self.started = False
        #: Tasks started one by one go into one program, which grows; otherwise it was compiled.
        self.is_stream = False
        self.growing = False
        self.tasks = 0
        self.received_bytes = 0
        self.remaining = 0
        self.failed: list[int] = []
        self.skipped: dict[int, int] = {}
        self.first_uid = -1
        self.uids: array[int] | None = None
        self._uid_index: UidIndex | None = None
        self.names: dict[int, str] = {}
        self.broken: BaseException | None = None
        self.callbacks: dict[int, Callback] = {}
        self.end_callback: Callback | None = None
        #: Callbacks queued or running.
        self.callbacks_pending = 0
        self.callback_errors: dict[int, BaseException] = {}
        forks.watch_program(self)

    def __del__(self) -> None:
        """Nobody can ask for the outcomes any more: give back what they hold."""
        for frame in self._frames:
            self._memory.dropped(frame)
        if self._unread_blocks:
            self._memory.give_up(self._unread_blocks.values())

    # -- shape ---------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Elements, joins included."""
        return len(self._where)

    def add_elements(self, count: int, tasks: int) -> int:
        """Make room for ``count`` elements of which ``tasks`` are tasks; returns the first."""
        with self._lock:
            first = len(self._where)
            self._where.frombytes(bytes(8 * count))
            self.tasks += tasks
            self.remaining += tasks
        return first

    def uid_of(self, element: int) -> int:
        """The uid of the task at an element."""
        return self.first_uid + element if self.uids is None else self.uids[element]

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
            # Last, for from here on other threads read them, without the lock.
            if message.elements:
                for position, element in enumerate(elements, base):
                    where[element] = position
            else:
                where[first : first + count] = array("Q", range(base, base + count))
            self.remaining -= count
            called: list[int] = []
            failed = {elements[p] for p in message.failed}
            if failed:
                self.failed.extend(failed)
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

    def add_skipped(self, message: msg.Skipped) -> list[int]:
        """Note tasks that will not run."""
        elements = memoryview(message.elements).cast("I")
        roots = memoryview(message.roots).cast("I")
        with self._lock:
            for element, root in zip(elements, roots, strict=True):
                self._where[element] = _SKIPPED
                self.skipped[element] = root
                self.callbacks.pop(element, None)
            self.remaining -= len(elements)
            called: list[int] = []
            self._queue_end_callback(called)
            self._wake(elements)
        return called

    def _queue_end_callback(self, called: list[int]) -> None:
        """Element -1 stands for the callback of the program as a whole."""
        if not self.remaining and self.end_callback is not None and self.started:
            if self.failed or self.skipped:
                self.end_callback = None
            else:
                called.append(-1)
        self.callbacks_pending += len(called)

    def _wake(self, elements: Any) -> None:
        if self._waiters:
            if len(self._waiters) < len(elements):
                ready = [e for e in self._waiters if self._where[e]]
            else:
                ready = [e for e in elements if e in self._waiters]
            for element in ready:
                for lock in self._waiters.pop(element):
                    lock.release()
        self._wake_if_ended()

    def _wake_if_ended(self) -> None:
        if self._end_waiters and not self.remaining:
            waiters, self._end_waiters = self._end_waiters, []
            for lock in waiters:
                lock.release()

    def callback_done(self, element: int, error: BaseException | None) -> None:
        """A callback has run."""
        with self._lock:
            self.callbacks_pending -= 1
            self.callbacks.pop(element, None)
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

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads that are not here."""
        self._lock, self._opening = threading.Lock(), threading.RLock()
        self._waiters, self._end_waiters = {}, []
        self._unread_blocks = {}
        if self.remaining and self.broken is None:
            self.broken = BatchBroken(
                "this task was started before the fork; its result goes to the parent process"
            )

    # -- waiting ---------------------------------------------------------------------------

    def has(self, element: int) -> bool:
        """Whether the element's outcome is known."""
        return self._where[element] != 0

    def waiter(self, element: int) -> Any:
        """A held lock that is released when the element has an outcome; ``None`` if it has."""
        with self._lock:
            if self._where[element] or self.broken is not None:
                return None
            lock = threading.Lock()
            lock.acquire()
            self._waiters.setdefault(element, []).append(lock)
            return lock

    def end_waiter(self, with_callbacks: bool) -> Any:
        """A held lock that is released when something about the end of the program changes."""
        with self._lock:
            if self.has_ended(with_callbacks) or self.broken is not None:
                return None
            lock = threading.Lock()
            lock.acquire()
            self._end_waiters.append(lock)
            return lock

    def callback_waiter(self, element: int) -> Any:
        """A held lock that is released when a callback has run; ``None`` if this one has."""
        with self._lock:
            if element not in self.callbacks:
                return None
            lock = threading.Lock()
            lock.acquire()
            self._end_waiters.append(lock)
            return lock

    def has_ended(self, with_callbacks: bool) -> bool:
        """Whether all outcomes are known and, if asked for, all callbacks have run."""
        return not self.remaining and not (with_callbacks and self.callbacks_pending)

    def forget_waiter(self, element: int, lock: Any) -> None:
        """A wait was given up."""
        with self._lock:
            locks = self._waiters.get(element, [])
            if lock in locks:
                locks.remove(lock)
                if not locks:
                    del self._waiters[element]
            if lock in self._end_waiters:
                self._end_waiters.remove(lock)

    # -- what goes out -----------------------------------------------------------------------

    def value(self, element: int) -> Any:
        """The result of a task whose outcome is known; raises its exception.

        Cost: 0.2 us for ``None``, one unpickling else; the object is kept for the next call.
        """
        position = self._where[element]
        if position == _SKIPPED:
            raise upstream_failed(self, element, self.skipped[element])
        frame = self._frames[position >> 32]
        if frame.__class__ is tuple:
            ends, payload = frame
            k = (position & _POSITION) - 1
            start = ends[k - 1] if k else 0
            end = ends[k]
            if start == end:
                return None
            if self._values and element in self._values:
                return self._values[element]
            data = payload[start:end]
        else:
            if element in self._values:
                return self._values[element]
            data = self._data(element)
            if not data:
                return None
        if data[0] == 0x80:
            try:
                value = pickling.load(data)
            except Exception as error:
                raise unloadable(self.title(element), error) from error
            if value.__class__ not in ATOMS:
                return self._values.setdefault(element, value)
            return value
        return self._open(element, _decode_record(data))

    def text(self, element: int, stream: int) -> str:
        """What a task printed: the whole of it or its head and tail."""
        if self._where[element] == _SKIPPED:
            return ""
        data = self._data(element)
        if not data or data[0] == 0x80:
            return ""
        record = _decode_record(data)
        output = record.stdout if stream == STDOUT else record.stderr
        return output.decode("utf-8", "backslashreplace")

    def _data(self, element: int) -> bytes:
        position = self._where[element]
        return self._memory.read(self._frames[position >> 32], (position & _POSITION) - 1)

    def _open(self, element: int, record: Record) -> Any:
        """The value in a Record, or its error: made anew each time, for the traceback of one
        that were kept here would keep the tasks in its frames alive for ever."""
        if record.status == LOST:
            raise worker_lost(self, element, record)
        if record.status != OK:
            raise exceptions.load_exception(record.value, self.title(element))
        with self._opening:  # a block must be given back once
            if element not in self._values:
                try:
                    self._values[element] = self._load(element, record)
                except Exception as error:
                    raise unloadable(self.title(element), error) from error
            return self._values[element]

    def _load(self, element: int, record: Record) -> Any:
        if record.block == -1:
            return pickling.load(record.value) if record.value else None
        buffers, confirm = self._memory.open_block(record)
        value = pickling.load(record.value or bytes(buffers.pop(0)), buffers)
        self._unread_blocks.pop(element, None)
        confirm()
        return value
