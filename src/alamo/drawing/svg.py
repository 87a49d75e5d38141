"""A scene as SVG: plainly written, one element a group where shapes are many."""

from __future__ import annotations

from html import escape

from alamo.drawing.scene import Boxes, Group, Lines, Scene, Triangles

__all__ = ["to_svg"]


def to_svg(scene: Scene) -> bytes:
    """The scene as an SVG document."""
    width, height = _number(scene.width), _number(scene.height)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
        f"<title>{_escape(scene.title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *[_group(group) for group in scene.groups],
        "</svg>\n",
    ]
    return "\n".join(parts).encode()


def _group(group: Group) -> str:
    if isinstance(group, Lines):
        ways = "".join([_way(way, group.curved) for way in group.ways])
        dash = f' stroke-dasharray="{" ".join(map(_number, group.dash))}"' if group.dash else ""
        opacity = f' stroke-opacity="{group.opacity:.2f}"' if group.opacity < 1 else ""
        width = _number(group.width)
        return (
            f'<path d="{ways}" fill="none" stroke="{group.colour}" stroke-width="{width}"'
            f'{dash}{opacity} stroke-linejoin="round"/>'
        )
    if isinstance(group, Triangles):
        corners = "".join([f"M{_pairs(list(c))}z" for c in group.corners])
        return f'<path d="{corners}" fill="{group.colour}"/>'
    if isinstance(group, Boxes):
        return _boxes(group)
    anchor = ' text-anchor="middle"' if group.centred else ""
    lines = [f'<g font-size="{_number(group.size)}" fill="{group.colour}"{anchor}>']
    for x, y, text in group.items:
        base = _number(y + 0.36 * group.size)
        lines.append(f'<text x="{_number(x)}" y="{base}">{_escape(text)}</text>')
    return "\n".join([*lines, "</g>"])


def _boxes(group: Boxes) -> str:
    border = f'stroke="{group.border}" stroke-width="{_number(group.border_width)}"'
    lines = [f'<g fill="{group.fill}" {border}>']
    radius = _number(group.radius)
    for x, y, w, h in group.places:
        lines.append(
            f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(w)}" height="{_number(h)}" '
            f'rx="{radius}"/>'
        )
    return "\n".join([*lines, "</g>"])


def _way(way: list[float], curved: bool) -> str:
    return f"M{_pairs(way[:2])}{'C' if curved else 'L'}{_pairs(way[2:])}"


def _pairs(values: list[float]) -> str:
    return " ".join(map(_number, values))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _escape(text: str) -> str:
    # What XML may not hold even escaped: control characters and lone surrogates.
    safe = "".join(["�" if c < " " or "\ud800" <= c <= "\udfff" else c for c in text])
    return escape(safe)
