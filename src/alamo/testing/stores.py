"""A DDict in the memory of this process, for tests of programs that use one."""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from alamo.data.checkpoints import read_checkpoint, write_checkpoint
from alamo.data.ddict import DDict
from alamo.data.store import DictStore, Entry, Packed, Seen
from alamo.deadlines import deadline_of, left_until
from alamo.errors import DataStoreError, DDictFrozenError, DDictFullError, UsageError

__all__ = ["MemoryDictStore", "memory_ddict"]


def memory_ddict(
    data: Any = (),
    /,
    *,
    wait_for_keys: bool = False,
    timeout: float | None = None,
    total_mem: int | None = None,
) -> DDict[Any, Any]:
    """Make a DDict that lies in this process and leaves nothing anywhere.

    For tests that run tasks in the calling thread (:class:`alamo.testing.InlineBatch`) or in
    threads.  It does all that a DDict does; values are pickled as they are between processes.
    Its pickle can be loaded in this process only.

    Args:
        data, wait_for_keys, timeout: as those of ``DDict``.
        total_mem: bytes of keys and values that it takes.

    Example:
        >>> from alamo.testing import InlineBatch, memory_ddict
        >>> d = memory_ddict({"x": 1})
        >>> with InlineBatch() as batch:
        ...     d["y"] = batch.function(d.get, "x", reads=batch.read(d, "x")).run() + 1
        >>> d["y"]
        2
    """
    deadline_of(timeout)  # complains of what is no timeout
    store = MemoryDictStore.make(total_mem)
    made: DDict[Any, Any] = DDict._over(store, None, wait_for_keys, timeout)
    made.update(data)
    return made


class _Record(NamedTuple):
    kept: bytes
    head: bytes
    buffers: tuple[bytes, ...]
    expires_s: float | None
    version: int

    @property
    def size(self) -> int:
        return len(self.kept) + len(self.head) + sum(map(len, self.buffers))

    def packed(self) -> Packed:
        return self.head, [bytearray(buffer) for buffer in self.buffers]


class _Shared:
    """What several handles of one dictionary have in common."""

    def __init__(self, total_mem: int | None) -> None:
        self.id = f"memory-{uuid.uuid4().hex[:12]}"
        self.limit = total_mem
        self.lock = threading.RLock()
        self.records: dict[bytes, _Record] = {}
        self.version = 0
        self.used = 0
        self.has_ttl = False
        self.frozen = False
        self.destroyed = False
        self.depth = 0
        self.put_in_transaction: list[bytes] = []
        self.waiting: dict[bytes, list[_KeyWatch]] = {}
        _by_id[self.id] = self


_by_id: weakref.WeakValueDictionary[str, _Shared] = weakref.WeakValueDictionary()


class _KeyWatch:
    """A thread's place in the line for a key."""

    def __init__(self) -> None:
        self._put = threading.Event()

    def wake(self) -> None:
        self._put.set()

    def wait(self, deadline_s: float | None) -> None:
        self._put.wait(left_until(deadline_s))
        self._put.clear()


class MemoryDictStore(DictStore):
    """The contract of a store as simply as it can be kept: a dict and a lock."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self.id = shared.id
        self.place = "the memory of this process"

    @classmethod
    def make(cls, total_mem: int | None = None) -> MemoryDictStore:
        """A new, empty one."""
        return cls(_Shared(total_mem))

    @classmethod
    def open(cls, id: str) -> MemoryDictStore:
        """The dictionary of this id, which this process must have."""
        shared = _by_id.get(id)
        if shared is None:
            raise DataStoreError(
                "a DDict of alamo.testing.memory_ddict() lives in the process that made it, as "
                "long as one of its handles does; use DDict() to share one between processes"
            )
        return cls(shared)

    # -- one key --

    def get(self, key: bytes) -> Packed | None:
        with self._open() as shared:
            record = shared.records.get(key)
            return None if record is None else record.packed()

    @contextmanager
    def borrow(self, key: bytes) -> Iterator[Packed | None]:
        with self._open() as shared:
            record = shared.records.get(key)
        yield None if record is None else (record.head, record.buffers)

    def contains(self, key: bytes) -> bool:
        with self._open() as shared:
            return key in shared.records

    def put(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> None:
        with self._changing():
            self._set([Entry(key, kept, (head, buffers))], _expiry(ttl_s))

    def add(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> Packed | None:
        with self._open() as shared:
            record = shared.records.get(key)
            if record is not None:
                return record.packed()
            self.put(key, kept, head, buffers, ttl_s)
            return None

    def delete(self, key: bytes) -> bool:
        with self._changing() as shared:
            record = shared.records.pop(key, None)
            if record is None:
                return False
            shared.used -= len(key) + record.size
            return True

    def pop(self, key: bytes) -> Packed | None:
        with self._changing():
            found = self.get(key)
            self.delete(key)
            return found

    def look(self, key: bytes) -> Seen | None:
        with self._open() as shared:
            record = shared.records.get(key)
            if record is None:
                return None
            return Seen(record.packed(), b"%d" % record.version)

    def swap(self, key: bytes, kept: bytes, token: bytes | None, value: Packed | None) -> bool:
        with self._changing() as shared:
            record = shared.records.get(key)
            if (None if record is None else b"%d" % record.version) != token:
                return False
            if value is None:
                self.delete(key)
            else:
                expires_s = None if record is None else record.expires_s
                self._set([Entry(key, kept, value)], expires_s)
            return True

    # -- many keys --

    def put_many(self, entries: Iterable[Entry], ttl_s: float | None = None) -> None:
        listed = list(entries)
        with self._changing():
            self._set(listed, _expiry(ttl_s))

    def pop_any(self) -> Entry | None:
        with self._changing() as shared:
            if not shared.records:
                return None
            key = next(reversed(shared.records))
            record = shared.records[key]
            self.delete(key)
            return Entry(key, record.kept, record.packed())

    def count(self) -> int:
        with self._open() as shared:
            return len(shared.records)

    def clear(self) -> None:
        with self._changing() as shared:
            shared.records.clear()
            shared.used = 0

    def keys(self) -> Iterator[tuple[bytes, bytes]]:
        for entry in self.entries():
            yield entry.key, entry.kept

    def entries(self) -> Iterator[Entry]:
        with self._open() as shared:
            keys = list(shared.records)
        for key in keys:
            with self._open() as shared:
                record = shared.records.get(key)
            if record is not None:
                yield Entry(key, record.kept, record.packed())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._open() as shared:
            before = (dict(shared.records), shared.used, shared.frozen)
            shared.depth += 1
            try:
                yield
            except BaseException:
                if shared.depth == 1:
                    shared.records, shared.used, shared.frozen = before
                raise
            finally:
                shared.depth -= 1
                if not shared.depth:
                    put, shared.put_in_transaction = shared.put_in_transaction, []
                    self._wake(put)

    # -- waiting --

    @contextmanager
    def watch(self, key: bytes) -> Iterator[_KeyWatch]:
        watch = _KeyWatch()
        with self._open() as shared:
            if shared.depth:  # this thread's: others cannot have the lock
                raise UsageError(
                    "a transaction waits for a key, which nobody can put before it ends: wait first"
                )
            shared.waiting.setdefault(key, []).append(watch)
        try:
            yield watch
        finally:
            with shared.lock:
                waiting = shared.waiting[key]
                waiting.remove(watch)
                if not waiting:
                    del shared.waiting[key]

    def _wake(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            for watch in self._shared.waiting.get(key, ()):
                watch.wake()

    # -- the whole --

    def freeze(self) -> None:
        with self._open() as shared:
            shared.frozen = True

    def unfreeze(self) -> None:
        with self._open() as shared:
            shared.frozen = False

    def is_frozen(self) -> bool:
        with self._open() as shared:
            return shared.frozen

    def shard_of(self, key: bytes) -> int:
        return 0

    def is_local(self, key: bytes) -> bool:
        return True

    def stats(self) -> dict[str, Any]:
        with self._open() as shared:
            return {"items": len(shared.records), "shards": 1, "bytes_used": shared.used}

    def checkpoint(self, path: str) -> None:
        with self.transaction():
            entries = list(self.entries())
        write_checkpoint(path, entries)

    def restore(self, path: str) -> None:
        self.put_many(read_checkpoint(path))

    def handle(self) -> tuple[Any, ...]:
        return "memory", self.id

    def sibling(self) -> MemoryDictStore:
        return self.make(self._shared.limit)

    def close(self) -> None:
        pass

    def destroy(self) -> None:
        with self._open() as shared:
            shared.records.clear()
            shared.destroyed = True

    # -- inside --

    @contextmanager
    def _open(self) -> Iterator[_Shared]:
        """The lock; what has outlived its time is gone."""
        shared = self._shared
        with shared.lock:
            if shared.destroyed:
                raise DataStoreError(f"the dictionary {self.id} was destroyed: make another")
            if shared.has_ttl:
                self._expire(shared)
            yield shared

    @contextmanager
    def _changing(self) -> Iterator[_Shared]:
        with self._open() as shared:
            if shared.frozen:
                raise DDictFrozenError(
                    f"the dictionary {self.id} is frozen: call unfreeze() before changing it"
                )
            yield shared

    def _expire(self, shared: _Shared) -> None:
        now_s = time.monotonic()
        for key, record in list(shared.records.items()):
            if record.expires_s is not None and record.expires_s <= now_s:
                del shared.records[key]
                shared.used -= len(key) + record.size
        shared.has_ttl = any(r.expires_s is not None for r in shared.records.values())

    def _set(self, entries: list[Entry], expires_s: float | None) -> None:
        """Store them all, or none."""
        shared = self._shared
        used = shared.used
        fresh: dict[bytes, _Record] = {}
        for key, kept, (head, buffers) in entries:
            old = fresh.get(key) or shared.records.get(key)
            shared.version += 1
            copies = tuple(bytes(buffer) for buffer in buffers)
            first_kept = kept if old is None else old.kept
            fresh[key] = new = _Record(first_kept, head, copies, expires_s, shared.version)
            used += new.size - (old.size if old is not None else -len(key))
        if shared.limit is not None and used > shared.limit:
            raise DDictFullError(
                f"the dictionary {self.id} would take {used} bytes, and total_mem= allows "
                f"{shared.limit}: delete keys, or give it more; nothing was stored"
            )
        shared.records.update(fresh)
        shared.used = used
        shared.has_ttl = shared.has_ttl or expires_s is not None
        if shared.depth:
            shared.put_in_transaction += fresh
        else:
            self._wake(fresh)


def _expiry(ttl_s: float | None) -> float | None:
    return None if ttl_s is None else time.monotonic() + ttl_s
