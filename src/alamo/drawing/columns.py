"""Where in its row each node stands: near what it is tied to, in order, and nobody on another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from alamo.drawing.levels import Level, Net

__all__ = ["place_in_rows", "spread"]

#: A bundle of edges that bends looks worse than a box off the middle of its neighbours.
_STRAIGHTNESS = 4.0


def spread(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Places nearest to those wanted (least squares) that are ``gaps`` apart and keep the order.

    ``gaps[i]`` is between i and i + 1.  Pool adjacent violators: O(n).

    Example:
        >>> spread([0.0, 0.0, 9.0], [1.0, 1.0, 1.0], [2.0, 2.0])
        [-1.0, 1.0, 9.0]
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets):
        mean, count = want - offset, 1
        while pools and pools[-1][0] >= mean:
            other, other_weight, other_count = pools.pop()
            mean = (mean * weight + other * other_weight) / (weight + other_weight)
            weight += other_weight
            count += other_count
        pools.append((mean, weight, count))
    places: list[float] = []
    for mean, _, count in pools:
        places += [mean + offset for offset in offsets[len(places) : len(places) + count]]
    return places


def place_in_rows(
    net: Net, levels: list[Level], widths: Sequence[float], gap: float, sweeps: int
) -> tuple[list[float], list[float]]:
    """The middle of each node and waypoint, and the width of its column.

    Args:
        widths: of nodes and waypoints.
        gap: between neighbours, half of it where one is a waypoint.
    """
    x = [0.0] * len(widths)
    room = list(widths)
    for level in levels:
        if level.is_broken:
            _place_in_grid(level, x, room, gap)
    # What is in a grid stays there.
    rows = [level.members for level in levels if not level.is_broken]
    gaps_of: list[list[float]] = []
    for members in rows:
        gaps = [
            (widths[a] + widths[b]) / 2 + (gap if a < net.n and b < net.n else gap / 2)
            for a, b in pairwise(members)
        ]
        gaps_of.append(gaps)
        at = -sum(gaps) / 2
        for node, step in zip(members, [*gaps, 0.0]):
            x[node] = at
            at += step
    for sweep in range(sweeps):
        last = sweep == sweeps - 1
        down = last or not sweep % 2
        for k in range(len(rows)) if down else range(len(rows) - 1, -1, -1):
            members = rows[k]
            wanted, weights = [], []
            for node in members:
                near = net.above[node] if down else net.below[node]
                if last:
                    near = near + net.below[node]
                wanted.append(sum([x[other] for other in near]) / len(near) if near else x[node])
                straight = node >= net.n and (not near or min(near) >= net.n)
                weights.append(_STRAIGHTNESS if straight else 1.0 if near else 0.01)
            for node, place in zip(members, spread(wanted, weights, gaps_of[k])):
                x[node] = place
    return x, room


def _place_in_grid(level: Level, x: list[float], room: list[float], gap: float) -> None:
    """Nodes in columns of one width each, with a gap between for edges, and waypoints beside."""
    columns = max(map(len, level.rows))
    at = 0.0
    for k in range(columns):
        column = [row[k] for row in level.rows if k < len(row)]
        width = max([room[node] for node in column])
        for node in column:
            x[node] = at + width / 2
            room[node] = width
        at += width + gap
    for waypoint in level.passing:
        x[waypoint] = at
        at += gap / 2
    middle = (at - gap) / 2
    for node in level.members:
        x[node] -= middle
