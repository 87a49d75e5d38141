"""A dictionary as this process has it open: what all its handles here share.

Operations on records run inside a write transaction and are small functions of it; `change` runs
one, in the thread's own transaction if it is inside a ``with transaction()``.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from threading import get_ident
from typing import Any, Final, TypeVar

from alamo.data.directories import gone
from alamo.data.home import Home
from alamo.data.lmdb import buffers as buffer_tables
from alamo.data.lmdb import waiters as waiter_tables
from alamo.data.lmdb.buffers import Buffers
from alamo.data.lmdb.control import ATTENTION, DESTROYED, EXPIRING, FROZEN, WAITERS
from alamo.data.lmdb.environment import Environment, Transaction
from alamo.data.lmdb.files import PAGE_BYTES
from alamo.data.lmdb.records import MARK, Record, Reference, parse, table_key
from alamo.data.lmdb.transaction import After, WriteTransaction
from alamo.data.lmdb.waiters import Waiters
from alamo.data.packing import APART_MIN_BYTES
from alamo.data.store import Packed
from alamo.errors import DDictFrozenError, DDictFullError

__all__ = ["OpenDict"]

#: The table of when entries are past their time: time -> keys.
_EXPIRIES: Final = "expiries"
_WHEN: Final = struct.Struct(">d")  # positive, so its bytes sort as the numbers do
_PURGED_MAX: Final = 1000
#: Heads from here on lie with the buffers, so that records stay small.
HEAD_MAX_BYTES: Final = APART_MIN_BYTES
_BATCH: Final = 1000
_BATCH_BYTES: Final = 4 << 20
#: The first key that is no table's name.
FIRST_KEY: Final = b"\x02"

_T = TypeVar("_T")


class OpenDict:
    """Records, buffers, waiters and transactions of one dictionary.

    Args:
        files: environments for buffers beside that of the records.

    Attributes:
        records: the environment of the records, which are in its main table.
        current: the transactions that threads of this process are inside, by thread.
    """

    def __init__(self, home: Home, files: int) -> None:
        self.home = home
        self.control = home.control
        tables = (waiter_tables.TABLE, _EXPIRIES)
        single = () if files else (buffer_tables.TABLE,)
        self.records = Environment(home, "records", 0, tables, DDictFullError, single)
        self.buffers = Buffers(home, self.records, files)
        self.waiters = Waiters(home, self.records)
        self.current: dict[int, WriteTransaction] = {}

    # -- as a part of its home --

    def close(self) -> None:
        """The last handle is closed."""
        self.records.close()
        self.waiters.close()

    def leave(self) -> None:
        """The interpreter ends."""
        self.records.leave()
        self.waiters.close()

    def after_fork(self) -> None:
        """In the child: threads other than this one are not here, nor are their transactions."""
        self.records.after_fork()
        self.buffers.after_fork()
        for thread in list(self.current):
            if thread != get_ident():
                del self.current[thread]

    # -- transactions --

    def inside(self) -> WriteTransaction | None:
        """The transaction that this thread is inside."""
        return self.current.get(get_ident()) if self.current else None

    def change(
        self,
        work: Callable[[Transaction, After], _T],
        pages: int = 0,
        is_removal: bool = False,
        is_upkeep: bool = False,
    ) -> _T:
        """Do some work on the records in a write transaction, and what follows from it.

        Args:
            work, pages, is_removal: as of :meth:`Environment.write`.
            is_upkeep: it changes nothing for users, so it may be done when they may not.
        """
        inside = self.inside()
        if inside is not None:
            after = inside.after

            def checked(txn: Transaction) -> _T:
                self._check(is_upkeep)
                return work(txn, after)

            return inside.do(self.records, checked, pages, is_removal)
        after = After()

        def attempt(txn: Transaction) -> _T:
            nonlocal after
            self._check(is_upkeep)
            after = After()
            found = work(txn, after)
            self.buffers.count(after.counts)
            return found

        result = self.records.write(attempt, pages, is_removal)
        self.finish(after)
        return result

    def commit(self, inside: WriteTransaction) -> None:
        """End a transaction of this thread, which is not in ``current`` any more."""
        self.buffers.count(inside.after.counts)
        inside.commit()
        self.finish(inside.after)

    def abort(self, inside: WriteTransaction) -> None:
        """Undo a transaction of this thread."""
        if inside.is_own and inside.after.names:  # they wait again
            self.control[ATTENTION] |= WAITERS
        inside.abort()

    def destroy(self) -> None:
        """Leave nothing, and have everybody know."""

        def destroy(txn: Transaction) -> list[bytes]:
            names = self.waiters.take_all(txn)
            self.control[ATTENTION] = DESTROYED
            return names

        self.waiters.wake(self.records.write(destroy, 0, is_removal=True))
        self.records.write(self.records.clear, 0, is_removal=True)

    def finish(self, after: After) -> None:
        """What a commit leaves to be done."""
        if after.names:
            self.waiters.wake(after.names)
        for reference in after.doomed:
            self.buffers.remove(reference)

    def _check(self, is_upkeep: bool) -> None:
        """Inside a write transaction: whether the dictionary may be changed."""
        attention = self.control[ATTENTION]
        if attention & DESTROYED:
            raise gone(self.home.path)
        if attention & FROZEN and not is_upkeep:
            raise DDictFrozenError(
                f"the DDict in {self.home.path} is frozen: unfreeze() allows changes again"
            )

    def look_up(self, key: bytes) -> Record | None:
        """The record of a key, as this thread's transaction has it if it is inside one."""
        return self.read(lambda txn: self.find(txn, key))

    def read(self, work: Callable[[Transaction], _T]) -> _T:
        """Do some work on the records, in the thread's transaction if it is inside one."""
        if self.control[ATTENTION] & DESTROYED:
            raise gone(self.home.path)
        inside = self.inside()
        return self.records.read(work) if inside is None else work(inside.of(self.records))

    def drop(self, reference: Reference) -> None:
        """Delete buffers that have got no record."""
        inside = self.inside()
        if inside is None:
            self.buffers.remove(reference)
        else:
            inside.after.doomed.append(reference)

    def take(
        self, choose: Callable[[Transaction, After], bytes | None]
    ) -> tuple[bytes, Record, Packed] | None:
        """Remove an entry; returns its key, its record and its value.

        Buffers are copied before their record goes: afterwards a sweep may be faster.

        Args:
            choose: gives the key, ``None`` for no entry.
        """
        seen: tuple[Record, Packed] | None = None

        def take(txn: Transaction, after: After) -> tuple[bytes, Record, bool] | None:
            key = choose(txn, after)
            record = None if key is None else self.find(txn, key)
            if key is None or record is None:
                return None
            may_go = record.reference is None or (seen is not None and seen[0] == record)
            if may_go:
                self.remove(txn, key, after)
            return key, record, may_go

        while True:
            taken = self.change(take, 0, is_removal=True)
            if taken is None:
                return None
            key, record, is_gone = taken
            if is_gone:
                return key, record, seen[1] if seen is not None else (record.head, ())
            value = self.value_of(record)
            seen = None if value is None else (record, value)

    # -- one record, inside a write transaction --

    def find(self, txn: Transaction, key: bytes) -> Record | None:
        """The record of a key, if it is there and not past its time."""
        found = txn.get(table_key(key))
        if found is None:
            return None
        record = parse(found)
        return record if self.is_valid(record, key) else None

    @staticmethod
    def is_valid(record: Record, key: bytes) -> bool:
        """Whether a record is that of the key, which may only have its hash, and has time left."""
        if record.expires_s and record.expires_s <= time.time():
            return False
        return not record.key or record.key == key

    def set(self, txn: Transaction, key: bytes, record: Record, after: After) -> None:
        """Store a record; the key that was kept first stays."""
        stored = table_key(key)
        if self.control[ATTENTION] & EXPIRING:
            self.purge(txn, after)
        if stored is not key:
            record = record._replace(key=key)
        found = txn.replace(stored, record.encode())
        if found is not None and found[0] >= MARK:
            old = parse(found)
            self.drop_parts(txn, stored, old, after)
            if old.kept != record.kept and self.is_valid(old, key):
                txn.put(stored, record._replace(kept=old.kept).encode())
        elif found is not None and record.kept:
            txn.put(stored, record._replace(kept=b"").encode())
        if record.reference is not None:
            after.count(record.reference, 1)
        if record.expires_s:
            txn.put(_WHEN.pack(record.expires_s), stored, db=self.records.tables[_EXPIRIES])
            self.control[ATTENTION] |= EXPIRING
        if self.control[ATTENTION] & WAITERS:
            after.names += self.waiters.take(txn, stored)

    def remove(self, txn: Transaction, key: bytes, after: After) -> Record | None:
        """Delete a record and return it; ``None``: it was not there."""
        stored = table_key(key)
        found = txn.pop(stored)
        if found is None:
            return None
        record = parse(found)
        self.drop_parts(txn, stored, record, after)
        if record.expires_s and record.expires_s <= time.time():
            return None
        return record

    def drop_parts(self, txn: Transaction, stored: bytes, old: Record, after: After) -> None:
        """What belongs to a record that ends."""
        if old.reference is not None:
            after.count(old.reference, -1)
            after.doomed.append(old.reference)
        if old.expires_s:
            txn.delete(_WHEN.pack(old.expires_s), stored, self.records.tables[_EXPIRIES])

    def purge(self, txn: Transaction, after: After) -> None:
        """Remove what is past its time."""
        table = self.records.tables[_EXPIRIES]
        now_s = time.time()
        cursor = txn.cursor(table)
        due: list[tuple[bytes, bytes]] = []
        for when, stored in cursor.iternext():
            if _WHEN.unpack(when)[0] > now_s or len(due) == _PURGED_MAX:
                break
            due.append((when, stored))
        cursor.close()
        for when, stored in due:
            found = txn.get(stored)
            txn.delete(when, stored, table)
            if found is not None:
                old = parse(found)
                if old.expires_s == _WHEN.unpack(when)[0]:
                    txn.delete(stored)
                    self.drop_parts(txn, stored, old, after)
        if not due and not txn.stat(table)["entries"]:
            self.control[ATTENTION] &= ~EXPIRING

    # -- values --

    def value_of(self, record: Record) -> Packed | None:
        """Copy a record's value out; ``None``: it has been replaced or removed meanwhile."""
        if record.reference is None:
            return record.head, ()
        kind = bytes if record.head == b"\x02" else bytearray
        loaded = self.buffers.load(record.reference, self.inside(), kind)
        if loaded is None:
            return None
        if record.is_head_apart:
            return bytes(loaded[0]), loaded[1:]
        return record.head, loaded

    def store_value(
        self, key: bytes, head: bytes, buffers: Sequence[Any]
    ) -> tuple[bytes, Reference | None, bool]:
        """Put aside what of a value does not go into its record."""
        is_head_apart = len(head) >= HEAD_MAX_BYTES
        if is_head_apart:
            buffers, head = (head, *buffers), b""
        if not buffers:
            return head, None, False
        shard = self.buffers.shard_of(key)
        try:
            reference = self.buffers.store(shard, buffers, self.inside())
        except DDictFullError:
            if self.inside() is not None or not self.buffers.make_room():
                raise
            reference = self.buffers.store(shard, buffers, None)
        return head, reference, is_head_apart

    # -- all records --

    def batches(self) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
        """All records in order, some at a time, each with the number of its transaction."""
        last = FIRST_KEY
        while last:
            number, items, last = self.read(lambda txn: _batch(txn, last))  # noqa: B023
            yield number, items

    def used_bytes(self) -> tuple[int, int]:
        """What entries take, and what the files take for them."""
        used = allocated = 0
        for environment in (self.records, *self.buffers.environments()):
            used += environment.read(environment.used_pages)
            allocated += environment.allocated_pages()
        return used * PAGE_BYTES, allocated * PAGE_BYTES

    def limit_bytes(self) -> int:
        """What the files may take together as things stand."""
        return self.records.limit_pages() * PAGE_BYTES

    def count(self, txn: Transaction) -> int:
        """How many records there are."""
        cursor = txn.cursor()
        tables, is_table = 0, cursor.first()
        while is_table and cursor.key() < FIRST_KEY:
            tables, is_table = tables + 1, cursor.next()
        cursor.close()
        return int(txn.stat()["entries"]) - tables


def _batch(txn: Transaction, start: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Some records, and the key to go on from, empty at the end."""
    cursor = txn.cursor()
    items: list[tuple[bytes, bytes]] = []
    size = 0
    following = b""
    if cursor.set_range(start):
        for key, record in cursor.iternext():
            if len(items) == _BATCH or size > _BATCH_BYTES:
                following = key
                break
            items.append((key, record))
            size += len(record)
    return txn.id(), items, following
