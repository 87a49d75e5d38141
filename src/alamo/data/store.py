"""What a DDict and a Queue ask of the store under them: bytes in, bytes out.

    DDict, Queue          the API of dict and multiprocessing.Queue; pickles and unpickles
    DictStore, QueueStore this contract
    lmdb/                 one machine: memory-mapped files in /dev/shm
    valkey/               many nodes: Valkey or Redis

A store never unpickles anything and never runs a user's code while it holds a lock.  Keys are
canonical encodings (:mod:`alamo.core.keys`) of any length.  A value is a ``Packed``.  Every
method is atomic across threads and processes, and every error is one of ``alamo.errors``.

Each DDict and Queue object has a store object of its own, made or opened by
:mod:`alamo.data.stores`; what several of one process can share (connections, environments) is
the store's to share.  A store object that is collected is closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

__all__ = ["DictStore", "Entry", "Packed", "QueueStore", "Seen", "Watch"]


#: A value in its stored form: (head, buffers); :mod:`alamo.data.packing` makes and reads it.
#: The head is bytes, a form byte and a payload, as a rule below 256 KiB.  The buffers are
#: the large pieces that stand apart from it: flat and bytes-like, so that ``len`` counts bytes.
#: Going in they may be read-only; what comes out is a copy that may be written to, except inside
#: ``borrow``.  A plain tuple, for it is made at every put and get.
Packed: TypeAlias = tuple[bytes, Sequence[Any]]


class Entry(NamedTuple):
    """One key and its value.

    ``kept`` is the pickled key that was first put, empty when ``decode(key)`` gives that very
    key.  A store keeps the ``kept`` of the put that made the entry and ignores later ones, as a
    dict does.
    """

    key: bytes
    kept: bytes
    value: Packed


class Seen(NamedTuple):
    """A value together with what tells whether it has been replaced since."""

    value: Packed
    token: bytes


class Watch(Protocol):
    """A waiter's place in the line: registered before it looks, so that it misses nothing."""

    def wait(self, deadline_s: float | None) -> None:
        """Return when what is watched may have changed since this was made or returned last.

        It may return early for no reason; the caller looks again.  A lost wake-up delays it by
        at most 0.5 s.  Returns at the deadline (``time.monotonic()``), with ``None`` never
        because of time.  Signals are handled as in any wait of Python.
        """


class DictStore(ABC):
    """A mapping of bytes to ``Packed`` values that processes share.

    Attributes:
        id: names this dictionary everywhere and for ever.
        place: where it lies, for messages: a directory or a URL without its password.
    """

    id: str
    place: str

    # -- one key --

    @abstractmethod
    def get(self, key: bytes) -> Packed | None:
        """Copy a value out."""

    @abstractmethod
    def borrow(self, key: bytes) -> AbstractContextManager[Packed | None]:
        """Read a value without copying it where the store can; its buffers are read-only and
        end with the block."""

    @abstractmethod
    def contains(self, key: bytes) -> bool:
        """Whether there is such a key."""

    @abstractmethod
    def put(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> None:
        """Store a value, replacing what was there.

        Args:
            ttl_s: seconds until the entry is gone by itself; ``None`` ends an earlier limit.

        Raises:
            DDictFullError: there is no room; nothing has changed.
            DDictFrozenError: the dictionary is frozen.
        """

    @abstractmethod
    def add(
        self,
        key: bytes,
        kept: bytes,
        head: bytes,
        buffers: Sequence[Any] = (),
        ttl_s: float | None = None,
    ) -> Packed | None:
        """Store a value unless the key is there; then return the value that is."""

    @abstractmethod
    def delete(self, key: bytes) -> bool:
        """Remove a key; ``False``: it was not there."""

    @abstractmethod
    def pop(self, key: bytes) -> Packed | None:
        """Remove a key and return its value."""

    @abstractmethod
    def look(self, key: bytes) -> Seen | None:
        """Read a value for a later ``swap``."""

    @abstractmethod
    def swap(
        self,
        key: bytes,
        kept: bytes,
        token: bytes | None,
        value: Packed | None,
    ) -> bool:
        """Store ``value`` (``None``: remove the key) if the key still holds what ``look`` saw
        (token ``None``: still is not there); ``False``: it does not, and nothing has changed.
        The entry's time to live stays as it is."""

    # -- many keys --

    @abstractmethod
    def put_many(self, entries: Iterable[Entry], ttl_s: float | None = None) -> None:
        """Store all of them or none; nobody sees a part.

        Raises:
            CrossShardError: they lie in several shards of a store that cannot do that.
        """

    def fill(self, entries: Iterable[Entry]) -> None:
        """Store entries in a dictionary that nobody uses yet, so it need not be as one."""
        self.put_many(entries)

    @abstractmethod
    def pop_any(self) -> Entry | None:
        """Remove any one entry and return it."""

    @abstractmethod
    def count(self) -> int:
        """How many keys there are."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all keys, as one."""

    @abstractmethod
    def keys(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over (key, kept): each key that is there throughout once; one that comes or
        goes meanwhile at most once.  Memory is bounded."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Iterate over the entries as ``keys`` does, each value as it is when it is reached."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All that this thread does inside is one; an exception undoes it.  May be nested: the
        outermost counts."""

    # -- waiting --

    @abstractmethod
    def watch(self, key: bytes) -> AbstractContextManager[Watch]:
        """Be woken when ``key`` is put.

        Raises:
            UsageError: inside a transaction of this thread, which keeps everybody from putting.
        """

    # -- the whole --

    @abstractmethod
    def freeze(self) -> None:
        """Refuse changes from every process from now on."""

    @abstractmethod
    def unfreeze(self) -> None:
        """Allow changes again."""

    @abstractmethod
    def is_frozen(self) -> bool:
        """Whether changes are refused."""

    @abstractmethod
    def shard_of(self, key: bytes) -> int:
        """In which part of the store a key lies, from 0."""

    @abstractmethod
    def is_local(self, key: bytes) -> bool:
        """Whether a key lies on this machine."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Figures about the store, by name; always ``items``, ``shards``, ``bytes_used``."""

    @abstractmethod
    def checkpoint(self, path: str) -> None:
        """Write all that is there at one instant into a file, while others write."""

    @abstractmethod
    def restore(self, path: str) -> None:
        """Fill this empty store from a file that ``checkpoint`` of any store wrote."""

    @abstractmethod
    def handle(self) -> Any:
        """What a pickled DDict carries, for :func:`alamo.data.stores.open_dict_store`: a tuple of
        plain values whose first is the kind of store there."""

    @abstractmethod
    def sibling(self) -> DictStore:
        """Make an empty one without a name where this one lies, under the same limits."""

    @abstractmethod
    def close(self) -> None:
        """This object is done with; others of this process over the same data go on.  May be
        called twice."""

    @abstractmethod
    def destroy(self) -> None:
        """Remove it for everybody."""


class QueueStore(ABC):
    """A first-in first-out line of ``Packed`` messages that processes share.

    Attributes:
        id: names this queue everywhere and for ever.
        place: where it lies, for messages.
        maxsize: how many messages it holds at most; 0: any number.
        joinable: whether unfinished messages are counted.
    """

    id: str
    place: str
    maxsize: int
    joinable: bool

    @abstractmethod
    def put(self, messages: Sequence[Packed]) -> int:
        """Append as many as there is room for, in order, as one; returns how many.

        Raises:
            QueueFullError: memory has run out; nothing has changed.
        """

    def put_one(self, head: bytes, buffers: Sequence[Any]) -> bool:
        """Append one message, which is what most programs do; ``False``: there is no room."""
        return self.put([(head, buffers)]) == 1

    @abstractmethod
    def take(self, limit: int) -> list[Packed]:
        """Remove at most ``limit`` from the front and return them; empty when there are none."""

    def take_one(self) -> Packed | None:
        """Remove the first message and return it; ``None`` when there is none."""
        taken = self.take(1)
        return taken[0] if taken else None

    @abstractmethod
    def size(self) -> int:
        """How many messages nobody has taken."""

    @abstractmethod
    def watch_messages(self) -> AbstractContextManager[Watch]:
        """Be woken when a message comes."""

    @abstractmethod
    def watch_room(self) -> AbstractContextManager[Watch]:
        """Be woken when there is room."""

    @abstractmethod
    def unfinished(self) -> int:
        """Of a joinable queue: messages put and not told done."""

    @abstractmethod
    def done(self, count: int) -> bool:
        """``count`` messages are done; ``False``: so many were not unfinished."""

    @abstractmethod
    def watch_finished(self) -> AbstractContextManager[Watch]:
        """Be woken when nothing is unfinished."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Figures about the store, by name; always ``messages``, ``bytes_used``."""

    @abstractmethod
    def handle(self) -> Any:
        """What a pickled Queue carries, as ``DictStore.handle``."""

    def let_go(self) -> None:  # noqa: B027  # most stores keep nothing
        """If this process has made the queue, it keeps it no longer than its objects are there."""

    @abstractmethod
    def close(self) -> None:
        """This object is done with, as ``DictStore.close``."""

    @abstractmethod
    def destroy(self) -> None:
        """Remove it for everybody."""
