"""The channel of an access on a ``DDict``: compared as the keys are, read as what the user gave."""

from __future__ import annotations

from typing import Any

import msgspec

from alamo.core.keys import encode

__all__ = ["KeyChannel", "channel_of"]


class KeyChannel(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A key of a ``DDict`` as the channel of accesses.

    Two channels are equal, and have one hash, if and only if their keys are one key of a
    ``DDict``.  Kept out of the garbage collector's sight, as a program holds millions of them.
    """

    #: The canonical encoding of the key.
    encoded: bytes
    #: The key as the user gave it.
    key: Any

    def __eq__(self, other: object) -> bool:
        return other.__class__ is KeyChannel and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return repr(self.key)


def channel_of(key: Any) -> KeyChannel:
    """Return the channel for a key: what the ``__alamo_channel__`` of a dictionary returns.

    Raises:
        TypeError, RecursionError: as :func:`alamo.core.keys.encode` does.

    Cost: 0.3 us for an int or a short str; 0.2 us more than a bare key for each look-up.

    Example:
        >>> channel_of(1) == channel_of(True), [channel_of(1), channel_of(True)]
        (True, [1, True])
    """
    return KeyChannel(encode(key), key)
