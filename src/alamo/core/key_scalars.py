"""Keys of Python's own classes that hold no other keys, and what of a subclass is its key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from types import EllipsisType, NoneType
from typing import Any, Final
from uuid import UUID

from alamo.core import key_numbers, key_times
from alamo.core.key_parts import join_parts

__all__ = ["SCALARS", "VALUE_OF", "Encoder", "decode_str", "encode_str"]

Encoder = Callable[[Any], bytes]


def encode_str(key: str) -> bytes:
    """Encode a str; a lone surrogate is a character as any other in a key."""
    return b"s" + key.encode("utf-8", "surrogatepass")


def decode_str(encoded: bytes) -> str:
    """Return the str with this encoding."""
    return encoded[1:].decode("utf-8", "surrogatepass")


def _encode_posix_path(key: PurePosixPath) -> bytes:
    return b"p" + str(key).encode("utf-8", "surrogatepass")


def _encode_windows_path(key: PureWindowsPath) -> bytes:
    return b"w" + str(key).lower().encode("utf-8", "surrogatepass")


def _encode_range(key: range) -> bytes:
    # Ranges are equal as the sequences that they stand for.
    if not key:
        return b"g"
    single = key.start == key[-1]
    values = (key.start,) if single else (key.start, key[-1], key.step)
    return join_parts(b"g", map(key_numbers.encode_int, values))


#: Encoders by class, also for subclasses that keep ``__eq__`` and ``__hash__``.
SCALARS: Final[dict[type, Encoder]] = {
    NoneType: lambda key: b"N",
    EllipsisType: lambda key: b"E",
    bool: key_numbers.encode_int,
    int: key_numbers.encode_int,
    float: key_numbers.encode_float,
    complex: key_numbers.encode_complex,
    Decimal: key_numbers.encode_decimal,
    Fraction: key_numbers.encode_fraction,
    str: encode_str,
    bytes: lambda key: b"b" + key,
    range: _encode_range,
    UUID: lambda key: b"u" + key.bytes,
    PurePosixPath: _encode_posix_path,
    PureWindowsPath: _encode_windows_path,
    date: key_times.encode_date,
    datetime: key_times.encode_datetime,
    time: key_times.encode_time,
    timedelta: key_times.encode_timedelta,
    timezone: key_times.encode_timezone,
}

#: What an instance of a subclass is equal to, whatever methods it has of its own.
VALUE_OF: Final[dict[type, Callable[[Any], Any]]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    Decimal: Decimal,
    str: str.__str__,
    bytes: lambda key: bytes.__getitem__(key, slice(None)),
    tuple: lambda key: tuple.__getitem__(key, slice(None)),
    frozenset: lambda key: frozenset(frozenset.__iter__(key)),
}
