"""Waiting for single elements of an array, and for each as it comes."""

from __future__ import annotations

from typing import Any

from alamo.batch.array_view import ArrayView, Outcome


class ElementWatch:
    """One element of an array, as something to wait for."""

    __slots__ = ("_index", "_view")

    def __init__(self, view: ArrayView, index: int) -> None:
        self._view = view
        self._index = index

    def watch(self, waiter: Any) -> bool:
        """Release the waiter when it may have ended."""
        return self._view.watch_one(self._index, waiter)

    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""
        self._view.forget_one(self._index, waiter)


class CompletedElements:
    """An iterator and an asynchronous iterator: what ``as_completed`` of an array returns."""

    def __init__(self, view: ArrayView, timeout_s: float | None) -> None:
        self._view = view
        self._indices = view.completed(timeout_s)

    def __iter__(self) -> CompletedElements:
        return self

    def __aiter__(self) -> CompletedElements:
        return self

    def __next__(self) -> tuple[int, Outcome]:
        try:
            return self._outcome(next(self._indices))
        except StopIteration:
            self._raise_feed_error()
            raise

    async def __anext__(self) -> tuple[int, Outcome]:
        try:
            return self._outcome(await self._indices.__anext__())
        except StopAsyncIteration:
            self._raise_feed_error()
            raise

    def _outcome(self, index: int) -> tuple[int, Outcome]:
        return index, self._view.outcome_at(index)

    def _raise_feed_error(self) -> None:
        if self._view.feed_error is not None:
            raise self._view.feed_error
