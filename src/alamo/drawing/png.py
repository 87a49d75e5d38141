"""A scene as PNG, with Pillow (extra ``dag``)."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from alamo.drawing.scene import Boxes, Group, Lines, Scene, Texts
from alamo.errors import UsageError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["to_png"]

#: Pixels of a picture: small ones are made twice as fine, up to the first; the second is the most.
_FINE_PIXELS = 12_000_000
_PIXELS_MAX = 32_000_000
#: A picture that is not larger is painted at twice its size, for smooth edges.
_SMOOTH_PIXELS = 14_000_000
#: Of cubics: a corner so many pixels, no more than that.
_STEP = 6.0
_STEPS_MAX = 24

_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")


def to_png(scene: Scene) -> bytes:
    """The scene as a PNG file.

    Raises:
        UsageError: Pillow is missing.

    Cost: 5 us a shape, 60 ns a pixel.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise UsageError(
            f"a .png needs Pillow ({error}): pip install 'alamo[dag]'; "
            ".svg, .pdf, .dot and .json need nothing"
        ) from error
    area = scene.width * scene.height
    scale = min(2.0, max(1.0, math.sqrt(_FINE_PIXELS / area)), math.sqrt(_PIXELS_MAX / area))
    size = max(1, round(scene.width * scale)), max(1, round(scene.height * scale))
    finer = 2 if size[0] * size[1] <= _SMOOTH_PIXELS else 1
    image = Image.new("RGB", (size[0] * finer, size[1] * finer), "#ffffff")
    draw = ImageDraw.Draw(image, "RGBA")
    for group in scene.groups:
        _paint(draw, group, scale * finer)
    if finer > 1:
        image = image.reduce(finer)
    data = io.BytesIO()
    image.save(data, "png", compress_level=6 if area < _FINE_PIXELS else 3)
    return data.getvalue()


def _paint(draw: ImageDraw, group: Group, scale: float) -> None:
    if isinstance(group, Lines):
        _paint_lines(draw, group, scale)
    elif isinstance(group, Boxes):
        _paint_boxes(draw, group, scale)
    elif isinstance(group, Texts):
        _paint_texts(draw, group, scale)
    else:
        for corners in group.corners:
            draw.polygon([value * scale for value in corners], group.colour)


def _paint_lines(draw: ImageDraw, group: Lines, scale: float) -> None:
    width = group.width * scale
    # A line is one pixel wide at least; a thinner one is painted lighter.
    opacity = group.opacity * min(1.0, max(width, 0.25))
    colour: Any = group.colour
    if opacity < 1:
        colour = (*[int(colour[k : k + 2], 16) for k in (1, 3, 5)], round(opacity * 255))
    pixels = max(1, round(width))
    dash = [length * scale for length in group.dash]
    for way in group.ways:
        corners = [value * scale for value in way]
        if group.curved:
            corners = flattened(corners)
        if not dash:
            draw.line(corners, colour, pixels, "curve" if pixels > 2 else None)
            continue
        for piece in dashes(corners, dash):
            draw.line(piece, colour, pixels)


def flattened(way: list[float]) -> list[float]:
    """Corners of a line close to these cubics."""
    corners = way[:2]
    x0, y0 = way[:2]
    for k in range(2, len(way), 6):
        x1, y1, x2, y2, x3, y3 = way[k : k + 6]
        length = abs(x3 - x0) + abs(y3 - y0)
        steps = min(max(int(length / _STEP), 2), _STEPS_MAX)
        if (x1, y1) == (x0, y0) and (x2, y2) == (x3, y3):
            steps = 1
        for i in range(1, steps + 1):
            t = i / steps
            u = 1 - t
            a, b, c, d = u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t
            corners.append(a * x0 + b * x1 + c * x2 + d * x3)
            corners.append(a * y0 + b * y1 + c * y2 + d * y3)
        x0, y0 = x3, y3
    return corners


def dashes(corners: list[float], dash: list[float]) -> Iterator[list[float]]:
    """The pieces of a line that are drawn, of lengths drawn and left out in turn."""
    points = list(zip(corners[::2], corners[1::2]))
    k, left = 0, dash[0]
    piece = list(points[0])
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        at = 0.0
        while length - at > left:
            at += left
            x, y = x0 + (x1 - x0) * at / length, y0 + (y1 - y0) * at / length
            if k % 2 == 0:
                yield [*piece, x, y]
            piece = [x, y]
            k += 1
            left = dash[k % len(dash)]
        left -= length - at
        piece += [x1, y1]
    if k % 2 == 0 and len(piece) > 2:
        yield piece


def _paint_boxes(draw: ImageDraw, group: Boxes, scale: float) -> None:
    width = max(1, round(group.border_width * scale)) if group.border_width else 0
    border = group.border if width else None
    radius = group.radius * scale
    for x, y, w, h in group.places:
        left, top = round(x * scale), round(y * scale)
        place = (
            left,
            top,
            max(left + 1, round((x + w) * scale)),
            max(top + 1, round((y + h) * scale)),
        )
        if radius < 2:
            draw.rectangle(place, group.fill, border, width)
        else:
            draw.rounded_rectangle(place, radius, group.fill, border, width)


def _paint_texts(draw: ImageDraw, group: Texts, scale: float) -> None:
    font = _font(group.size * scale)
    anchor = "ms" if group.centred else "ls"
    for x, y, text in group.items:
        safe = "".join([c if c.isprintable() else "�" for c in text])
        draw.text((x * scale, (y + 0.36 * group.size) * scale), safe, group.colour, font, anchor)


def _font(size: float) -> Any:
    """A font of the system, for it knows more letters, or the one that Pillow brings."""
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            pass
    return ImageFont.load_default(size)
