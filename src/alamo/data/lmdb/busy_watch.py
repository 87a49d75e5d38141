"""How producers and consumers wait where many messages pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from alamo.data.store import Watch

__all__ = ["BusyWatch"]

_NAP_S: Final = 0.000_05
_NAPS: Final = 3


class BusyWatch:
    """Naps a little before it asks to be woken, for there was something to do just now.

    While it naps so many messages come or go that the next transactions have much to do, where
    waking and being woken would be done for each.

    Args:
        is_as_it_was: whether nothing has changed since there was nothing to do.
        place: what is waited with after that.
    """

    def __init__(
        self, is_as_it_was: Callable[[], bool], place: AbstractContextManager[Watch]
    ) -> None:
        self._naps = _NAPS
        self._is_as_it_was = is_as_it_was
        self._place = place
        self._watch: Watch | None = None

    def __enter__(self) -> BusyWatch:
        return self

    def wait(self, deadline_s: float | None) -> None:
        """As :class:`alamo.data.store.Watch` says."""
        while self._naps:
            self._naps -= 1
            time.sleep(_NAP_S)
            if not self._is_as_it_was():
                return
        if self._watch is None:
            self._watch = self._place.__enter__()
        else:
            self._watch.wait(deadline_s)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._place.__exit__(kind, error, trace)
