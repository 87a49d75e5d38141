"""A queue's messages on this machine, as this process has them open."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic_ns
from typing import Any, Final

import lmdb

from alamo.core import leases
from alamo.data.home import Home
from alamo.data.lmdb import buffers as buffer_tables
from alamo.data.lmdb import waiters as waiter_tables
from alamo.data.lmdb.buffers import Buffers
from alamo.data.lmdb.busy_watch import BusyWatch
from alamo.data.lmdb.consumer import SLOTS, SLOTS_MAX, is_slot_free
from alamo.data.lmdb.control import ATTENTION, DESTROYED, WAITERS
from alamo.data.lmdb.environment import Environment, NoRoom, Transaction
from alamo.data.lmdb.files import LAST_PAGE, OTHER_LAST_PAGE, PAGE_BYTES
from alamo.data.lmdb.records import Record, Reference
from alamo.data.lmdb.taker import ROOM, Taker
from alamo.data.lmdb.taking import forget_copies, lease_in
from alamo.data.lmdb.waiters import Waiters
from alamo.data.packing import APART_MIN_BYTES
from alamo.data.store import Packed, Watch
from alamo.errors import DataStoreError, QueueFullError

__all__ = ["Line"]

#: What is waited for: topics of the table of waiters.
MESSAGES: Final = b"messages"
FINISHED: Final = b"finished"

_UNFINISHED_KEY: Final = b"\xfeunfinished"
_DESTROYED_KEY: Final = b"\xfedestroyed"
_COUNT: Final = struct.Struct(">Q")
#: The first key that is no message's.
_FIRST_OTHER_KEY: Final = b"\x01"
_key = struct.Struct(">Q").pack
_index = struct.Struct(">I").pack
#: What LMDB keeps within a page of other records.
_INLINE_MAX_BYTES: Final = PAGE_BYTES // 2 - 64
#: Heads from here on lie with the buffers, so that records stay small.
_HEAD_MAX_BYTES: Final = APART_MIN_BYTES
#: What is put in one transaction, which keeps all others waiting, and aside before it.
_PUT_MAX: Final = 10_000
_PUT_MAX_BYTES: Final = 64 << 20
_GLANCES_MAX: Final = 20
#: Whoever has put something so long ago finds room again soon.
_BUSY_NS: Final = 1_000_000

#: A message as it will lie in the line: its record, and where its buffers are.
_Stored = tuple[bytes, Reference | None]


class _Swept(Exception):
    """Buffers were taken for those of a killed producer before they got their record."""


class _Overtaken(Exception):
    """A snapshot has a lease that has ended since."""


class Line:
    """The messages of one queue in one process; a part of its home, for all handles there.

    Args:
        files: environments for buffers beside that of the messages.

    Attributes:
        maxsize, joinable: as the queue was made.
        taker: the taking side.
    """

    def __init__(self, home: Home, files: int) -> None:
        self.home = home
        self.control = home.control
        self.maxsize: int = home.about.settings["maxsize"]
        self.joinable: bool = home.about.settings["joinable"]
        single = () if files else (buffer_tables.TABLE,)
        self.environment = Environment(
            home, "messages", 0, (waiter_tables.TABLE,), QueueFullError, single
        )
        self.waiters = Waiters(home, self.environment)
        self.buffers = Buffers(
            home,
            self.environment,
            files,
            full=QueueFullError,
            first_key=b"\0",
            begin_sweep=self._forget_the_dead,
        )
        self.taker = Taker(self)
        self._shards = itertools.count(os.getpid())
        self._put_ns = 0
        self._full_at = -1
        self._is_plain = not self.maxsize and not self.joinable

    def close(self) -> None:
        """Give back what is on lease, and close the files."""
        self.taker.close()
        self.environment.close()
        self.waiters.close()

    def after_fork(self) -> None:
        """In the child of a fork."""
        self.environment.after_fork()
        self.buffers.after_fork()
        self.taker.after_fork()

    def leave(self) -> None:
        """The interpreter ends; what is on lease goes back when the lease ends."""
        self.waiters.close()
        self.environment.leave()

    def destroy(self) -> None:
        """Let every process know that there is nothing here any more."""

        def destroy(txn: Transaction) -> list[bytes]:
            names = self.waiters.take_all(txn)
            self.control[ATTENTION] = DESTROYED
            txn.put(_DESTROYED_KEY, b"")  # a commit: whoever has found nothing looks again
            return names

        self.waiters.wake(self.environment.write(destroy, 0, is_removal=True))

    def is_destroyed(self) -> bool:
        """Whether there is nothing here any more."""
        return bool(self.control[ATTENTION] & DESTROYED)

    def check(self) -> None:
        """Raise if there is nothing here any more."""
        if self.control[ATTENTION] & DESTROYED:
            raise DataStoreError(
                f"the queue {self.home.about.id} in {self.home.path} has been destroyed: "
                "make another"
            )

    # -- putting --

    def put_one(self, head: bytes, buffers: Sequence[Any]) -> bool:
        """As :meth:`alamo.data.store.QueueStore.put_one`."""
        if buffers or len(head) > _INLINE_MAX_BYTES or not self._is_plain:
            return self.put([(head, buffers)]) == 1
        environment = self.environment
        txn = None
        try:
            txn = environment.begin(None, None, True)
            words = environment.words
            if not words[LAST_PAGE] <= environment.small_last >= words[OTHER_LAST_PAGE]:
                environment.ensure(txn, 0)
            if self.control[ATTENTION]:
                # Whoever is woken waits for the lock, if it is up before the commit.
                names = self._attend(txn, 1)
                if names:
                    self.waiters.wake(names)
            txn.put(_key(txn.id()), head)
            txn.commit()
        except (lmdb.Error, NoRoom):
            if txn is not None:
                txn.abort()
                txn = None
            return self.put([(head, buffers)]) == 1
        except BaseException:
            if txn is not None:
                txn.abort()
            raise
        return True

    def put(self, messages: Sequence[Packed]) -> int:
        """As :meth:`alamo.data.store.QueueStore.put`."""
        count = 0
        while count < len(messages):
            part = _first_part(messages, count)
            if self.maxsize:
                if self._is_full():
                    break
                if any(buffers for _, buffers in part):  # put nothing aside that has no room
                    part = part[: max(self.maxsize - self.size(), 1)]
            put = self._put_part(part)
            count += put
            if put < len(part):
                break
        return count

    def _put_part(self, messages: Sequence[Packed]) -> int:
        """Put some messages as one, their buffers beforehand; returns how many."""
        while True:
            stored: list[_Stored] = []
            put = 0
            try:
                stored.extend(self._put_aside(head, buffers) for head, buffers in messages)
                pages = sum(len(record) * 2 // PAGE_BYTES for record, _ in stored)
                work = partial(self._put_in, stored=stored)
                put, names = self.environment.write(work, pages)
            except _Swept:
                continue
            finally:
                for _, reference in stored[put:]:
                    if reference is not None:
                        self.buffers.remove(reference)
            if names:
                self.waiters.wake(names)
            self.buffers.tidy()
            return put

    def _put_aside(self, head: bytes, buffers: Sequence[Any]) -> _Stored:
        """Store what of a message does not go into its record."""
        is_head_apart = len(head) >= _HEAD_MAX_BYTES
        if not (buffers or is_head_apart):
            return head, None
        if is_head_apart:
            buffers, head = (head, *buffers), b""
        shard = next(self._shards) % self.buffers.shards
        try:
            reference = self.buffers.store(shard, buffers, None)
        except QueueFullError:
            if not self.buffers.make_room():
                raise
            reference = self.buffers.store(shard, buffers, None)
        return Record(head, reference, is_head_apart).encode(), reference

    def _put_in(self, txn: Transaction, stored: list[_Stored]) -> tuple[int, Sequence[bytes]]:
        if self.maxsize:
            stored = stored[: max(self.maxsize - self._size_in(txn), 0)]
            if not stored:
                self._full_at = txn.id() - 1
                return 0, ()
            self._put_ns = monotonic_ns()
        key = _key(txn.id())
        changes: dict[int, int] = {}
        for index, (record, reference) in enumerate(stored):
            txn.put(key + _index(index) if index else key, record)
            if reference is not None:
                if not self.buffers.is_current(reference):
                    raise _Swept
                changes[reference.shard] = changes.get(reference.shard, 0) + reference.pieces
        self.buffers.count(changes)
        if self.joinable:
            txn.put(_UNFINISHED_KEY, _COUNT.pack(self._unfinished_in(txn) + len(stored)))
        names = self._attend(txn, len(stored)) if self.control[ATTENTION] else ()
        return len(stored), names

    def _attend(self, txn: Transaction, count: int) -> Sequence[bytes]:
        """What a producer must look at: whom to wake for so many messages."""
        self.check()
        if self.control[ATTENTION] & WAITERS and count:
            return self.waiters.take(txn, MESSAGES, count)
        return ()

    def _forget_the_dead(self, txn: Transaction) -> None:
        """A sweep begins: what consumers have not copied that are no more is nobody's."""
        for slot in range(SLOTS_MAX):
            if self.control[SLOTS + slot] and is_slot_free(self.home, slot):
                forget_copies(txn, slot)

    # -- looking --

    def size(self) -> int:
        """Messages that nobody has got."""
        for _ in range(_GLANCES_MAX):
            try:
                return self.environment.read(partial(self._size_in, is_snapshot=True))
            except _Overtaken:
                continue
        return self.environment.write(self._size_in, 0, is_removal=True)

    def _size_in(self, txn: Transaction, is_snapshot: bool = False) -> int:
        self.check()
        lease = lease_in(txn)
        handed_out = 0
        if lease is not None:
            seen = self.control[SLOTS + lease.slot]
            handed_out = lease.handed_out(seen)
            if is_snapshot and seen > leases.word(lease.generation + 1, 0):
                raise _Overtaken
        entries: int = txn.stat()["entries"]
        cursor = txn.cursor()
        if cursor.set_range(_FIRST_OTHER_KEY):
            entries -= sum(1 for _ in cursor.iternext(values=False))
        cursor.close()
        return entries - handed_out

    def stats(self) -> dict[str, Any]:
        """As :meth:`alamo.data.store.QueueStore.stats`."""
        environments = [self.environment, *self.buffers.environments()]
        used = sum(one.read(one.used_pages) for one in environments)
        allocated = sum(one.allocated_pages() for one in environments)
        return {
            "messages": self.size(),
            "unfinished": self.unfinished() if self.joinable else None,
            "bytes_used": used * PAGE_BYTES,
            "bytes_allocated": allocated * PAGE_BYTES,
            "bytes_limit": self.home.about.total_bytes
            or self.environment.limit_pages() * PAGE_BYTES,
        }

    # -- unfinished messages --

    def unfinished(self) -> int:
        """As :meth:`alamo.data.store.QueueStore.unfinished`."""
        return self.environment.read(self._unfinished_in)

    def _unfinished_in(self, txn: Transaction) -> int:
        self.check()
        found = txn.get(_UNFINISHED_KEY)
        return 0 if found is None else int(_COUNT.unpack(found)[0])

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

    # -- waiting --

    def watch_messages(self) -> AbstractContextManager[Watch]:
        """As :meth:`alamo.data.store.QueueStore.watch_messages`."""
        place = self.waiters.watch(MESSAGES)
        return BusyWatch(self.taker.is_empty, place) if self.taker.is_busy() else place

    def watch_room(self) -> AbstractContextManager[Watch]:
        """As :meth:`alamo.data.store.QueueStore.watch_room`."""
        place = self.waiters.watch(ROOM)
        is_busy = monotonic_ns() - self._put_ns < _BUSY_NS
        return BusyWatch(self._is_full, place) if is_busy else place

    def _is_full(self) -> bool:
        """Whether nothing can have been taken since there was no room."""
        return self.environment.is_newest(self._full_at)

    def watch_finished(self) -> AbstractContextManager[Watch]:
        """As :meth:`alamo.data.store.QueueStore.watch_finished`."""
        return self.waiters.watch(FINISHED)


def _first_part(messages: Sequence[Packed], start: int) -> Sequence[Packed]:
    """As many of the messages as are put in one go."""
    size = 0
    for at in range(start, min(start + _PUT_MAX, len(messages))):
        head, buffers = messages[at]
        size += len(head) + sum(map(len, buffers))
        if size > _PUT_MAX_BYTES and at > start:
            return messages[start:at]
    return messages[start : start + _PUT_MAX]
