"""What a dictionary that others change at the same time needs beyond the protocol of dict."""

from __future__ import annotations

import math
import reprlib
from contextlib import AbstractContextManager
from typing import Any, Final

from alamo.core.keys import encode
from alamo.data.mapping import K, StoredMapping, V, kept_of
from alamo.data.marks import Mark
from alamo.data.packing import pack
from alamo.data.views import equal

__all__ = ["AtomicMapping"]


class AtomicMapping(StoredMapping[K, V]):
    """Times to live, counters, swaps and transactions."""

    __slots__ = ()

    #: In :meth:`compare_and_swap`: that there is no such key.
    ABSENT: Final = Mark.ABSENT

    def put(self, key: K, value: V, *, ttl: float | None = None) -> None:
        """Store a value, for a time.

        Args:
            ttl: seconds to live, after which the key is gone for everybody; ``None``: for ever,
                also if the key had a time to live before, as with ``d[key] = value``.

        Raises:
            ValueError: ``ttl`` is no positive number.
        """
        if ttl is not None and not ttl > 0:
            raise ValueError(f"ttl is a positive number of seconds or None, not {ttl!r}")
        encoded, kept, (head, buffers) = self._entry(key, value)
        self._store.put(encoded, kept, head, buffers, None if ttl == math.inf else ttl)

    def fetch_add(self, key: K, n: Any = 1) -> Any:
        """Add to a number and return what it was before; 0, if there is no such key.

        Raises:
            TypeError: the value is nothing that ``n`` can be added to.
        """
        store, encoded = self._store, encode(key)
        while True:
            seen = store.look(encoded)
            if seen is None:
                value, token = 0, None
            else:
                value, token = self._unpacked(key, seen.value), seen.token
            try:
                total = value + n
            except TypeError as error:
                raise TypeError(
                    f"fetch_add: the value of key {reprlib.repr(key)} in {self._label()}: {error}"
                ) from error
            if store.swap(encoded, kept_of(key), token, pack(total)):
                return value

    def compare_and_swap(self, key: K, expected: Any, new: Any) -> bool:
        """Store ``new`` if the value is equal to ``expected``, and tell whether it was.

        Args:
            expected: ``DDict.ABSENT``: that there is no such key.
            new: ``DDict.ABSENT``: remove the key.

        Example:
            >>> from alamo import DDict
            >>> with DDict() as d:
            ...     d.compare_and_swap("leader", DDict.ABSENT, 17)
            ...     d.compare_and_swap("leader", 3, 4)
            True
            False
        """
        store, encoded = self._store, encode(key)
        packed = None if new is Mark.ABSENT else self._entry(key, new).value
        while True:
            seen = store.look(encoded)
            value = Mark.ABSENT if seen is None else self._unpacked(key, seen.value)
            if (value is Mark.ABSENT) != (expected is Mark.ABSENT) or not equal(value, expected):
                return False
            if seen is None and packed is None:
                return True
            token = None if seen is None else seen.token
            if store.swap(encoded, kept_of(key), token, packed):
                return True

    def transaction(self) -> AbstractContextManager[None]:
        """Make one of all that this thread does with this dictionary inside the block.

        Nobody sees a part of it; an exception undoes it.  On one machine other writers wait until
        the block ends, so keep it short: one above a second is warned about.  Over many nodes
        nobody waits, all keys must be of one shard, and it fails if another was faster.  It may
        be nested: the outermost counts.  Do not wait for keys inside.

        Raises:
            DDictConflictError: at the end of the block, over many nodes: what it had read has
                been changed meanwhile.  Nothing is stored; do it again.

        Example:
            >>> from alamo import DDict
            >>> with DDict({"a": 10, "b": 0}) as d:
            ...     with d.transaction():
            ...         d["a"], d["b"] = d["a"] - 3, d["b"] + 3
            ...     dict(d) == {"a": 7, "b": 3}
            True
        """
        return self._store.transaction()
