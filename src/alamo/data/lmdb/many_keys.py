"""What the embedded dictionary store does with many keys at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from alamo.data.lmdb.control import ATTENTION, EXPIRING
from alamo.data.lmdb.environment import Transaction
from alamo.data.lmdb.files import PAGE_BYTES
from alamo.data.lmdb.handle import Handle
from alamo.data.lmdb.open_dict import FIRST_KEY
from alamo.data.lmdb.records import MARK, Record, Reference, parse
from alamo.data.lmdb.transaction import After
from alamo.data.store import Entry

__all__ = ["ManyKeys"]


class ManyKeys(Handle):
    """Those methods of a dictionary store that are about many keys."""

    def put_many(self, entries: Iterable[Entry], ttl_s: float | None = None) -> None:
        entries = list(entries)  # what makes them may take its time
        if not entries:
            return
        expires_s = 0.0 if ttl_s is None else time.time() + ttl_s
        while not self._put_all(entries, expires_s):
            pass
        self._dict.buffers.tidy()

    def _put_all(self, entries: list[Entry], expires_s: float) -> bool:
        """``False``: buffers were swept away as nobody's before their records came."""
        records: list[tuple[bytes, Record]] = []
        references: list[Reference] = []
        is_stored = False

        def put(txn: Transaction, after: After) -> bool:
            if not all(map(self._dict.buffers.is_current, references)):
                return False
            for key, record in records:
                self._dict.set(txn, key, record, after)
            return True

        size = 0
        try:
            for key, kept, value in entries:
                head, reference, is_apart = self._dict.store_value(key, *value)
                if reference is not None:
                    references.append(reference)
                records.append((key, Record(head, reference, is_apart, kept, b"", expires_s)))
                size += len(key) + len(kept) + len(head) + 64
            pages = 2 * size // PAGE_BYTES + min(2 * len(records), self._records.last_page())
            is_stored = self._dict.change(put, pages)
        finally:
            if not is_stored:
                for reference in references:
                    self._dict.drop(reference)
        return is_stored

    def pop_any(self) -> Entry | None:
        taken = self._dict.take(self._any)
        if taken is None:
            return None
        key, record, value = taken
        return Entry(key, record.kept, value)

    def _any(self, txn: Transaction, after: After) -> bytes | None:
        self._dict.purge(txn, after)
        cursor = txn.cursor()
        if not cursor.set_range(FIRST_KEY):
            return None
        stored, found = cursor.item()
        cursor.close()
        return parse(found).key or bytes(stored)

    def count(self) -> int:
        self._purge()
        return self._dict.read(self._dict.count)

    def clear(self) -> None:
        self._dict.change(self._clear, 0, is_removal=True)

    def _clear(self, txn: Transaction, after: After) -> None:
        cursor = txn.cursor()
        cursor.set_range(FIRST_KEY)
        while cursor.key():
            record = cursor.value()
            if record[0] >= MARK:
                self._dict.drop_parts(txn, cursor.key(), parse(record), after)
            cursor.delete()
        cursor.close()

    def keys(self) -> Iterator[tuple[bytes, bytes]]:
        self._purge()
        for _, items in self._dict.batches():
            for stored, found in items:
                if found[0] < MARK:
                    yield stored, b""
                    continue
                record = parse(found)
                if self._dict.is_valid(record, record.key or stored):
                    yield record.key or stored, record.kept

    def entries(self) -> Iterator[Entry]:
        self._purge()
        is_newest, value_of = self._records.is_newest, self._dict.value_of
        for number, items in self._dict.batches():
            for stored, found in items:
                there = parse(found)
                key = there.key or stored
                record: Record | None = there if self._dict.is_valid(there, key) else None
                if not is_newest(number):
                    record = self._dict.look_up(key)
                while record is not None:
                    value = value_of(record)
                    if value is not None:
                        yield Entry(key, record.kept, value)
                        break
                    record = self._dict.look_up(key)

    def _purge(self) -> None:
        """Remove what is past its time, if there may be something."""
        if self._control[ATTENTION] & EXPIRING:
            self._dict.change(self._dict.purge, 0, is_removal=True, is_upkeep=True)
