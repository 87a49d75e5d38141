"""Functions that a manager knows for good: those that travel by reference, few and small."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from alamo.protocol import messages as msg


class KnownFunctions:
    """Numbers of functions for one connection.

    Args:
        send: sends messages to the manager.
    """

    def __init__(self, send: Callable[[list[msg.Message]], None]) -> None:
        self._send = send
        self._by_pickle: dict[bytes, int] = {}
        self._by_id: dict[int, tuple[Any, int]] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def number_of(self, function: Callable[..., Any]) -> int | None:
        """The number of a function that was sent before.  Cost: 0.1 us."""
        known = self._by_id.get(id(function))
        return known[1] if known is not None and known[0] is function else None

    def add(self, function: Callable[..., Any], blob: bytes) -> int:
        """The number of a function, sending it if it is new."""
        with self._lock:
            number = self._by_pickle.get(blob)
            if number is None:
                number = self.next_number()
                self._send([msg.FunctionDefined(number, blob)])
                self._by_pickle[blob] = number
        self._by_id[id(function)] = (function, number)
        return number

    def next_number(self) -> int:
        """A number for a function."""
        return next(self._numbers)
