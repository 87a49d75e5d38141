"""A diagram that is laid out becomes a scene: boxes, lines, arrow heads, names, and a legend."""

from __future__ import annotations

import math
from collections.abc import Iterable

from alamo.core.edges import KINDS
from alamo.drawing.diagram import STATES, Diagram, Node
from alamo.drawing.fonts import shorten, text_width
from alamo.drawing.layout import Layout
from alamo.drawing.legend import legend_of
from alamo.drawing.scene import Boxes, Group, Lines, Scene, Texts, Triangles
from alamo.drawing.style import EDGES, INK, QUIET, Look, paint_of

__all__ = ["node_sizes", "paint"]

_MARGIN = 24.0
_JOIN = 6.0
_PADDING = 10.0
#: How far the boxes behind an array's stand out.
_STACK = 4.0
_HEAD_LENGTH = 7.0
#: How dark edges without arrow heads are altogether.
_INK_SHARE = 0.4
_HEAD_HALF = 3.2


def node_sizes(diagram: Diagram, look: Look) -> tuple[list[float], list[float]]:
    """Widths and heights of the nodes, in pixels."""
    widths, heights = [], []
    for node in diagram.nodes:
        if node.type == "join":
            widths.append(_JOIN)
            heights.append(_JOIN)
            continue
        width = look.width
        if look.labels:
            first, second = _label(node)
            needed = max(text_width(first, look.font), text_width(second, look.small_font))
            width = min(max(width, needed + 2 * _PADDING), look.width_max)
        stack = 2 * _STACK if node.type == "array" else 0.0
        widths.append(width + stack)
        heights.append(look.height + stack)
    return widths, heights


def paint(diagram: Diagram, layout: Layout, look: Look) -> Scene:
    """The scene of a diagram.  Cost: 5 us a node and an edge."""
    widths, heights = node_sizes(diagram, look)
    scale = min(max(max(layout.width, layout.height) / 2000, 1.0), 10.0)
    width = max(layout.width + 2 * _MARGIN * scale, 560.0)
    header, header_height = legend_of(diagram, look, width - 2 * _MARGIN * scale, scale)
    left, top = (width - layout.width) / 2, _MARGIN * scale * 2 + header_height
    groups = [moved(group, _MARGIN * scale, _MARGIN * scale) for group in header]
    drawing = [*_edges(diagram, layout, look), *_nodes(diagram, layout, look, widths, heights)]
    groups += [moved(group, left, top) for group in drawing]
    height = top + layout.height + _MARGIN * scale
    return Scene(diagram.title, width, height, groups)


def _label(node: Node) -> tuple[str, str]:
    """What stands on a node: its name, and below it what tells it from others of that name."""
    times = f" × {node.size:,}" if node.size is not None else ""
    if node.name is None:
        return f"task {node.uid}{times}", node.state
    return node.name + times, f"task {node.uid} · {node.state}"


def _edges(diagram: Diagram, layout: Layout, look: Look) -> Iterable[Group]:
    opacity = 1.0 if look.labels else _opacity(layout)
    for kind, style in EDGES.items():
        number = KINDS.index(kind)
        ways, heads = [], []
        for edge, (head, way) in enumerate(zip(diagram.heads, layout.routes)):
            if diagram.kinds[edge] == number:
                ways.append(way)
                if look.labels and diagram.nodes[head].type != "join":
                    heads.append(_arrow_head(way))
        if ways:
            dash = style.dash if look.labels else ()
            width = style.width if look.labels else 1.0
            yield Lines(ways, style.colour, width, dash, opacity, layout.curved)
        if heads:
            yield Triangles(heads, style.colour)


def _opacity(layout: Layout) -> float:
    """Where so many lines would lie on each other that all is dark, they are lighter."""
    ink = sum([abs(w[-2] - w[0]) + abs(w[-1] - w[1]) for w in layout.routes])
    area = max(layout.width * layout.height, 1.0)
    return min(max(_INK_SHARE * area / max(ink, 1.0), 0.04), 0.7)


def _arrow_head(way: list[float]) -> tuple[float, float, float, float, float, float]:
    x, y = way[-2], way[-1]
    for k in range(len(way) - 4, -1, -2):  # points of a curve may lie on each other
        dx, dy = x - way[k], y - way[k + 1]
        length = math.hypot(dx, dy)
        if length > 0.5:
            break
    else:
        dx, dy, length = 0.0, 1.0, 1.0
    ux, uy = dx / length, dy / length
    bx, by = x - ux * _HEAD_LENGTH, y - uy * _HEAD_LENGTH
    return (
        *(x, y),
        *(bx - uy * _HEAD_HALF, by + ux * _HEAD_HALF),
        *(bx + uy * _HEAD_HALF, by - ux * _HEAD_HALF),
    )


def _nodes(
    diagram: Diagram, layout: Layout, look: Look, widths: list[float], heights: list[float]
) -> Iterable[Group]:
    boxes: dict[tuple[int, str], list[tuple[float, float, float, float]]] = {}
    names: list[tuple[float, float, str]] = []
    notes: list[tuple[float, float, str]] = []
    joins = []
    for node, x, y, width, height in zip(diagram.nodes, layout.x, layout.y, widths, heights):
        if node.type == "join":
            joins.append((x - _JOIN / 2, y - _JOIN / 2, _JOIN, _JOIN))
            continue
        behind = 2 if node.type == "array" else 0
        place = x - width / 2, y - height / 2, width - behind * _STACK, height - behind * _STACK
        for k in range(behind, -1, -1):
            shifted = place[0] + k * _STACK, place[1] + k * _STACK, place[2], place[3]
            boxes.setdefault((-k, node.state), []).append(shifted)
        if look.labels:
            middle, at, room = place[0] + place[2] / 2, place[1], place[2] - _PADDING
            first, second = _label(node)
            names.append((middle, at + 13.5, shorten(first, look.font, room)))
            notes.append((middle, at + 27.0, shorten(second, look.small_font, room)))
    radius = 5.0 if look.labels else 2.0
    for depth in (-2, -1, 0):
        for state in STATES:
            if places := boxes.get((depth, state)):
                fill, border = paint_of(state, look)
                yield Boxes(places, fill, border, 1.2 if look.labels else 0.0, radius)
    if joins:
        yield Boxes(joins, INK, INK, 0.0, _JOIN / 2)
    if look.labels:
        yield Texts(names, look.font, INK, True)
        yield Texts(notes, look.small_font, QUIET, True)


def moved(group: Group, dx: float, dy: float) -> Group:
    """The same shapes elsewhere."""
    if isinstance(group, Lines):
        return group._replace(ways=[_moved_way(way, dx, dy) for way in group.ways])
    if isinstance(group, Boxes):
        return group._replace(places=[(x + dx, y + dy, w, h) for x, y, w, h in group.places])
    if isinstance(group, Triangles):
        corners = [
            (a + dx, b + dy, c + dx, d + dy, e + dx, f + dy) for a, b, c, d, e, f in group.corners
        ]
        return group._replace(corners=corners)
    return group._replace(items=[(x + dx, y + dy, text) for x, y, text in group.items])


def _moved_way(way: list[float], dx: float, dy: float) -> list[float]:
    return [value + (dy if k % 2 else dx) for k, value in enumerate(way)]
