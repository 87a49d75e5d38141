"""A dictionary over Valkey or Redis."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import get_ident
from typing import Any

from alamo.data.checkpoints import read_checkpoint, write_checkpoint
from alamo.data.store import DictStore, Entry, Packed, Seen
from alamo.data.valkey.address import Address
from alamo.data.valkey.buckets import Names
from alamo.data.valkey.commit import KEEP_TTL, Write, commit
from alamo.data.valkey.failures import Refusal
from alamo.data.valkey.functions import function
from alamo.data.valkey.life import Life, refuse_limit
from alamo.data.valkey.nodes import is_here
from alamo.data.valkey.records import has_ttl, is_plain, token_of
from alamo.data.valkey.requests import Requests
from alamo.data.valkey.servers import Servers
from alamo.data.valkey.transaction import Transaction, ttl_ms
from alamo.data.valkey.values import Values
from alamo.data.valkey.watches import KeyWatch, subscribed
from alamo.errors import DDictFrozenError, DDictFullError, UsageError

__all__ = ["ValkeyDictStore"]

_PUT = function("put")
_ADD = function("add")
_DELETE = function("delete")
_POP = function("pop")
_POP_ANY = function("pop_any")
_ALIVE = function("alive")
_COUNT = function("count")
_LIST = function("list")
_READ = function("read")
_CLEAR = function("clear")
_FREEZE = function("freeze")
_ANNOUNCE = function("announce")
_USAGE = function("usage")

#: More buckets spread better over shards; each is a round trip, or a part of one, of what looks
#: at all keys.
_BUCKETS = 16
_BUCKETS_OF_CLUSTER = 64
#: Entries are read so many, and about so many bytes, at once.
_PAGE = 1000
_PAGE_BYTES = 8 << 20


class ValkeyDictStore(DictStore):
    """A dictionary of buckets, each in one slot.

    Small values cost a round trip for each operation.  On a cluster what is said to be done as
    one holds for the keys of one bucket, which keys with a common tag in braces share; ``clear``,
    ``freeze`` and the iterators go from bucket to bucket.
    """

    def __init__(self, servers: Servers, life: Life) -> None:
        self.id = life.id
        self.place = servers.address.place
        self._servers = servers
        self._life = life
        self._buckets = life.buckets
        self._requests = Requests(self._buckets, f"the dictionary {self.id}", DDictFullError)
        self._values = Values(self._requests)
        self._transactions: dict[int, Transaction] = {}
        self._popped = 0
        self._finalizer = weakref.finalize(self, life.close)

    @classmethod
    def make(
        cls, url: str, name: str | None = None, total_mem: int | None = None
    ) -> ValkeyDictStore:
        """Make a dictionary, or open the one of that name.

        Raises:
            UsageError: the URL is none, or ``total_mem`` is given.
            DataStoreError: no server can be reached there.
        """
        refuse_limit(total_mem)
        servers = Servers.of(Address.parse(url))
        count = _BUCKETS_OF_CLUSTER if servers.is_cluster else _BUCKETS
        return cls(servers, Life.make(servers, "ddict", name, {"buckets": str(count)}))

    @classmethod
    def open(cls, url: str, id: str) -> ValkeyDictStore:
        """Open the dictionary of a handle.

        Raises:
            DataStoreError: it is no more, or no server can be reached.
        """
        servers = Servers.of(Address.parse(url))
        return cls(servers, Life(servers, id, "ddict"))

    # -- one key --

    def get(self, key: bytes) -> Packed | None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.get(key)
        names = self._buckets.of(key)
        base = names[0]
        record = self._servers.call(base, b"HGET", base, key)
        if record is None:
            self._absent(names)
            return None
        if record[0] != 0xF1:
            return record, ()
        return self._values.read(names, key, record)

    @contextmanager
    def borrow(self, key: bytes) -> Iterator[Packed | None]:
        found = self.get(key)
        if found is not None:
            head, buffers = found
            found = head, [memoryview(buffer).toreadonly() for buffer in buffers]
        yield found

    def contains(self, key: bytes) -> bool:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.contains(key)
        names = self._buckets.of(key)
        there = self._requests.call(names, _ALIVE, key)
        if not there:
            self._absent(names)
        return bool(there)

    def put(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            mine.put(key, kept, head, buffers, ttl_s)
            return
        names = self._buckets.of(key)
        if ttl_s is None and not kept and is_plain(head, buffers):
            self._requests.change(names, _PUT, key, head, again=True)
        else:
            self._store(names, _PUT, key, kept, (head, buffers), ttl_s, again=True)

    def add(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> Packed | None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.add(key, kept, head, buffers, ttl_s)
        names = self._buckets.of(key)
        while True:
            found = self._store(names, _ADD, key, kept, (head, buffers), ttl_s)
            if found is None:
                return None
            value = self._values.read(names, key, found)
            if value is not None:
                return value

    def delete(self, key: bytes) -> bool:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.delete(key)
        return bool(self._requests.change(self._buckets.of(key), _DELETE, key))

    def pop(self, key: bytes) -> Packed | None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.pop(key)
        names = self._buckets.of(key)
        record = self._requests.change(names, _POP, key)
        return None if record is None else self._values.taken(names[0], record)

    def look(self, key: bytes) -> Seen | None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.look(key)
        return self._look(key)

    def _look(self, key: bytes) -> Seen | None:
        names = self._buckets.of(key)
        record = self._servers.call(names[0], b"HGET", names[0], key)
        if record is None:
            self._absent(names)
            return None
        value = self._values.read(names, key, record)
        return None if value is None else Seen(value, token_of(record))

    def swap(self, key: bytes, kept: bytes, token: bytes | None, value: Packed | None) -> bool:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.swap(key, kept, token, value)
        timed = token is not None and has_ttl(token)
        writes = [Write(key, kept, value, KEEP_TTL, timed)]
        return commit(self._requests, self._values, {key: token or b""}, writes)

    # -- many keys --

    def put_many(self, entries: Iterable[Entry], ttl_s: float | None = None) -> None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            mine.put_many(entries, ttl_s)
            return
        ttl = "" if ttl_s is None else ttl_ms(ttl_s)
        writes = [Write(*entry, ttl, ttl_s is not None) for entry in entries]
        if writes:
            commit(self._requests, self._values, {}, writes, again=True)

    def fill(self, entries: Iterable[Entry]) -> None:
        """Put entries bucket by bucket, some thousand at once; not as one."""
        entries = iter(entries)
        while page := list(islice(entries, _PAGE)):
            groups: dict[int, list[Entry]] = {}
            for entry in page:
                groups.setdefault(self._buckets.number_of(entry.key), []).append(entry)
            for group in groups.values():
                self.put_many(group)

    def pop_any(self) -> Entry | None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.pop_any()
        names = self._buckets.names
        found = self._requests.change(names[self._popped], _POP_ANY)
        if found is None and not self._servers.is_cluster:
            found = self._requests.change([name for bucket in names for name in bucket], _POP_ANY)
        elif found is None:
            others = (self._requests.change(bucket, _POP_ANY) for bucket in names)
            found = next((other for other in others if other is not None), None)
        if found is None:
            return None
        key, kept, record = found
        self._popped = self._buckets.number_of(key)
        return Entry(key, kept, self._values.taken(names[self._popped][0], record))

    def count(self) -> int:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            return mine.count()
        return sum(self._requests.call_all(_COUNT))

    def clear(self) -> None:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            mine.clear()
            return
        self._requests.call_all(_CLEAR)

    def keys(self) -> Iterator[tuple[bytes, bytes]]:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            yield from mine.keys()
            return
        for names in self._buckets.names:
            keys, kept = self._list(names)
            for key in keys:
                yield key, kept.get(key, b"")

    def entries(self) -> Iterator[Entry]:
        if self._transactions and (mine := self._transactions.get(get_ident())):
            yield from mine.entries()
            return
        yield from self._entries()

    def _entries(self) -> Iterator[Entry]:
        for key, kept, seen in self._seen_entries():
            yield Entry(key, kept, seen.value)

    def _seen_entries(self) -> Iterator[tuple[bytes, bytes, Seen]]:
        for names in self._buckets.names:
            keys, kept = self._list(names)
            while keys:
                records = self._requests.call(names, _READ, _PAGE_BYTES, *keys[:_PAGE])
                for key, record in zip(keys, records):
                    value = self._values.read(names, key, record)
                    if value is not None:
                        yield key, kept.get(key, b""), Seen(value, token_of(record))
                keys = keys[len(records) :]

    def _list(self, names: Names) -> tuple[list[bytes], dict[bytes, bytes]]:
        """The keys of a bucket at one instant, and the kept ones among them."""
        keys, kept = self._requests.call(names, _LIST)
        return keys, dict(zip(kept[::2], kept[1::2]))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        ident = get_ident()
        mine = self._transactions.get(ident)
        if mine is None:
            mine = Transaction(self._requests, self._values, self._look, self._seen_entries)
            self._transactions[ident] = mine
        mine.depth += 1
        try:
            yield
        except BaseException:
            self._leave(mine, ident)
            raise
        if self._leave(mine, ident):
            mine.commit()

    def _leave(self, mine: Transaction, ident: int) -> bool:
        """One level of a transaction has ended; whether it was the outermost."""
        mine.depth -= 1
        if mine.depth:
            return False
        del self._transactions[ident]
        return True

    # -- waiting --

    @contextmanager
    def watch(self, key: bytes) -> Iterator[KeyWatch]:
        if get_ident() in self._transactions:
            raise UsageError("a transaction reads what was there when it began: wait before it")
        names = self._buckets.of(key)
        with subscribed(self._servers, names[0], names[0] + b":" + key) as subscription:
            yield KeyWatch(subscription, lambda: self._requests.call(names, _ANNOUNCE))

    # -- the whole --

    def freeze(self) -> None:
        self._requests.call_all(_FREEZE, "frozen")

    def unfreeze(self) -> None:
        self._requests.call_all(_FREEZE, "")

    def is_frozen(self) -> bool:
        base, state, *_ = self._buckets.names[0]
        return bool(self._servers.call(base, b"GET", state) == b"frozen")

    def shard_of(self, key: bytes) -> int:
        return self._servers.nodes().index(self._servers.node_of(self._buckets.of(key)[0]))

    def is_local(self, key: bytes) -> bool:
        return is_here(self._servers.node_of(self._buckets.of(key)[0]).host)

    def stats(self) -> dict[str, Any]:
        return {
            "items": self.count(),
            "shards": len(self._servers.nodes()),
            "bytes_used": sum(self._requests.call_all(_USAGE)),
            "buckets": len(self._buckets.names),
            "place": self.place,
        }

    def checkpoint(self, path: str) -> None:
        """Write the keys of each bucket at one instant, with values as they are when they are
        reached; what is changed meanwhile may be there in part.  For one instant of the whole
        freeze the dictionary first."""
        write_checkpoint(path, self._entries())

    def restore(self, path: str) -> None:
        self.fill(read_checkpoint(path))

    def handle(self) -> tuple[Any, ...]:
        return "valkey", self._servers.address.url, self.id

    def sibling(self) -> ValkeyDictStore:
        return self.make(self._servers.address.url)

    def close(self) -> None:
        self._finalizer()

    def destroy(self) -> None:
        self._life.destroy()

    # -- inside --

    def _store(
        self,
        names: Names,
        function: bytes,
        key: bytes,
        kept: bytes,
        value: Packed,
        ttl_s: float | None,
        again: bool = False,
    ) -> Any:
        """Store any kind of value by a function that takes one."""
        ttl = "" if ttl_s is None else ttl_ms(ttl_s)
        written = self._values.write(names[0], value, ttl_s is not None)
        arguments = (key, kept, ttl, written.parts, written.record)
        try:
            found = self._requests.change(names, function, *arguments, again=again)
        except (DDictFullError, DDictFrozenError):
            self._values.discard([(names[0], written)])
            raise
        if function is _ADD and found is not None:
            self._values.discard([(names[0], written)])
        return found

    def _absent(self, names: Names) -> None:
        """A key was not there: then look whether the dictionary is.

        Raises:
            DataStoreError: it was destroyed.
        """
        if self._servers.call(names[0], b"GET", names[1]) == b"gone":
            raise self._requests.error_of(Refusal("ALAMOGONE", ""))
