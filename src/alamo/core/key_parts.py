"""Parts of an encoded key: several byte strings as one, each behind its length.

Called by the encoders of :mod:`alamo.core.keys` for all that holds more than one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

__all__ = ["join_parts", "split_parts"]

#: A length below this is one byte, any other is this byte and eight more.
_LONG: Final = 255
_LENGTHS: Final = tuple(bytes((n,)) for n in range(_LONG))


def join_parts(tag: bytes, parts: Iterable[bytes]) -> bytes:
    """Return ``tag`` and all ``parts``, so that other parts never give the same bytes."""
    joined = [tag]
    for part in parts:
        n = len(part)
        joined.append(_LENGTHS[n] if n < _LONG else b"\xff" + n.to_bytes(8))
        joined.append(part)
    return b"".join(joined)


def split_parts(encoded: bytes) -> Iterator[bytes]:
    """Give back the parts that ``join_parts`` joined behind a tag of one byte."""
    at = 1
    while at < len(encoded):
        n = encoded[at]
        at += 1
        if n == _LONG:
            n = int.from_bytes(encoded[at : at + 8])
            at += 8
        yield encoded[at : at + n]
        at += n
