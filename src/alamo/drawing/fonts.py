"""How wide a text is, without asking a font: boxes must not depend on what is installed."""

from __future__ import annotations

from typing import Final

__all__ = ["helvetica_width", "shorten", "text_width"]

#: Of Helvetica, " " to "~", in thousandths of its size (Adobe's font metrics).
_HELVETICA: Final = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556),
    *(1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556),
    *(333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)
#: The widest of the usual fonts, DejaVu Sans, against Helvetica.
_WIDEST: Final = 1.16


def helvetica_width(text: str, size: float) -> float:
    """The width in Helvetica; letters beyond ASCII count as 0.6, ideographs as 1."""
    width = 0.0
    for letter in text:
        code = ord(letter) - 32
        if 0 <= code < len(_HELVETICA):
            width += _HELVETICA[code]
        else:
            width += 1000 if letter > "\u2e7f" else 600
    return width * size / 1000


def text_width(text: str, size: float) -> float:
    """About how wide a text is in any sans-serif font; rather too wide than too narrow.

    Example:
        >>> text_width("ill", 10) < text_width("WWW", 10) < text_width("三三三", 10)
        True
    """
    return helvetica_width(text, size) * _WIDEST


def shorten(text: str, size: float, room: float) -> str:
    """The text, or as much of its head and tail as fits.

    Example:
        >>> shorten("a_rather_long_name_0001", 10, 80)
        'a_rathe…_0001'
    """
    if text_width(text, size) <= room:
        return text
    keep = len(text)
    while (
        keep > 2 and text_width(text[: (keep + 1) // 2] + "…" + text[-(keep // 2) :], size) > room
    ):
        keep -= 1
    return text[: (keep + 1) // 2] + "…" + text[-(keep // 2) :]
