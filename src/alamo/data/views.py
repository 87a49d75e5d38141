"""What ``keys()``, ``values()`` and ``items()`` of a DDict return: live, as those of a dict."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from alamo.data.mapping import StoredMapping

__all__ = ["Items", "Keys", "Values", "equal"]

K = TypeVar("K")
V = TypeVar("V")


def equal(one: Any, other: Any) -> bool:
    """Whether two values are equal, as one answer: arrays are when all of their elements are."""
    if one is other:
        return True
    shape, other_shape = getattr(one, "shape", ()), getattr(other, "shape", ())
    if shape != other_shape and isinstance(shape, tuple) and isinstance(other_shape, tuple):
        return False
    answer = one == other
    if getattr(answer, "shape", ()):
        answer = answer.all(axis=None)
    return bool(answer)


class Keys(KeysView[K]):
    """The keys: a set that changes with the dictionary."""

    __slots__ = ()
    _mapping: StoredMapping[K, Any]

    @property
    def mapping(self) -> Mapping[K, Any]:
        """The dictionary."""
        return self._mapping

    def __repr__(self) -> str:
        return f"<keys of {self._mapping._label()}>"


class Values(ValuesView[V]):
    """The values, each as it is when it is reached."""

    __slots__ = ()
    _mapping: StoredMapping[Any, V]

    @property
    def mapping(self) -> Mapping[Any, V]:
        """The dictionary."""
        return self._mapping

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._pairs())

    def __contains__(self, value: object) -> bool:
        return any(equal(value, stored) for stored in self)

    def __repr__(self) -> str:
        return f"<values of {self._mapping._label()}>"


class Items(ItemsView[K, V]):
    """The pairs of key and value: a set, if all values are hashable."""

    __slots__ = ()
    _mapping: StoredMapping[K, V]

    @property
    def mapping(self) -> Mapping[K, V]:
        """The dictionary."""
        return self._mapping

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._pairs()

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        stored = self._mapping.get(key, equal)  # a value that nobody has stored
        return stored is not equal and equal(value, stored)

    def __repr__(self) -> str:
        return f"<items of {self._mapping._label()}>"
