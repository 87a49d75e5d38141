"""Amounts of memory as people write them: ``"4GiB"``, ``"500 MB"``."""

from __future__ import annotations

import re

__all__ = ["format_size", "parse_size"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", re.ASCII)
_LETTERS = "kmgtpe"
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def _factor(unit: str) -> int:
    """Bytes of a unit in lower case; 0 when it is none."""
    if unit in ("", "b"):
        return 1
    power = _LETTERS.find(unit[0]) + 1
    if power and unit[1:] in ("", "b"):
        return int(1000**power)
    if power and unit[1:] in ("i", "ib"):
        return int(1024**power)
    return 0


def parse_size(text: str) -> int:
    """Bytes that a text means, rounded up.

    ``k``, ``M``, ``G``, ``T``, ``P`` and ``E``, with or without ``B``, are powers of 1000; with an
    ``i`` behind they are powers of 1024.  Upper and lower case mean the same.

    Raises:
        ValueError: it is no number with such a unit.

    >>> parse_size("4GiB"), parse_size("500 MB"), parse_size("1.5k"), parse_size("17")
    (4294967296, 500000000, 1500, 17)
    """
    match = _SIZE.fullmatch(text)
    factor = _factor(match[2].lower()) if match else 0
    if match is None or not factor:
        raise ValueError(f"{text!r} is no amount of memory; write it as in '4GiB' or '500 MB'")
    whole, _, decimals = match[1].partition(".")
    scale = int("1" + "0" * len(decimals))
    return -(-int(whole + decimals) * factor // scale)


def format_size(size_bytes: int) -> str:
    """An amount of memory to be read, to three or four digits.

    >>> format_size(4 << 30), format_size(1_500_000), format_size(17)
    ('4 GiB', '1.43 MiB', '17 B')
    """
    power = 0
    while power + 1 < len(_BINARY) and size_bytes >= 1024 ** (power + 1):
        power += 1
    if power == 0:
        return f"{size_bytes} B"
    number = size_bytes / 1024**power
    return f"{number:.{4 if number >= 1000 else 3}g} {_BINARY[power]}"
