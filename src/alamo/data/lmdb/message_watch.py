"""How a consumer waits for messages where many come."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from alamo.data.lmdb.taker import Taker
from alamo.data.store import Watch

__all__ = ["MessageWatch"]

_NAP_S: Final = 0.000_05
_NAPS: Final = 3


class MessageWatch:
    """Naps a little before it asks to be woken, if messages have come fast lately.

    While it naps so many come that the next transaction takes them all, where waking and being
    woken would be done for each.

    Args:
        watch: what is waited with after that.
    """

    def __init__(self, taker: Taker, watch: AbstractContextManager[Watch]) -> None:
        self._taker = taker
        self._naps = _NAPS if taker.is_busy() else 0
        self._place = watch
        self._watch: Watch | None = None

    def __enter__(self) -> MessageWatch:
        if not self._naps:
            self._watch = self._place.__enter__()
        return self

    def wait(self, deadline_s: float | None) -> None:
        """As :class:`alamo.data.store.Watch` says."""
        while self._naps:
            self._naps -= 1
            time.sleep(_NAP_S)
            if not self._taker.is_empty():
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
