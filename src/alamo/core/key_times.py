"""Dates and times as keys: what is equal in Python has the same bytes.

A naive datetime counts by its fields, an aware one by its instant; ``fold`` does not count, as
it does not in ``==``.  Only where the offset depends on fold (the hour that a change of the
clocks repeats or leaves out) an aware datetime equals none of another zone: there it
counts by its fields and the key of its ``ZoneInfo``.  In zones of other classes, which have no
name, it counts by its instant with fold 0.
"""

from __future__ import annotations

import struct
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

from alamo.core.key_numbers import encode_int

__all__ = [
    "encode_date",
    "encode_datetime",
    "encode_time",
    "encode_timedelta",
    "encode_timezone",
]

_pack_day: Final = struct.Struct(">cI").pack
_pack_us: Final = struct.Struct(">cq").pack
_US: Final = timedelta(microseconds=1)


def encode_date(value: date) -> bytes:
    """Encode a ``date``."""
    return _pack_day(b"D", value.toordinal())


def encode_datetime(value: datetime) -> bytes:
    """Encode a ``datetime``."""
    local_us = value.toordinal() * 86_400_000_000 + _us_of_day(value)
    first = value.replace(fold=0).utcoffset()
    if first is None:
        return _pack_us(b"T", local_us)
    if first != value.replace(fold=1).utcoffset():
        zone = getattr(value.tzinfo, "key", None)
        if isinstance(zone, str):
            return _pack_us(b"Z", local_us) + zone.encode()
    return _pack_us(b"U", local_us - first // _US)


def encode_time(value: time) -> bytes:
    """Encode a ``time``."""
    offset = value.replace(fold=0).utcoffset()
    if offset is None:
        return _pack_us(b"h", _us_of_day(value))
    return _pack_us(b"H", _us_of_day(value) - offset // _US)


def encode_timedelta(value: timedelta) -> bytes:
    """Encode a ``timedelta``."""
    return b"d" + encode_int(value // _US)


def encode_timezone(value: timezone) -> bytes:
    """Encode a ``timezone``, which counts by its offset, not by its name."""
    return _pack_us(b"o", value.utcoffset(None) // _US)


def _us_of_day(value: datetime | time) -> int:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return seconds * 1_000_000 + value.microsecond
