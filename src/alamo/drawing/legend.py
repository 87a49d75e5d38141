"""What stands above a picture: its title, what is in it, and what its colours and strokes mean."""

from __future__ import annotations

from alamo.drawing.diagram import RUNNING_MEANS, Diagram
from alamo.drawing.fonts import text_width
from alamo.drawing.scene import Boxes, Group, Lines, Texts
from alamo.drawing.style import EDGES, INK, QUIET, Look, paint_of

__all__ = ["legend_of"]

_TITLE = 16.0
_TEXT = 12.0
_LINE = 24.0
_SWATCH = 26.0
_SPACE = 22.0

#: What an edge of each kind says of the lower of its two ends.
_MEANINGS = {
    "RAW": "reads what was written",
    "argument": "takes the result",
    "WAR": "overwrites what was read",
    "WAW": "overwrites what was written",
}


def legend_of(
    diagram: Diagram, look: Look, width: float, scale: float
) -> tuple[list[Group], float]:
    """The shapes of the legend, from (0, 0) on, and its height; ``scale`` enlarges it."""
    legend = _Legend(width, scale)
    edges = sum(diagram.edge_counts().values())
    summary = f"{_count(diagram.tasks, 'task')}, {_count(edges, 'edge')}"
    legend.add_title(diagram.title, f"{summary}, {_count(diagram.levels, 'level')}")
    for state, count in diagram.state_counts().items():
        name = RUNNING_MEANS if state == "running" else state
        legend.add_box(f"{count:,} {name}", *paint_of(state, look))
    legend.end_line()
    for kind, count in diagram.edge_counts().items():
        legend.add_edge(f"{count:,} {kind}: {_MEANINGS[kind]}", kind)
    types = {node.type for node in diagram.nodes}
    if "array" in types:
        legend.add_box("array × its elements", "#ffffff", QUIET, copies=3)
    if "join" in types:
        legend.add_join("all below wait for all above")
    return legend.groups, legend.height


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


class _Legend:
    """Lines of samples with their meanings, broken where they are too long."""

    def __init__(self, width: float, scale: float) -> None:
        self.groups: list[Group] = []
        self._width = width
        self._scale = scale
        self._x = 0.0
        self._y = 0.0

    @property
    def height(self) -> float:
        """Of the lines so far."""
        return self._y + (_LINE * self._scale if self._x else 0.0)

    def add_title(self, title: str, summary: str) -> None:
        s = self._scale
        y = self._y + _LINE * s / 2
        self.groups.append(Texts([(0.0, y, title)], _TITLE * s, INK, False))
        x = text_width(title, _TITLE * s) + _SPACE * s
        if x + text_width(summary, _TEXT * s) > self._width:
            x, y = 0.0, y + _LINE * s
        self.groups.append(Texts([(x, y, summary)], _TEXT * s, QUIET, False))
        self._y = y + _LINE * s * 0.75

    def add_box(self, text: str, fill: str, border: str, copies: int = 1) -> None:
        s = self._scale
        x, y = self._place(text)
        places = [
            (x + 3 * k * s, y - (7 - 3 * k) * s, (_SWATCH - 3 * copies) * s, 13 * s)
            for k in range(copies - 1, -1, -1)
        ]
        self.groups.append(Boxes(places, fill, border, 1.2 * s, 3 * s))

    def add_edge(self, text: str, kind: str) -> None:
        s = self._scale
        x, y = self._place(text)
        style = EDGES[kind]
        dash = tuple([length * s for length in style.dash])
        way = [x, y, x + _SWATCH * s, y]
        self.groups.append(Lines([way], style.colour, style.width * 1.3 * s, dash, 1.0, False))

    def add_join(self, text: str) -> None:
        s = self._scale
        x, y = self._place(text)
        place = (x + (_SWATCH / 2 - 3) * s, y - 3 * s, 6 * s, 6 * s)
        self.groups.append(Boxes([place], INK, INK, 0.0, 3 * s))

    def end_line(self) -> None:
        if self._x:
            self._x = 0.0
            self._y += _LINE * self._scale

    def _place(self, text: str) -> tuple[float, float]:
        """Where the sample of this text begins; the text is added."""
        s = self._scale
        needed = (_SWATCH + 8 + _SPACE) * s + text_width(text, _TEXT * s)
        if self._x and self._x + needed > self._width:
            self.end_line()
        x, y = self._x, self._y + _LINE * s / 2
        self.groups.append(Texts([(x + (_SWATCH + 8) * s, y, text)], _TEXT * s, INK, False))
        self._x += needed
        return x, y
