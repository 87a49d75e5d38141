"""DDict: a dictionary that processes share."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from alamo.core.key_channel import KeyChannel, channel_of
from alamo.core.keys import encode
from alamo.data import display
from alamo.data.atomic import AtomicMapping
from alamo.data.closed import Closed
from alamo.data.mapping import K, V
from alamo.data.marks import Mark
from alamo.data.packing import lend
from alamo.data.store import DictStore
from alamo.data.stores import make_dict_store, open_dict_store
from alamo.data.views import equal
from alamo.data.waiting import deadline_of, wait_until
from alamo.errors import DDictTimeoutError, UsageError

__all__ = ["DDict"]


class DDict(AtomicMapping[K, V]):
    """A dictionary in shared memory, or over many nodes, that any number of processes use at once.

    It does what a dict does, with these differences.  Values are pickled: ``d[k]`` gives a copy,
    so a change of it is stored by ``d[k] = changed``.  Keys are equal when they are in a dict, and
    are of the types that :func:`alamo.register_key_encoder` tells of; they come back as they were
    first put.  The order of insertion is not kept, and there is no ``reversed``.  What comes or
    goes during an iteration may be met by it or not; all else is met once, and there is no error.
    Each method is atomic across threads and processes; :meth:`transaction` makes one of several.

    The object is a handle.  It can be pickled into any process of the same user, also as an
    argument of a task and as a value of another DDict, and is inherited by forked processes.
    The data live until the process that made it has ended or closed it and nobody has it open;
    what is left by killed processes is removed when the next one is made.

    Args:
        data: a mapping or pairs to begin with.
        name: opens the dictionary of that name, or makes it.
        wait_for_keys: ``d[k]`` waits until there is such a key.  Nothing else does: not ``get``,
            ``in``, ``pop`` or ``del``.
        timeout: seconds after which a wait raises ``DDictTimeoutError``; ``None``: never.
        total_mem: bytes that it may take, or a text such as "4 GiB"; ``None``: what there is.
        directory: where it lies; by default ``ALAMO_DATA_DIR`` if that is set, else /dev/shm.
        url: of a Valkey or Redis server, alone or of a cluster: "valkey://host:port".

    Raises:
        DataStoreError: it cannot be made there.

    Cost: 2 us a put and 1.5 us a get of small values on one machine; large arrays are copied
    once, to or from shared memory.

    Example:
        >>> with DDict({"a": 1}) as d:
        ...     d["b"] = [2, 3]
        ...     d.fetch_add("count", 5), sorted(d), d.get("c", 0), dict(d)["b"]
        (0, ['a', 'b', 'count'], 0, [2, 3])
    """

    __slots__ = ("__weakref__", "_name", "_timeout", "_waits")

    def __init__(
        self,
        data: Mapping[K, V] | Iterable[tuple[K, V]] = (),
        /,
        *,
        name: str | None = None,
        wait_for_keys: bool = False,
        timeout: float | None = None,
        total_mem: int | str | None = None,
        directory: str | os.PathLike[str] | None = None,
        url: str | None = None,
    ) -> None:
        deadline_of(timeout)  # complains of what is no timeout
        store = make_dict_store(name=name, directory=directory, url=url, total_mem=total_mem)
        self._start(store, name, wait_for_keys, timeout)
        if name is None:
            self._fill(data)
        else:
            self.update(data)

    def _start(
        self, store: DictStore, name: str | None, wait_for_keys: bool, timeout: float | None
    ) -> Self:
        self._bind(store)
        self._name = name
        self._waits = wait_for_keys
        self._timeout = timeout
        return self

    @classmethod
    def _over(
        cls,
        store: DictStore,
        name: str | None = None,
        wait_for_keys: bool = False,
        timeout: float | None = None,
    ) -> Self:
        """A dictionary over a store that is there, without calling ``__init__``."""
        return cls.__new__(cls)._start(store, name, wait_for_keys, timeout)

    def _sibling(self) -> Self:
        return self._over(self._store.sibling(), None, self._waits, self._timeout)

    # -- reading in place --

    @contextmanager
    def borrow(self, key: K) -> Iterator[V]:
        """Read a value in place: its large arrays are not copied, and are read-only.

        They must not be used after the block, nor kept: their memory is somebody else's then.
        ``bytes`` of 256 KiB and more come as a memoryview.  A long block keeps the space of
        what is overwritten meanwhile, by all processes, from being used again.

        Raises:
            KeyError: there is no such key.

        Example:
            >>> with DDict({"text": b"x" * 100_000}) as d, d.borrow("text") as view:
            ...     len(view)
            100000
        """
        with self._store.borrow(encode(key)) as found:
            if found is None:
                raise KeyError(key)
            try:
                value = lend(*found)
            except Exception as error:
                raise self._unreadable(key, found, error) from error
            yield value

    # -- waiting --

    def wait_for(self, key: K, value: Any = Mark.ANY, timeout: Any = Mark.OWN) -> V:
        """Wait until there is a key, and return its value.

        Args:
            value: wait until its value is equal to this.
            timeout: seconds, ``None`` for no limit; by default the dictionary's own ``timeout``.

        Raises:
            DDictTimeoutError: the time is over.

        Cost: a waiter takes no CPU, and is woken in some 100 us.  In a task it lends its slot.
        """
        timeout_s = self._timeout if timeout is Mark.OWN else timeout
        deadline_s = deadline_of(timeout_s)
        encoded = encode(key)
        get = self._store.get

        def look() -> tuple[V] | None:
            found = get(encoded)
            if found is None:
                return None
            there = self._unpacked(key, found)
            return (there,) if value is Mark.ANY or equal(there, value) else None

        seen = look()
        if seen is None:
            with self._store.watch(encoded) as watch:
                seen = wait_until(watch, look, deadline_s)
        if seen is None:
            wanted = "" if value is Mark.ANY else f" with the value {reprlib.repr(value)}"
            raise DDictTimeoutError(
                f"nobody has put the key {reprlib.repr(key)}{wanted} into {self._label()} within "
                f"{timeout_s} s. Is its writer running, and does it write this very key?"
            )
        return seen[0]

    def _absent(self, key: K, encoded: bytes) -> V:
        if self._waits:
            return self.wait_for(key)
        missing = getattr(type(self), "__missing__", None)
        if missing is not None:
            given: V = missing(self, key)
            return given
        raise KeyError(key)

    # -- the whole --

    def freeze(self) -> None:
        """Refuse changes by every process, with ``DDictFrozenError``, until ``unfreeze``."""
        self._store.freeze()

    def unfreeze(self) -> None:
        """Allow changes again."""
        self._store.unfreeze()

    def is_frozen(self) -> bool:
        """Whether changes are refused."""
        return self._store.is_frozen()

    def stats(self) -> dict[str, Any]:
        """Figures by name, among them ``items``, ``shards`` and ``bytes_used``."""
        return self._store.stats()

    def which_shard(self, key: K) -> int:
        """In which part of the dictionary a key lies, or would, from 0."""
        return self._store.shard_of(encode(key))

    def local_keys(self) -> Iterator[K]:
        """Iterate over the keys that lie on this machine."""
        for encoded, kept in self._store.keys():  # noqa: SIM118
            if self._store.is_local(encoded):
                yield self._key(encoded, kept)

    def local_items(self) -> Iterator[tuple[K, V]]:
        """Iterate over the entries that lie on this machine."""
        for encoded, kept, value in self._store.entries():
            if self._store.is_local(encoded):
                key = self._key(encoded, kept)
                yield key, self._unpacked(key, value)

    def local_len(self) -> int:
        """How many keys lie on this machine.  Cost: it looks at all."""
        keys = self._store.keys()
        return sum(self._store.is_local(encoded) for encoded, _ in keys)

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write all that is there at one instant into a file, while others go on writing.

        The file is there whole or not at all, and may be restored on any kind of store.  Times to
        live are not in it.
        """
        self._store.checkpoint(os.path.abspath(path))

    @classmethod
    def restore(cls, path: str | os.PathLike[str], /, **options: Any) -> Self:
        """Make a dictionary that holds what ``checkpoint`` has written.

        Args:
            options: as those of ``DDict``; the dictionary of a ``name`` must be empty.

        Raises:
            UsageError: the dictionary of that name holds something.
            OSError: the file cannot be read.
            DDictError: it is no checkpoint.
        """
        made = cls(**options)
        if len(made):
            made.close()
            raise UsageError(f"{made._label()} holds something already: restore into another")
        try:
            made._store.restore(os.path.abspath(path))
        except BaseException:
            made.clear()  # one with a name may stay
            made.close()
            raise
        return made

    # -- the handle --

    @property
    def name(self) -> str | None:
        """The name that it was opened by, if any."""
        return self._name

    @property
    def timeout(self) -> float | None:
        """Seconds that waits of this handle may take."""
        return self._timeout

    @property
    def wait_for_keys(self) -> bool:
        """Whether ``d[k]`` of this handle waits for the key."""
        return self._waits

    def close(self) -> None:
        """This handle is done with; other handles go on.  A second call does nothing."""
        self._end("closed")

    def destroy(self) -> None:
        """Remove the dictionary for everybody: other handles then raise ``DataStoreError``."""
        self._store.destroy()
        self._end("destroyed")

    def _end(self, why: str) -> None:
        store = self._store
        if not isinstance(store, Closed):
            closed: Any = Closed(store.id, store.place, self._label(), why)
            self._bind(closed)
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        handle = (self._store.handle(), self._name, self._waits, self._timeout)
        return _open, (type(self), *handle), getattr(self, "__dict__", None) or None

    def __alamo_datum__(self) -> str:
        """What tells accesses of tasks that two handles are one dictionary."""
        return self._store.id

    def __alamo_channel__(self, key: Any) -> KeyChannel:
        """What tells accesses of tasks that two keys are one."""
        return channel_of(key)

    def _label(self) -> str:
        """What errors call it."""
        return f"{type(self).__name__} {self._name or self._store.id!r}"

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)


def _open(cls: type[DDict[Any, Any]], handle: Any, *options: Any) -> DDict[Any, Any]:
    """What a pickled DDict is made by."""
    return cls._over(open_dict_store(handle), *options)
