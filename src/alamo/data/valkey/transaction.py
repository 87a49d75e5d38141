"""A transaction over Valkey or Redis: nobody waits, and what was read is checked at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from alamo.data.store import Entry, Packed, Seen
from alamo.data.valkey.commit import KEEP_TTL, Write, check_one_shard, commit
from alamo.data.valkey.records import has_ttl
from alamo.data.valkey.requests import Requests
from alamo.data.valkey.values import Values
from alamo.errors import DDictConflictError

__all__ = ["Transaction"]

#: Begins the token of what this transaction itself has put; no record begins so.
_OWN = b"\xff"


class Transaction:
    """What one thread has read and means to write.  Its methods are those of ``DictStore``.

    What it reads it remembers, so that it reads the same again; what it writes only it sees.
    Whoever iterates reads all keys that are there, but a key that comes meanwhile is no conflict.

    Args:
        look: reads from the store.
        entries: iterates over those in the store: key, kept, and what ``look`` would give.
    """

    def __init__(
        self,
        requests: Requests,
        values: Values,
        look: Callable[[bytes], Seen | None],
        entries: Callable[[], Iterator[tuple[bytes, bytes, Seen]]],
    ) -> None:
        self.depth = 0
        self._requests = requests
        self._values = values
        self._look = look
        self._entries = entries
        self._seen: dict[bytes, Seen | None] = {}
        self._writes: dict[bytes, Write] = {}
        self._removed: set[bytes] = set()
        self._versions = 0
        self._own_tokens: dict[bytes, bytes] = {}

    def commit(self) -> None:
        """Do it all.

        Raises:
            DDictConflictError: something it has read was changed meanwhile.
            DataStoreError: it is frozen, gone or full.
        """
        if not self._writes and len(self._seen) < 2:
            return
        checks = {key: b"" if seen is None else seen.token for key, seen in self._seen.items()}
        writes = list(self._writes.values())
        if not commit(self._requests, self._values, checks, writes):
            raise DDictConflictError(
                f"{self._requests.label}: somebody else has changed a key that this transaction "
                "had read; nothing is stored. Run the block again, it reads anew"
            )

    # -- one key --

    def look(self, key: bytes) -> Seen | None:
        write = self._writes.get(key)
        if write is not None:
            return None if write.value is None else Seen(write.value, self._own_tokens[key])
        if key not in self._seen:
            self._check(key)
            self._seen[key] = self._look(key)
        return self._seen[key]

    def get(self, key: bytes) -> Packed | None:
        seen = self.look(key)
        return None if seen is None else seen.value

    def contains(self, key: bytes) -> bool:
        return self.look(key) is not None

    def put(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> None:
        ttl = "" if ttl_s is None else ttl_ms(ttl_s)
        self._write(Write(key, kept, (head, _copied(buffers)), ttl, ttl_s is not None))

    def add(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> Packed | None:
        found = self.get(key)
        if found is None:
            self.put(key, kept, head, buffers, ttl_s)
        return found

    def delete(self, key: bytes) -> bool:
        return self.pop(key) is not None

    def pop(self, key: bytes) -> Packed | None:
        found = self.get(key)
        if found is not None:
            self._write(Write(key, b"", None, "", False))
        return found

    def swap(self, key: bytes, kept: bytes, token: bytes | None, value: Packed | None) -> bool:
        seen = self.look(key)
        if (None if seen is None else seen.token) != token:
            return False
        if value is None:
            self.pop(key)
        else:
            own = self._writes.get(key)
            if own is not None and own.value is not None:
                ttl, timed = own.ttl, own.has_ttl
            else:
                ttl, timed = KEEP_TTL, token is not None and has_ttl(token)
            head, buffers = value
            self._write(Write(key, kept, (head, _copied(buffers)), ttl, timed))
        return True

    # -- many keys --

    def put_many(self, entries: Iterable[Entry], ttl_s: float | None = None) -> None:
        for key, kept, (head, buffers) in entries:
            self.put(key, kept, head, buffers, ttl_s)

    def pop_any(self) -> Entry | None:
        for key, kept, _ in self.entries():
            value = self.pop(key)
            if value is not None:
                return Entry(key, kept, value)
        return None

    def count(self) -> int:
        return sum(1 for _ in self.entries())

    def clear(self) -> None:
        for key, _, _ in list(self.entries()):
            self.pop(key)

    def keys(self) -> Iterator[tuple[bytes, bytes]]:
        for key, kept, _ in self.entries():
            yield key, kept

    def entries(self) -> Iterator[Entry]:
        written = dict(self._writes)
        for key, kept, seen in self._entries():
            write = written.pop(key, None)
            if write is None:
                self._check(key)
                there = self._seen.setdefault(key, seen)
                if there is not None:
                    yield Entry(key, kept, there.value)
            elif write.value is not None:
                yield Entry(key, write.kept if write.is_new else kept, write.value)
        for write in written.values():
            if write.value is not None:
                yield Entry(write.key, write.kept, write.value)

    # -- inside --

    def _write(self, write: Write) -> None:
        key = write.key
        self._check(key)
        if write.value is None:
            self._removed.add(key)
        else:
            self._versions += 1
            self._own_tokens[key] = _OWN + b"%d" % self._versions
        old = self._writes.get(key)
        if old is not None and old.value is not None and write.value is not None:
            write = write._replace(kept=old.kept)  # the key that was put first stays
        self._writes[key] = write._replace(is_new=key in self._removed and write.value is not None)

    def _check(self, key: bytes) -> None:
        for other in self._writes or self._seen:
            check_one_shard(self._requests.buckets, other, key)
            return


def ttl_ms(ttl_s: float) -> str:
    """A time to live as the functions take it."""
    return str(max(1, round(ttl_s * 1000)))


def _copied(buffers: Sequence[Any]) -> Sequence[Any]:
    """Buffers as they are now; the user may write to his until the end of the block."""
    return tuple(bytes(buffer) for buffer in buffers)
