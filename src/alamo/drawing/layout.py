"""A layered drawing: where nodes stand and edges run.  Pure; 100 000 nodes take seconds.

Rows are levels, tied nodes stand near each other, and what would make the picture a thread is
broken: a wide row into several, a tall picture into bands that are read from left to right, like
the columns of a newspaper.  Within a band every edge goes downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from alamo.drawing.columns import place_in_rows
from alamo.drawing.diagram import Diagram
from alamo.drawing.levels import Level, Net, broken, order, rows_of
from alamo.drawing.routes import Band, Places, Router, Sizes

__all__ = ["Layout", "Spacing", "lay_out"]

#: Width to height that a picture is given where that is free.
_ASPECT = 1.6
#: Broken only if it would be so much wider or taller than that.
_WIDE = 2.2
#: A level is broken at that only if so few edges pass it: beside its rows they are a knot.
_PASSING_MAX = 3
_WIDE_WITH_MANY = 8.0
_TALL = 2.5


class Spacing(NamedTuple):
    """Distances in pixels, and how much care is taken.

    Attributes:
        gap: between nodes of a row.
        row_gap, row_gap_max: between rows; more where rows are wide, for edges run flat there.
        fold_gap: between the rows into which one was broken.
        gutter: between bands.
        least: rows shorter and pictures lower than what comes of it are not broken.
        waypoints_max: more of them are too dear; then long edges pass behind nodes.
        curved: edges are curves, not lines.
    """

    gap: float
    row_gap: float
    row_gap_max: float
    fold_gap: float
    gutter: float
    least: float
    waypoints_max: int
    curved: bool


class Layout(NamedTuple):
    """Places in pixels, y downwards.

    Attributes:
        x, y: the middle of each node.
        band: of each node.
        width, height: of all, from 0.
        routes: for each edge x, y, x, y, ...: corners of a line, or 3 k + 1 points of k cubics.
        curved: which of the two.
        broken: a row or the whole was broken.
    """

    x: list[float]
    y: list[float]
    band: list[int]
    width: float
    height: float
    routes: list[list[float]]
    curved: bool
    broken: bool


def lay_out(
    diagram: Diagram, widths: Sequence[float], heights: Sequence[float], spacing: Spacing
) -> Layout:
    """Lay a diagram out whose nodes have these sizes.

    Cost: 20 us a node and 5 us an edge.
    """
    n = len(diagram.nodes)
    tails, heads = diagram.tails, diagram.heads
    net = Net(rows_of(n, tails, heads), tails, heads, diagram.kinds, spacing.waypoints_max)
    rows = order(net, 6 if spacing.curved else 3)
    none = [0.0] * (len(net.row) - n)
    sizes = Sizes([*widths, *none], [*heights, *none])
    levels = _levels(net, rows, sizes, spacing)
    x, room = place_in_rows(net, levels, sizes.widths, spacing.gap, 7 if spacing.curved else 3)
    places = Places(x, [0.0] * len(x), room, [0] * len(x), [(0.0, 0.0)] * len(x))
    bands = _stack(levels, places, sizes, spacing)
    router = Router(n, places, sizes, bands, spacing.gap, spacing.fold_gap, spacing.curved)
    routes = [
        router.route(tail, head, chain) for tail, head, chain in zip(tails, heads, net.chains)
    ]
    is_broken = len(bands) > 1 or any(level.is_broken for level in levels)
    width = max((band.right for band in bands), default=0.0)
    height = max((band.bottom for band in bands), default=0.0)
    y, band = places.y[:n], places.band[:n]
    return Layout(x[:n], y, band, width, height, routes, spacing.curved, is_broken)


def _levels(net: Net, rows: list[list[int]], sizes: Sizes, spacing: Spacing) -> list[Level]:
    """Break rows that are too wide."""
    cells = [(w + spacing.gap) * (h + spacing.row_gap) for w, h in zip(sizes.widths, sizes.heights)]
    fit = max(math.sqrt(_ASPECT * sum(cells)), spacing.least)
    levels = []
    for members in rows:
        width = sum([sizes.widths[node] + spacing.gap for node in members if node < net.n])
        wide = (
            _WIDE if sum([node >= net.n for node in members]) <= _PASSING_MAX else _WIDE_WITH_MANY
        )
        count = math.ceil(width / fit) if width > wide * fit else 1
        levels.append(broken(net, members, count))
    return levels


def _stack(levels: list[Level], places: Places, sizes: Sizes, spacing: Spacing) -> list[Band]:
    """Put levels one below the other, and bands of them side by side."""
    if not levels:
        return []
    spans = [_span(level, places, spacing.gap) for level in levels]
    depths = [
        [max([sizes.heights[node] for node in row]) for row in level.rows] for level in levels
    ]
    tall = [sum(depth) + spacing.fold_gap * (len(depth) - 1) for depth in depths]
    width = max([right for _, right in spans]) - min([left for left, _ in spans])
    free = (width / _ASPECT - sum(tall)) / len(levels)
    row_gap = min(max(free, spacing.row_gap), spacing.row_gap_max)
    height = sum(tall) + row_gap * (len(levels) - 1)
    limit = height
    if height > _TALL * max(width, spacing.least):
        limit /= max(2, round(math.sqrt(_ASPECT * height / (width + spacing.gutter))))
    cuts, at = [0], 0.0
    for k, own in enumerate(tall):
        if k and at + own > limit * 1.0001:
            cuts.append(k)
            at = 0.0
        at += own + row_gap
    lane = spacing.gutter / 2 if len(cuts) > 1 else 0.0
    bands: list[Band] = []
    start = 0.0
    for first, end in pairwise([*cuts, len(levels)]):
        left = min([left for left, _ in spans[first:end]])
        right = start + max([right for _, right in spans[first:end]]) - left
        y = lane
        for k in range(first, end):
            at = y
            for row, depth in zip(levels[k].rows, depths[k]):
                for node in row:
                    places.y[node] = at + depth / 2
                at += depth + spacing.fold_gap
            for node in levels[k].members:
                places.x[node] += start - left
                places.band[node] = len(bands)
                places.span[node] = (y, y + tall[k])
            for node in levels[k].passing:
                places.y[node] = y + tall[k] / 2
            y += tall[k] + row_gap
        bands.append(Band(start, right, y - row_gap + lane, lane))
        start = right + spacing.gutter
    return bands


def _span(level: Level, places: Places, gap: float) -> tuple[float, float]:
    """From where to where a level reaches; beside the columns of a broken one edges run."""
    beside = gap if level.is_broken else 0.0
    return (
        min([places.x[node] - places.room[node] / 2 for node in level.members]) - beside,
        max([places.x[node] + places.room[node] / 2 for node in level.members]) + beside,
    )
