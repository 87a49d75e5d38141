"""The embedded dictionary store: a handle of a dictionary in memory-mapped files.

``get`` and ``put`` of small values go straight to LMDB, and whatever is not plain about them (a
large value, a time to live, a waiter, a full file, a forked process) is left to `_put` and
`_get_again`, which do it all in the right order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import lmdb

from alamo.data.lmdb.borrowing import Borrow
from alamo.data.lmdb.control import ATTENTION
from alamo.data.lmdb.environment import Transaction
from alamo.data.lmdb.files import (
    EVEN_TRANSACTION,
    LAST_PAGE,
    OTHER_LAST_PAGE,
    PAGE_BYTES,
    WAKE_MASK,
)
from alamo.data.lmdb.many_keys import ManyKeys
from alamo.data.lmdb.open_dict import HEAD_MAX_BYTES
from alamo.data.lmdb.records import KEY_MAX_BYTES, MARK, Record, parse
from alamo.data.lmdb.transaction import After
from alamo.data.store import Packed, Seen

__all__ = ["EmbeddedDictStore"]

_T = TypeVar("_T")


class EmbeddedDictStore(ManyKeys):
    """One handle of a dictionary on this machine; see :class:`alamo.data.store.DictStore`."""

    # -- one key --

    def get(self, key: bytes) -> Packed | None:
        if not self._current:
            try:
                record = self._records.begin().get(key)
            except lmdb.Error:
                pass
            else:
                if record is not None and record[0] < MARK:
                    return record, ()
                is_short = len(key) <= KEY_MAX_BYTES
                if record is None and is_short and not self._control[ATTENTION]:
                    return None
        return self._get_again(key)

    def _get_again(self, key: bytes) -> Packed | None:
        """Do it with all that may be about a record."""
        while True:
            record = self._dict.look_up(key)
            if record is None:
                return None
            value = self._dict.value_of(record)
            if value is not None:
                return value

    def borrow(self, key: bytes) -> AbstractContextManager[Packed | None]:
        return Borrow(self._dict, key)

    def contains(self, key: bytes) -> bool:
        return self._dict.look_up(key) is not None

    def put(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> None:
        if not (
            kept or buffers or self._current or ttl_s is not None or len(head) >= HEAD_MAX_BYTES
        ):
            records = self._records
            txn = None
            try:
                txn = records.begin(None, None, True)
                words = records.words
                last = records.small_last
                if not (
                    self._control[ATTENTION]
                    or words[LAST_PAGE] > last
                    or words[OTHER_LAST_PAGE] > last
                ):
                    old = txn.replace(key, head)
                    if old is None or old[0] < MARK:
                        txn.commit()
                        if not words[EVEN_TRANSACTION] & WAKE_MASK:
                            records.wake_writer()
                        return
                txn.abort()
            except lmdb.Error:
                if txn is not None:
                    txn.abort()
            except BaseException:
                if txn is not None:
                    txn.abort()
                raise
            txn = None  # the binding does not close under a transaction that is left
        self._put(key, kept, head, buffers, ttl_s)

    def _put(
        self, key: bytes, kept: bytes, head: bytes, buffers: Sequence[Any], ttl_s: float | None
    ) -> None:
        """Do it with all that may be about an entry."""

        def put(txn: Transaction, record: Record, after: After) -> bool:
            self._dict.set(txn, key, record, after)
            return True

        self._store(key, kept, (head, buffers), _expiry(ttl_s), put)

    def _store(
        self,
        key: bytes,
        kept: bytes,
        value: Packed,
        expires_s: float,
        put: Callable[[Transaction, Record, After], _T],
    ) -> _T:
        """Put the buffers of a value aside, then its record by ``put``, which tells with a true
        value that it has done so."""
        while True:
            is_done, result = self._store_once(key, kept, value, expires_s, put)
            if is_done:
                self._dict.buffers.tidy()
                return result  # type: ignore[return-value]

    def _store_once(
        self,
        key: bytes,
        kept: bytes,
        value: Packed,
        expires_s: float,
        put: Callable[[Transaction, Record, After], _T],
    ) -> tuple[bool, _T | None]:
        """``False``: the buffers were swept away as nobody's before their record came."""
        head, reference, is_apart = self._dict.store_value(key, *value)
        record = Record(head, reference, is_apart, kept, b"", expires_s)
        is_late = is_stored = False

        def work(txn: Transaction, after: After) -> _T | None:
            nonlocal is_late, is_stored
            is_late = reference is not None and not self._dict.buffers.is_current(reference)
            if is_late:
                return None
            result = put(txn, record, after)
            is_stored = bool(result)
            return result

        pages = (len(head) + len(kept) + len(key)) // PAGE_BYTES
        try:
            result = self._dict.change(work, pages)
        except BaseException:
            is_stored = False
            raise
        finally:
            if reference is not None and not is_stored:
                self._dict.drop(reference)
        return not is_late, result

    def add(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> Packed | None:
        expires_s = _expiry(ttl_s)

        def put(txn: Transaction, record: Record, after: After) -> bool:
            if self._dict.find(txn, key) is not None:
                return False
            self._dict.set(txn, key, record, after)
            return True

        while True:
            found = self.get(key)
            if found is not None:
                return found
            if self._store(key, kept, (head, buffers), expires_s, put):
                return None

    def delete(self, key: bytes) -> bool:
        def delete(txn: Transaction, after: After) -> bool:
            return self._dict.remove(txn, key, after) is not None

        return self._dict.change(delete, 0, is_removal=True)

    def pop(self, key: bytes) -> Packed | None:
        taken = self._dict.take(lambda txn, after: key)
        return None if taken is None else taken[2]

    def look(self, key: bytes) -> Seen | None:
        while True:
            record = self._dict.look_up(key)
            if record is None:
                return None
            value = self._dict.value_of(record)
            if value is not None:
                return Seen(value, record.encode())

    def swap(self, key: bytes, kept: bytes, token: bytes | None, value: Packed | None) -> bool:
        def is_same(txn: Transaction) -> bool:
            found = self._dict.find(txn, key)
            return (None if found is None else found.encode()) == token

        if value is None:

            def remove(txn: Transaction, after: After) -> bool:
                return is_same(txn) and self._dict.remove(txn, key, after) is not None

            return self._dict.change(remove, 0, is_removal=True)

        def put(txn: Transaction, record: Record, after: After) -> bool:
            if not is_same(txn):
                return False
            self._dict.set(txn, key, record, after)
            return True

        expires_s = parse(token).expires_s if token else 0.0
        return self._store(key, kept, value, expires_s, put)


def _expiry(ttl_s: float | None) -> float:
    return 0.0 if ttl_s is None else time.time() + ttl_s
