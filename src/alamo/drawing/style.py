"""Colours, strokes and sizes: what a state and a kind of edge look like.

Kinds of edge differ in colour and in stroke, states in colour and in words, so that neither
needs colour vision.  The colours of Okabe and Ito are the base.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from alamo.drawing.diagram import State
from alamo.drawing.layout import Spacing

__all__ = ["EDGES", "FILLS", "INK", "PAPER", "QUIET", "EdgeStyle", "Look", "look_for", "paint_of"]

INK: Final = "#1f2933"
QUIET: Final = "#5f6c7b"
PAPER: Final = "#ffffff"

#: Fill and border of a node by its state.
FILLS: Final[dict[State, tuple[str, str]]] = {
    "pending": ("#f1f3f5", "#98a2ad"),
    "running": ("#ffe8a3", "#c98a00"),
    "done": ("#c9eadb", "#1f8a63"),
    "failed": ("#f7b5a8", "#b3321b"),
    "skipped": ("#e3d3ea", "#8a5a9e"),
    "cancelled": ("#d7dde3", "#4a5866"),
}


class EdgeStyle(NamedTuple):
    """A stroke; ``dash`` is lengths drawn and left out, empty for a line."""

    colour: str
    width: float
    dash: tuple[float, ...]


#: By kind, in the order in which they are painted: what carries data lies on top.
EDGES: Final[dict[str, EdgeStyle]] = {
    "WAR": EdgeStyle("#d55e00", 1.3, (6.0, 4.0)),
    "WAW": EdgeStyle("#a0468c", 1.6, (1.6, 3.4)),
    "RAW": EdgeStyle("#4a5866", 1.3, ()),
    "argument": EdgeStyle("#0072b2", 2.0, ()),
}


class Look(NamedTuple):
    """How a diagram of some size is drawn.

    Attributes:
        labels: nodes have names on them.
        font, small_font: sizes in pixels.
        height, width: of a node; with labels the width is the least one.
        width_max: of a node with a label.
    """

    labels: bool
    font: float
    small_font: float
    height: float
    width: float
    width_max: float
    spacing: Spacing


_LABELLED: Final = Look(
    True, 12.0, 9.5, 36.0, 62.0, 196.0, Spacing(22, 44, 120, 22, 52, 900, 20_000, True)
)
_PLAIN: Final = Look(
    False, 12.0, 9.5, 10.0, 12.0, 12.0, Spacing(6, 12, 160, 6, 16, 900, 60_000, False)
)
#: So many nodes have names on them: above, nobody could read them on a screen.
_LABELS_MAX: Final = 1500


def look_for(nodes: int) -> Look:
    """The look for a diagram of so many nodes."""
    return _LABELLED if nodes <= _LABELS_MAX else _PLAIN


def paint_of(state: State, look: Look) -> tuple[str, str]:
    """Fill and border of a node; without a name to be read the fill may be strong."""
    fill, border = FILLS[state]
    return (fill, border) if look.labels else (border, border)
