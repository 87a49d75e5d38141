"""Pickled functions of all clients: one number for equal bytes, forgotten when nobody uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

#: Functions that no program uses are kept up to this sum: the next program often has the same,
#: and a worker that has loaded one need not load it again.
IDLE_MAX_BYTES = 8 << 20


class Functions:
    """The functions that workers may need.

    Args:
        forget: called with a number that will not be used again.

    Example:
        >>> functions = Functions(forget=print)
        >>> functions.add(b"f"), functions.add(b"g"), functions.add(b"f")
        (0, 1, 0)
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self._forget = forget
        self._blobs: dict[int, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self._uses: dict[int, int] = {}
        #: Those without use, the one that has been so for longest first.
        self._idle: dict[int, None] = {}
        self._idle_bytes = 0
        self._next = 0

    def __getitem__(self, number: int) -> bytes:
        return self._blobs[number]

    def __len__(self) -> int:
        return len(self._blobs)

    def add(self, blob: bytes) -> int:
        """One more use of a function; returns its number."""
        number = self._numbers.get(blob)
        if number is None:
            number = self._numbers[blob] = self._next
            self._next += 1
            self._blobs[number] = blob
            self._uses[number] = 0
        elif number in self._idle:
            del self._idle[number]
            self._idle_bytes -= len(blob)
        self._uses[number] += 1
        return number

    def release(self, numbers: Iterable[int]) -> None:
        """One use less of each; what has none may go."""
        for number in numbers:
            self._uses[number] -= 1
            if not self._uses[number]:
                self._idle[number] = None
                self._idle_bytes += len(self._blobs[number])
        while self._idle_bytes > IDLE_MAX_BYTES:
            number = next(iter(self._idle))
            del self._idle[number], self._uses[number]
            blob = self._blobs.pop(number)
            del self._numbers[blob]
            self._idle_bytes -= len(blob)
            self._forget(number)
