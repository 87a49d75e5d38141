"""Where the arguments of an array's elements come from."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

#: What iterates without ever waiting for something.
_AT_HAND = (list, tuple, range, str, bytes, bytearray, dict, set, frozenset, array, deque)


class Source:
    """The arguments of an array's elements.

    Attributes:
        length: how many there are, if that is known.
        may_block: taking the next may wait for something.
    """

    def __init__(self, iterables: Sequence[Iterable[Any]]) -> None:
        """Raises a ``TypeError`` when one cannot be iterated."""
        at_hand = all(_is_at_hand(given) for given in iterables)
        self.may_block = not at_hand
        self.length: int | None = min(map(len, iterables)) if at_hand else None  # type: ignore[arg-type]
        self._ranges: list[range] | None = None
        self._at = 0
        self._rows: list[tuple[Any, ...]] = []
        self._error: BaseException | None = None
        if all(isinstance(given, range) for given in iterables):
            self._ranges = [r[: self.length] for r in iterables]  # type: ignore[index]
        else:
            self._single = len(iterables) == 1
            self.iterator: Iterator[Any] = (
                iter(iterables[0]) if self._single else zip(*map(iter, iterables))
            )
            if at_hand:  # a list may grow meanwhile
                self.iterator = islice(self.iterator, self.length)

    def take(self, count: int) -> list[Sequence[Any]]:
        """Columns of the next elements, one an iterable; empty at the end."""
        if self._ranges is not None:
            columns: list[Sequence[Any]] = [r[self._at : self._at + count] for r in self._ranges]
            self._at += count
            return columns if len(columns[0]) else []
        return self.columns(list(islice(self.iterator, count)))

    def rows(self) -> list[tuple[Any, ...]]:
        """The arguments of all elements; the same again, and the same error, when asked again."""
        if self._ranges is not None:
            return list(zip(*self._ranges, strict=True))
        if self._error is not None:
            raise self._error
        try:
            self._rows += [(item,) for item in self.iterator] if self._single else self.iterator
        except BaseException as error:
            self._error = error
            raise
        return self._rows

    def columns(self, items: list[Any]) -> list[Sequence[Any]]:
        """What the iterator gave, as columns."""
        if not items:
            return []
        return [items] if self._single else list(zip(*items, strict=True))


def _is_at_hand(given: Any) -> bool:
    if isinstance(given, _AT_HAND):
        return True
    return type(given).__module__ == "numpy" and hasattr(given, "__len__")
