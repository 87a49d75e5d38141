"""The protocol of dict over a store: keys encoded, values packed, and all else is the store's."""

from __future__ import annotations

import reprlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self, TypeVar, overload

from alamo.core.keys import decode, encode, is_plain
from alamo.data.packing import pack, type_name, unpack
from alamo.data.store import DictStore, Entry, Packed
from alamo.data.views import Items, Keys, Values, equal
from alamo.errors import SerializationError
from alamo.protocol.pickling import dump_in_line

__all__ = ["K", "StoredMapping", "V", "kept_of"]

K = TypeVar("K")
V = TypeVar("V")
_D = TypeVar("_D")

#: Types of which every key is plain, known without a call.
_PLAIN = frozenset({int, str, bytes, type(None)})

#: Stands for an argument that was not given.
_NOTHING: Any = object()


def kept_of(key: Any) -> bytes:
    """What is kept of a key beside its encoding: nothing if that gives back the very key."""
    return b"" if key.__class__ in _PLAIN or is_plain(key) else dump_in_line(key)


class StoredMapping(MutableMapping[K, V]):
    """All that a dict does, on a store.

    Attributes:
        _store: where the entries are; ``_get`` and ``_put`` are its methods, at hand because
            they are what is called most.
    """

    __slots__ = ("_get", "_put", "_store")

    _store: DictStore

    def _bind(self, store: DictStore) -> None:
        self._store = store
        self._get = store.get
        self._put = store.put

    @abstractmethod
    def _label(self) -> str:
        """What errors call this dictionary."""

    @abstractmethod
    def _absent(self, key: K, encoded: bytes) -> V:
        """Give what ``self[key]`` is where there is no such key, or raise."""

    @abstractmethod
    def _sibling(self) -> Self:
        """A new, empty dictionary like this one."""

    # -- one key --

    def __getitem__(self, key: K) -> V:
        encoded = encode(key)
        found = self._get(encoded)
        if found is None:
            return self._absent(key, encoded)
        head, buffers = found
        try:
            value: V = unpack(head, buffers)
        except Exception as error:
            raise self._unreadable(key, found, error) from error
        return value

    def __setitem__(self, key: K, value: V) -> None:
        encoded = encode(key)
        kept = b"" if key.__class__ in _PLAIN or is_plain(key) else dump_in_line(key)
        try:
            head, buffers = pack(value)
        except SerializationError as error:
            raise self._unstorable(key, error) from error
        self._put(encoded, kept, head, buffers)

    def __delitem__(self, key: K) -> None:
        if not self._store.delete(encode(key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._store.contains(encode(key))

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | _D) -> V | _D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``; never waits."""
        found = self._get(encode(key))
        return default if found is None else self._unpacked(key, found)

    @overload
    def setdefault(self, key: K, /) -> V | None: ...
    @overload
    def setdefault(self, key: K, default: V, /) -> V: ...
    def setdefault(self, key: K, default: Any = None, /) -> Any:
        """Store ``default`` unless the key is there, and return what is there then.

        What is returned is not tied to what is stored: store it again when you have changed it.
        """
        encoded, kept, (head, buffers) = self._entry(key, default)
        found = self._store.add(encoded, kept, head, buffers)
        return default if found is None else self._unpacked(key, found)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | _D) -> V | _D: ...
    def pop(self, key: K, /, default: Any = _NOTHING) -> Any:
        """Remove a key and return its value; ``default``, if given, when there is none.

        One of several that pop the same key at once gets the value.

        Raises:
            KeyError: there is none, and no ``default``.
        """
        found = self._store.pop(encode(key))
        if found is not None:
            return self._unpacked(key, found)
        if default is _NOTHING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Remove any one entry and return it; no two that do so at once get the same.

        Raises:
            KeyError: there is none.
        """
        entry = self._store.pop_any()
        if entry is None:
            raise KeyError(f"popitem(): {self._label()} is empty")
        key = self._key(entry.key, entry.kept)
        return key, self._unpacked(key, entry.value)

    # -- all keys --

    def __len__(self) -> int:
        return self._store.count()

    def __iter__(self) -> Iterator[K]:
        for encoded, kept in self._store.keys():  # noqa: SIM118
            yield self._key(encoded, kept)

    def _pairs(self) -> Iterator[tuple[K, V]]:
        """Iterate over (key, value), each value as it is when it is reached."""
        for encoded, kept, value in self._store.entries():
            key = self._key(encoded, kept)
            yield key, self._unpacked(key, value)

    def keys(self) -> Keys[K]:
        """A live view of the keys, with the operations of sets."""
        return Keys(self)

    def values(self) -> Values[V]:
        """A live view of the values."""
        return Values(self)

    def items(self) -> Items[K, V]:
        """A live view of the entries, with the operations of sets."""
        return Items(self)

    def clear(self) -> None:
        """Remove all entries, as one."""
        self._store.clear()

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store all entries of a mapping or of pairs, as one: nobody sees a part of them.

        Raises:
            TypeError, ValueError: ``other`` is no mapping and no pairs; nothing is stored.
            DDictFullError: there is no room for all; nothing is stored.
            CrossShardError: over many nodes: they do not lie together.  Put them one by one, or
                give the keys a common tag in braces.
        """
        entries = self._entries_of(other)
        entries += [self._entry(key, value) for key, value in more.items()]
        if entries:
            self._store.put_many(entries)

    def _fill(self, other: Any) -> None:
        """``update`` of a dictionary that is new, so nobody sees a part of it anyway."""
        self._store.fill(self._entries_of(other))

    def _entries_of(self, other: Any) -> list[Entry]:
        if isinstance(other, StoredMapping):
            return list(other._store.entries())
        return [self._entry(key, value) for key, value in _pairs_of(other)]

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None, /) -> Any:
        """Make a new dictionary with these keys, all of one value."""
        new = cls()
        pairs = [(key, value) for key in iterable]
        if type(new).__setitem__ is StoredMapping.__setitem__:
            new.update(pairs)
        else:  # a subclass that has a say in what is stored
            for key, value in pairs:
                new[key] = value
        return new

    def copy(self) -> Self:
        """Make a new dictionary beside this one, without a name, that holds what this one does.

        Times to live are not copied.  ``dict(d)`` gives a dict.
        """
        new = self._sibling()
        new._store.fill(self._store.entries())
        return new

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, _: Any) -> Self:
        return self.copy()

    def __or__(self, other: Any) -> Self:
        if not isinstance(other, Mapping):
            return NotImplemented
        new = self.copy()
        new._fill(other)
        return new

    def __ror__(self, other: Any) -> Self:
        if not isinstance(other, Mapping):
            return NotImplemented
        new = self._sibling()
        new._fill(other)
        new._fill(self)
        return new

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if isinstance(other, StoredMapping) and other._store.id == self._store.id:
            return True
        if len(self) != len(other):
            return False
        for key, value in self._pairs():
            theirs = other.get(key, _NOTHING)
            if theirs is _NOTHING or not equal(value, theirs):
                return False
        return True

    __hash__ = None  # type: ignore[assignment]  # it changes, as a dict does

    # -- between the user's form and the stored one --

    def _entry(self, key: Any, value: Any) -> Entry:
        """A key and a value in their stored forms."""
        encoded = encode(key)
        try:
            return Entry(encoded, kept_of(key), pack(value))
        except SerializationError as error:
            raise self._unstorable(key, error) from error

    def _key(self, encoded: bytes, kept: bytes) -> Any:
        """The key that was first put."""
        if not kept:
            return decode(encoded)
        try:
            return unpack(kept)
        except Exception as error:
            raise SerializationError(
                f"a key of {self._label()}, {type_name(kept)}, cannot be unpickled here: "
                f"{_told(error)}. Make its class importable in this process"
            ) from error

    def _unpacked(self, key: Any, found: Packed) -> Any:
        try:
            return unpack(*found)
        except Exception as error:
            raise self._unreadable(key, found, error) from error

    def _unreadable(self, key: Any, found: Packed, error: Exception) -> SerializationError:
        return SerializationError(
            f"the value of key {reprlib.repr(key)} in {self._label()} cannot be unpickled here. It "
            f"is of type {type_name(*found)}: {_told(error)}. Make that type importable in this "
            "process, or store plain data"
        )

    def _unstorable(self, key: Any, error: SerializationError) -> SerializationError:
        return SerializationError(
            f"the value for key {reprlib.repr(key)} of {self._label()} cannot be stored: {error}"
        )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _pairs_of(other: Any) -> Iterable[tuple[Any, Any]]:
    """Pairs of whatever ``dict.update`` takes."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return ((key, other[key]) for key in other.keys())  # noqa: SIM118
    return ((key, value) for key, value in other)
