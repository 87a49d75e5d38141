"""A scene as PDF: one page of vectors, written plainly, with a font that every reader has.

Letters that Windows code page 1252 lacks become question marks.
"""

from __future__ import annotations

import zlib

from alamo.drawing.fonts import helvetica_width
from alamo.drawing.scene import Boxes, Group, Lines, Scene, Texts, Triangles

__all__ = ["to_pdf"]

#: Points a pixel, and the longest side that readers take.
_POINTS = 0.75
_LONGEST = 14_400.0
#: A quarter of a circle as a cubic: the length of its handles.
_ROUND = 0.5523


def to_pdf(scene: Scene) -> bytes:
    """The scene as a PDF document."""
    scale = min(_POINTS, _LONGEST / max(scene.width, scene.height))
    width, height = scene.width * scale, scene.height * scale
    # y runs downwards in a scene; texts are turned back one by one.
    parts = [f"{scale:.6f} 0 0 {-scale:.6f} 0 {height:.2f} cm 1 j"]
    opacities: list[float] = []
    for group in scene.groups:
        parts += _group(group, opacities)
    content = zlib.compress("\n".join(parts).encode("cp1252", "replace"), 6)
    states = " ".join([f"/O{k} << /CA {o:.2f} >>" for k, o in enumerate(opacities)])
    return _document(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.2f} {height:.2f}] "
            f"/Contents 5 0 R /Resources << /Font << /F 4 0 R >> /ExtGState << {states} >> >> >>"
            "".encode(),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream"
            % (len(content), content),
        ]
    )


def _document(objects: list[bytes]) -> bytes:
    data = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        data += b"%010d 00000 n \n" % place
    data += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(data + b"startxref\n%d\n%%%%EOF\n" % start)


def _group(group: Group, opacities: list[float]) -> list[str]:
    if isinstance(group, Lines):
        dash = " ".join([f"{length:.1f}" for length in group.dash])
        opacities.append(group.opacity)
        lines = [f"q /O{len(opacities) - 1} gs {_rgb(group.colour)} RG {group.width:.2f} w"]
        lines.append(f"[{dash}] 0 d")
        lines += [f"{_way(way, group.curved)} S" for way in group.ways]
        return [*lines, "Q"]
    if isinstance(group, Triangles):
        return [f"{_rgb(group.colour)} rg", *[f"{_way(list(c), False)} f" for c in group.corners]]
    if isinstance(group, Boxes):
        paint = "B" if group.border_width else "f"
        lines = [f"{_rgb(group.fill)} rg {_rgb(group.border)} RG {group.border_width:.2f} w"]
        return lines + [f"{_box(*place, group.radius)} {paint}" for place in group.places]
    return [f"{_rgb(group.colour)} rg BT /F {group.size:.2f} Tf", *_texts(group), "ET"]


def _texts(group: Texts) -> list[str]:
    lines = []
    for x, y, text in group.items:
        left = x - helvetica_width(text, group.size) / 2 if group.centred else x
        safe = "".join([c if c >= " " else "?" for c in text])
        safe = safe.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        lines.append(f"1 0 0 -1 {left:.2f} {y + 0.36 * group.size:.2f} Tm ({safe}) Tj")
    return lines


def _way(way: list[float], curved: bool) -> str:
    parts = [f"{way[0]:.2f} {way[1]:.2f} m"]
    step = 6 if curved else 2
    for k in range(2, len(way), step):
        parts.append(" ".join([f"{v:.2f}" for v in way[k : k + step]]) + (" c" if curved else " l"))
    return " ".join(parts)


def _box(x: float, y: float, w: float, h: float, radius: float) -> str:
    if radius < 1:
        return f"{x:.2f} {y:.2f} {w:.2f} {h:.2f} re"
    r, s = min(radius, w / 2, h / 2), min(radius, w / 2, h / 2) * (1 - _ROUND)
    right, low = x + w, y + h
    way = [x + r, y, right - r, y]
    corners = (
        *((right - s, y, right, y + s, right, y + r), (right, low - r)),
        *((right, low - s, right - s, low, right - r, low), (x + r, low)),
        *((x + s, low, x, low - s, x, low - r), (x, y + r)),
        (x, y + s, x + s, y, x + r, y),
    )
    parts = [f"{way[0]:.2f} {way[1]:.2f} m {way[2]:.2f} {way[3]:.2f} l"]
    for corner in corners:
        parts.append(" ".join([f"{v:.2f}" for v in corner]) + (" c" if len(corner) > 2 else " l"))
    return " ".join(parts) + " h"


def _rgb(colour: str) -> str:
    return " ".join([f"{int(colour[k : k + 2], 16) / 255:.3f}" for k in (1, 3, 5)])
