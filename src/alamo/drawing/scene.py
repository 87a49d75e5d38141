"""Groups of equal shapes: what every format can paint, in painting order."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Boxes", "Group", "Lines", "Scene", "Texts", "Triangles"]


class Lines(NamedTuple):
    """Ways of x, y, x, y, ...: corners, or 3 k + 1 points of k cubics where ``curved``."""

    ways: list[list[float]]
    colour: str
    width: float
    dash: tuple[float, ...]
    opacity: float
    curved: bool


class Boxes(NamedTuple):
    """Rectangles (left, top, width, height) with corners of a radius."""

    places: list[tuple[float, float, float, float]]
    fill: str
    border: str
    border_width: float
    radius: float


class Triangles(NamedTuple):
    """Arrow heads: three corners each."""

    corners: list[tuple[float, float, float, float, float, float]]
    colour: str


class Texts(NamedTuple):
    """Texts (x, y, text), y being the middle of the small letters; in the middle or from x on."""

    items: list[tuple[float, float, str]]
    size: float
    colour: str
    centred: bool


Group = Lines | Boxes | Triangles | Texts


class Scene(NamedTuple):
    """A picture: its size in pixels, and what is painted on white, the lowest first."""

    title: str
    width: float
    height: float
    groups: list[Group]
