"""Rows of a layered drawing: who is in which, in what order, and where edges pass through.

Pure; all of it is linear in nodes, edges and waypoints.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Level", "Net", "broken", "order", "rows_of"]


class Level(NamedTuple):
    """What stands side by side: one row, or several where one would be too wide.

    Attributes:
        members: nodes and waypoints from left to right.
        rows: of nodes.  If there are several, waypoints stand beside them.
        passing: the waypoints.
    """

    members: list[int]
    rows: list[list[int]]
    passing: list[int]

    @property
    def is_broken(self) -> bool:
        """Whether there are several rows: then they are columns, one node below the other."""
        return len(self.rows) > 1


def rows_of(n: int, tails: Sequence[int], heads: Sequence[int]) -> list[int]:
    """The row of each node: every edge goes to a lower one (a higher number).

    What waits for nothing stands just above the first that waits for it, so edges are short.

    Args:
        tails, heads: the edges, sorted by head, and each head above its tail.

    Example:
        >>> rows_of(4, [0, 1, 2], [1, 3, 3])
        [0, 1, 1, 2]
    """
    row = [0] * n
    first_below = [n] * n
    has_tail = bytearray(n)
    for tail, head in zip(tails, heads):
        has_tail[head] = 1
        if row[head] <= row[tail]:
            row[head] = row[tail] + 1
    for tail, head in zip(tails, heads):
        if row[head] < first_below[tail]:
            first_below[tail] = row[head]
    for node in range(n):
        if not has_tail[node] and first_below[node] < n:
            row[node] = first_below[node] - 1
    return row


class Net:
    """Nodes, and waypoints where an edge passes a row, with what each has above and below.

    Edges of one kind that leave one node share their waypoints, so a bundle of long edges is one
    line until it parts.  Without waypoints long edges have none, and pass behind nodes.

    Attributes:
        n: how many are nodes; the numbers from there on are waypoints.
        row: of each.
        above, below: the neighbours of each.
        chains: for each edge its waypoints, from top to bottom.
    """

    def __init__(
        self,
        row: list[int],
        tails: array[int],
        heads: array[int],
        kinds: bytes,
        waypoints_max: int,
    ) -> None:
        self.n = len(row)
        self.row = row
        spans = sum([row[head] - row[tail] - 1 for tail, head in zip(tails, heads)])
        self.chains: list[tuple[int, ...]] = [()] * len(tails)
        if 0 < spans <= waypoints_max:
            self._add_waypoints(tails, heads, kinds)
        self.above: list[list[int]] = [[] for _ in self.row]
        self.below: list[list[int]] = [[] for _ in self.row]
        seen: set[tuple[int, int]] = set()
        for tail, head, chain in zip(tails, heads, self.chains):
            upper = tail
            for lower in (*chain, head):
                if not chain or (upper, lower) not in seen:
                    self.above[lower].append(upper)
                    self.below[upper].append(lower)
                    if chain:
                        seen.add((upper, lower))
                upper = lower

    def _add_waypoints(self, tails: array[int], heads: array[int], kinds: bytes) -> None:
        trunks: dict[tuple[int, int], list[int]] = {}
        row = self.row
        for edge, (tail, head, kind) in enumerate(zip(tails, heads, kinds)):
            length = row[head] - row[tail] - 1
            if length:
                trunk = trunks.setdefault((tail, kind), [])
                while len(trunk) < length:
                    trunk.append(len(row))
                    row.append(row[tail] + len(trunk))
                self.chains[edge] = tuple(trunk[:length])


def order(net: Net, sweeps: int) -> list[list[int]]:
    """The rows, each in an order that lets few edges cross: barycentres, down and up in turn.

    Example:
        >>> order(Net([0, 0, 1, 1], array("I", [1, 0]), array("I", [2, 3]), bytes(2), 9), 1)
        [[0, 1], [3, 2]]
    """
    rows: list[list[int]] = [[] for _ in range(max(net.row, default=-1) + 1)]
    for node, at in enumerate(net.row):
        rows[at].append(node)
    place = [0.0] * len(net.row)  # in a row from 0 to 1, so that rows of any length compare
    for members in rows:
        _note(members, place)
    for sweep in range(sweeps):
        down = not sweep % 2
        neighbours = net.above if down else net.below
        for members in rows if down else reversed(rows):
            for node in members:
                near = neighbours[node]
                if near:
                    place[node] = sum([place[other] for other in near]) / len(near)
            members.sort(key=place.__getitem__)
            _note(members, place)
    return rows


def _note(members: list[int], place: list[float]) -> None:
    step = 1 / len(members) if members else 0.0
    for i, node in enumerate(members):
        place[node] = (i + 0.5) * step


def broken(net: Net, members: list[int], count: int) -> Level:
    """A level in so many rows.

    One below the other stand those that wait for the same, for their edges run together.
    """
    nodes = [node for node in members if node < net.n]
    passing = [node for node in members if node >= net.n]
    if count > 1:
        nodes.sort(key=lambda node: sorted(net.above[node] or net.below[node]))
    rows = [nodes[k::count] for k in range(count)]
    return Level(members, [row for row in rows if row], passing)
