"""A queue's messages on this machine, as this process has them open."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic_ns
from typing import Any, Final

import lmdb

from alamo.core import leases
from alamo.data.home import Home
from alamo.data.lmdb.consumer import BUSY_UNTIL, SLOTS, Consumer
from alamo.data.lmdb.control import ATTENTION, DESTROYED, WAITERS
from alamo.data.lmdb.environment import Environment, NoRoom, Transaction
from alamo.data.lmdb.files import LAST_PAGE, OTHER_LAST_PAGE, PAGE_BYTES
from alamo.data.lmdb.taking import BUFFERS_APART, Taking, lease_in, take_in
from alamo.data.lmdb.waiters import TABLE, Waiters
from alamo.data.store import Packed, Watch
from alamo.errors import DataStoreError, QueueFullError

__all__ = ["Line"]

#: What is waited for: the topics of the table of waiters.
MESSAGES: Final = b"messages"
ROOM: Final = b"room"
FINISHED: Final = b"finished"

_UNFINISHED_KEY: Final = b"\xfeunfinished"
_COUNT: Final = struct.Struct(">Q")
_key = struct.Struct(">Q").pack
_index = struct.Struct(">I").pack
#: The number of the last commit, in words of the meta pages.
_COMMIT: Final = LAST_PAGE + 1
_OTHER_COMMIT: Final = OTHER_LAST_PAGE + 1
#: What LMDB keeps within a page of other records.
_INLINE_MAX_BYTES: Final = PAGE_BYTES // 2 - 64
#: Messages put in one transaction, which keeps all others waiting.
_PUT_MAX: Final = 10_000
_GLANCES_MAX: Final = 20
#: How often one who waits for the end of a lease looks whether it ended early.
_LEASE_NAP_S: Final = 0.000_2


class Line:
    """The messages of one queue in one process; a part of its home, for all handles there.

    Attributes:
        maxsize, joinable: as the queue was made.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.control = home.control
        self.maxsize: int = home.about.settings["maxsize"]
        self.joinable: bool = home.about.settings["joinable"]
        self.environment = Environment(home, "messages", 0, (TABLE,), QueueFullError)
        self.waiters = Waiters(home, self.environment)
        self._is_plain = not self.maxsize and not self.joinable
        self._consumer: Consumer | None = None
        self._empty_at = -1
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give back what is on lease, and close the files."""
        with self._lock:
            if self._consumer is not None:
                if self._consumer.generation and not self.control[ATTENTION] & DESTROYED:
                    self._transact(self._consumer, 0, None, 0)
                self._consumer.close()
                self._consumer = None
            self.environment.close()

    def after_fork(self) -> None:
        """What the parent holds on lease is not the child's to hand out."""
        self._lock = threading.Lock()
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self.environment.after_fork()

    def leave(self) -> None:
        """The interpreter ends; what is on lease goes back when the lease ends."""
        self.environment.leave()

    # -- putting --

    def put_one(self, head: bytes, buffers: Sequence[Any]) -> bool:
        """As :meth:`alamo.data.store.QueueStore.put_one`."""
        if buffers or len(head) > _INLINE_MAX_BYTES or not self._is_plain:
            return self.put([(head, buffers)]) == 1
        environment = self.environment
        names: Sequence[bytes] = ()
        txn = None
        try:
            txn = environment.begin(None, None, True)
            words = environment.words
            if not words[LAST_PAGE] <= environment.small_last >= words[OTHER_LAST_PAGE]:
                environment.ensure(txn, 0)
            txn.put(_key(txn.id()), head)
            attention = self.control[ATTENTION]
            if attention:
                names = self._attend(txn, attention, 1)
            txn.commit()
        except (lmdb.Error, NoRoom):
            if txn is not None:
                txn.abort()
            return self.put([(head, buffers)]) == 1
        except BaseException:
            if txn is not None:
                txn.abort()
            raise
        if names:
            self.waiters.wake(names)
        return True

    def put(self, messages: Sequence[Packed]) -> int:
        """As :meth:`alamo.data.store.QueueStore.put`."""
        count = 0
        while count < len(messages):
            part = [_record(*message) for message in messages[count : count + _PUT_MAX]]
            pages = sum(map(len, part)) // (PAGE_BYTES // 2) + sum(
                2 for record in part if len(record) > _INLINE_MAX_BYTES
            )
            put, names = self.environment.write(partial(self._put_in, records=part), pages)
            if names:
                self.waiters.wake(names)
            count += put
            if put < len(part):
                break
        return count

    def _put_in(self, txn: Transaction, records: list[bytes]) -> tuple[int, Sequence[bytes]]:
        if self.maxsize:
            records = records[: max(self.maxsize - self._size_in(txn), 0)]
        key = _key(txn.id())
        for index, record in enumerate(records):
            txn.put(key + _index(index) if index else key, record)
        if self.joinable:
            txn.put(_UNFINISHED_KEY, _COUNT.pack(self._unfinished_in(txn) + len(records)))
        attention = self.control[ATTENTION]
        names = self._attend(txn, attention, len(records)) if attention else ()
        return len(records), names

    def _attend(self, txn: Transaction, attention: int, count: int) -> Sequence[bytes]:
        """What a writer must look at: whom to wake for so many messages, for example."""
        if attention & DESTROYED:
            self._check()
        if attention & WAITERS and count:
            return self.waiters.take(txn, MESSAGES, count)
        return ()

    # -- taking --

    def take_one(self) -> Packed | None:
        """As :meth:`alamo.data.store.QueueStore.take_one`."""
        with self._lock:
            consumer = self._consumer
            if consumer is not None and consumer.next < len(consumer.bodies):
                pending = consumer.bodies[consumer.next]
                handed_out = consumer.next + 1
                control = self.control
                # In this order (core/leases.py): first the store, then the clock.
                control[consumer.word_at] = consumer.base + handed_out
                consumer.next = handed_out
                if control[BUSY_UNTIL] <= monotonic_ns() < consumer.end_ns:
                    return pending, ()
                taken = self._take(1, pending)
            else:
                taken = self._take(1, None)
        return _message(taken[0]) if taken else None

    def take(self, limit: int) -> list[Packed]:
        """As :meth:`alamo.data.store.QueueStore.take`."""
        with self._lock:
            taken = self._take(limit, None)
        return [_message(record) for record in taken]

    def _take(self, limit: int, pending: bytes | None) -> list[bytes]:
        """Take in transactions; wait while another consumer has all on lease."""
        consumer = self._consumer
        if consumer is None:
            self._check()
            consumer = self._consumer = Consumer(self.home)
        while True:
            if not consumer.generation and self._commits() == self._empty_at:
                return []
            now_ns = monotonic_ns()
            ahead = 0
            if limit == 1 and not self.maxsize and consumer.number >= 0:
                got = consumer.got + consumer.next
                ahead = leases.next_size(got, now_ns - consumer.taken_ns) - 1
            taking = self._transact(consumer, limit, pending, ahead)
            consumer.taken_ns, consumer.got = now_ns, len(taking.records)
            if taking.records:
                return taking.records
            if not taking.until_ns:
                return []
            pending = None
            left_s = (taking.until_ns - monotonic_ns()) / 1e9
            time.sleep(min(max(left_s, 0.0), _LEASE_NAP_S))

    def _transact(
        self, consumer: Consumer, limit: int, pending: bytes | None, ahead: int
    ) -> Taking:
        control = self.control

        def work(txn: Transaction) -> tuple[Taking, Sequence[bytes], int]:
            self._check()
            taking = take_in(txn, control, consumer, limit, pending, ahead, monotonic_ns())
            names: Sequence[bytes] = ()
            if control[ATTENTION] & WAITERS and self.maxsize and taking.records:
                names = self.waiters.take(txn, ROOM, len(taking.records))
            return taking, names, txn.id()

        taking, names, number = self.environment.write(work, 0, is_removal=True)
        if taking.lease is None:
            consumer.drop()
        else:
            consumer.hold(taking.lease, taking.bodies)
        if names:
            self.waiters.wake(names)
        if not taking.records and not taking.until_ns:
            # Nothing was there before this transaction, which has left nothing either.
            self._empty_at = number - 1
        return taking

    def _commits(self) -> int:
        """The number of the last commit."""
        words = self.environment.words
        return int(max(words[_COMMIT], words[_OTHER_COMMIT]))

    # -- looking --

    def size(self) -> int:
        """Messages that nobody has got."""
        for _ in range(_GLANCES_MAX):
            found = self.environment.read(self._look)
            if found is not None:
                return found
        return self.environment.write(self._size_in, 0, is_removal=True)

    def _look(self, txn: Transaction) -> int | None:
        """The size; ``None`` if it belongs to a lease that is no more."""
        try:
            return self._size_in(txn, is_snapshot=True)
        except _Overtaken:
            return None
        finally:
            txn.abort()

    def _size_in(self, txn: Transaction, is_snapshot: bool = False) -> int:
        self._check()
        lease = lease_in(txn)
        handed_out = 0
        if lease is not None:
            seen = self.control[SLOTS + lease.slot]
            handed_out = lease.handed_out(seen)
            if is_snapshot and seen > leases.word(lease.generation + 1, 0):
                raise _Overtaken
        entries: int = txn.stat()["entries"]
        cursor = txn.cursor()
        if cursor.set_range(b"\x01"):
            entries -= sum(1 for _ in cursor.iternext(values=False))
        cursor.close()
        return entries - handed_out

    def stats(self) -> dict[str, Any]:
        """As :meth:`alamo.data.store.QueueStore.stats`."""

        def look(txn: Transaction) -> int:
            try:
                figures = txn.stat()
            finally:
                txn.abort()
            kinds = ("branch_pages", "leaf_pages", "overflow_pages")
            return PAGE_BYTES * sum(int(figures[kind]) for kind in kinds)

        return {"messages": self.size(), "bytes_used": self.environment.read(look)}

    # -- unfinished messages --

    def unfinished(self) -> int:
        """As :meth:`alamo.data.store.QueueStore.unfinished`."""

        def look(txn: Transaction) -> int:
            try:
                return self._unfinished_in(txn)
            finally:
                txn.abort()

        return self.environment.read(look)

    def done(self, count: int) -> bool:
        """As :meth:`alamo.data.store.QueueStore.done`."""

        def work(txn: Transaction) -> tuple[bool, Sequence[bytes]]:
            left = self._unfinished_in(txn) - count
            if left < 0:
                return False, ()
            txn.put(_UNFINISHED_KEY, _COUNT.pack(left))
            if left or not self.control[ATTENTION] & WAITERS:
                return True, ()
            return True, self.waiters.take(txn, FINISHED)

        is_done, names = self.environment.write(work, 0, is_removal=True)
        if names:
            self.waiters.wake(names)
        return is_done

    def _unfinished_in(self, txn: Transaction) -> int:
        self._check()
        found = txn.get(_UNFINISHED_KEY)
        return 0 if found is None else int(_COUNT.unpack(found)[0])

    # -- waiting --

    def watch_messages(self) -> AbstractContextManager[Watch]:
        """As :meth:`alamo.data.store.QueueStore.watch_messages`."""
        return self.waiters.watch(MESSAGES)

    def watch_room(self) -> AbstractContextManager[Watch]:
        """As :meth:`alamo.data.store.QueueStore.watch_room`."""
        return self.waiters.watch(ROOM)

    def watch_finished(self) -> AbstractContextManager[Watch]:
        """As :meth:`alamo.data.store.QueueStore.watch_finished`."""
        return self.waiters.watch(FINISHED)

    # -- the end --

    def destroy(self) -> None:
        """Let every process know that there is nothing here any more."""

        def work(txn: Transaction) -> Sequence[bytes]:
            self.control[ATTENTION] |= DESTROYED
            return [
                name
                for topic in (MESSAGES, ROOM, FINISHED)
                for name in self.waiters.take(txn, topic)
            ]

        self.waiters.wake(self.environment.write(work, 0, is_removal=True))

    def _check(self) -> None:
        """Raise if there is nothing here any more."""
        if self.control[ATTENTION] & DESTROYED:
            raise DataStoreError(
                f"the queue {self.home.about.id} in {self.home.path} has been destroyed: "
                "make another"
            )


class _Overtaken(Exception):
    """A snapshot has a lease that has ended since."""


def _record(head: bytes, buffers: Sequence[Any]) -> bytes:
    if not buffers:
        return head
    sizes = struct.pack(f">I{len(buffers)}Q", len(buffers), *map(len, buffers))
    return b"".join((bytes([BUFFERS_APART]), sizes, *buffers, head))


def _message(record: bytes) -> Packed:
    if record[0] != BUFFERS_APART:
        return record, ()
    (count,) = struct.unpack_from(">I", record, 1)
    sizes = struct.unpack_from(f">{count}Q", record, 5)
    at = 5 + 8 * count
    buffers = []
    for size in sizes:
        buffers.append(bytearray(record[at : at + size]))
        at += size
    return record[at:], buffers
