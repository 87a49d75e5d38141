"""The way of an edge: past its waypoints, between the columns of broken levels, around bands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Band", "Places", "Router", "Sizes"]

#: x, y and the number of the band.
_Point = tuple[float, float, int]

#: An edge leaves a node towards its other end: by this share of the way there, and at most so far
#: from the middle, as a share of the node's width.
_LEAN = 0.25
_PORTS = 0.36
#: What comes from a node runs in this part of the gaps around it, what goes to one in the rest.
_LANE = 0.35


class Band(NamedTuple):
    """Levels one below the other.

    Attributes:
        left, right: its nodes are between; the gutters are beside it.
        bottom: of the band, which begins at 0.
        lane: height above and below the nodes in which edges from and to other bands run.
    """

    left: float
    right: float
    bottom: float
    lane: float


class Sizes(NamedTuple):
    """Of nodes; 0 of waypoints."""

    widths: list[float]
    heights: list[float]


class Places(NamedTuple):
    """Of nodes and waypoints.

    Attributes:
        x, y: the middle.
        room: the width of the column in which it is.
        band: in which it is.
        span: top and bottom of its level.
    """

    x: list[float]
    y: list[float]
    room: list[float]
    band: list[int]
    span: list[tuple[float, float]]


class Router:
    """Finds the ways of edges.

    Args:
        n: the numbers from there on are waypoints.
        gap: between the columns of a broken level, where its edges run.
        fold_gap: between its rows.
        curved: ways are 3 k + 1 points of k cubics, not corners of a line.
    """

    def __init__(
        self,
        n: int,
        places: Places,
        sizes: Sizes,
        bands: list[Band],
        gap: float,
        fold_gap: float,
        curved: bool,
    ) -> None:
        self._n = n
        self._places = places
        self._sizes = sizes
        self._bands = bands
        self._gap = gap
        self._fold_gap = fold_gap
        self._curved = curved

    def route(self, tail: int, head: int, chain: tuple[int, ...]) -> list[float]:
        """The way from the bottom of a node to the top of another: x, y, x, y, ..."""
        x, band = self._places.x, self._places.band
        first, last = self._out_of(tail), self._into(head)
        points = [first[-1]]
        for waypoint in chain:
            top, bottom = self._places.span[waypoint]
            points.append((x[waypoint], top, band[waypoint]))
            points.append((x[waypoint], bottom, band[waypoint]))
        points.append(last[0])
        upright = len(first) > 1, len(last) > 1
        if self._curved and not upright[0]:
            self._lean(points, tail, 0, 1)
        if self._curved and not upright[1]:
            self._lean(points, head, -1, -2)
        way = list((first[0] if upright[0] else points[0])[:2])
        self._add_line([point[:2] for point in first[1:]], way)
        start = 0
        for k in range(1, len(points) + 1):
            if k == len(points) or points[k][2] != points[k - 1][2]:
                if start:
                    self._add_line(self._around(points[start - 1], points[start]), way)
                piece = points[start:k]
                if self._curved:
                    _add_curve(piece, upright[0] or start > 0, upright[1] or k < len(points), way)
                else:
                    self._add_line([point[:2] for point in piece[1:]], way)
                start = k
        self._add_line([point[:2] for point in last[1:]], way)
        return way

    def _out_of(self, node: int) -> list[_Point]:
        """From the bottom of a node to that of its level, beside what is below it there."""
        places, band = self._places, self._places.band[node]
        width, x = places.room[node], places.x[node]
        bottom, end = places.y[node] + self._sizes.heights[node] / 2, places.span[node][1]
        if end - bottom < self._fold_gap:
            return [(x, bottom, band)]
        port, low = x + self._sizes.widths[node] / 4, bottom + self._fold_gap * _LANE
        aside = x + width / 2 + self._gap * _LANE
        return [(port, bottom, band), (port, low, band), (aside, low, band), (aside, end, band)]

    def _into(self, node: int) -> list[_Point]:
        """From the top of a node's level to the node, beside what is above it there."""
        places, band = self._places, self._places.band[node]
        width, x = places.room[node], places.x[node]
        top, begin = places.y[node] - self._sizes.heights[node] / 2, places.span[node][0]
        if top - begin < self._fold_gap:
            return [(x, top, band)]
        port, high = x - self._sizes.widths[node] / 4, top - self._fold_gap * (1 - _LANE)
        aside = x - width / 2 - self._gap * _LANE
        return [(aside, begin, band), (aside, high, band), (port, high, band), (port, top, band)]

    def _lean(self, points: list[_Point], node: int, end: int, near: int) -> None:
        """Let a way leave or enter its node on the side where it goes to or comes from."""
        (x, y, band), (to_x, _, to_band) = points[end], points[near]
        if band == to_band:
            most = _PORTS * self._sizes.widths[node]
            points[end] = (x + min(max(_LEAN * (to_x - x), -most), most), y, band)

    def _add_line(self, corners: Sequence[tuple[float, float]], way: list[float]) -> None:
        for x, y in corners:
            way += [way[-2], way[-1], x, y, x, y] if self._curved else [x, y]

    def _around(self, start: _Point, end: _Point) -> list[tuple[float, float]]:
        """The corners from a point of a band to one of a later band: down, right, up, across.

        Where many go the same way they run side by side, and those that start side by side do
        not cross: who starts nearest to the gutter takes the inner lanes.
        """
        (x, _, first), (to_x, to_y, last) = start, end
        here, there = self._bands[first], self._bands[last]
        wide = here.right - here.left
        share = 0.15 + 0.7 * ((x - here.left) / wide if wide else 0.5)
        low, high = here.bottom - here.lane * share, there.lane * (1 - share)
        across = there.left - (there.left - self._bands[last - 1].right) * share
        return [(x, low), (across, low), (across, high), (to_x, high), (to_x, to_y)]


def _add_curve(
    points: list[_Point], upright_start: bool, upright_end: bool, way: list[float]
) -> None:
    """Cubics through the points behind the first: Catmull-Rom, steeper at both ends."""
    last = len(points) - 1
    slopes = []
    for k in range(last + 1):
        (x0, y0, _), (x1, y1, _) = points[max(k - 1, 0)], points[min(k + 1, last)]
        if k in (0, last):
            upright = upright_end if k else upright_start
            slopes.append((0.0 if upright else (x1 - x0) * 0.4, (y1 - y0) * 1.2))
        else:
            slopes.append(((x1 - x0) / 2, (y1 - y0) / 2))
    for ((x0, y0, _), (x1, y1, _)), ((sx0, sy0), (sx1, sy1)) in zip(
        pairwise(points), pairwise(slopes)
    ):
        way += [x0 + sx0 / 3, y0 + sy0 / 3, x1 - sx1 / 3, y1 - sy1 / 3, x1, y1]
