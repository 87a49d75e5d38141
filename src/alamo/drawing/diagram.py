"""What is to be drawn: tasks, arrays and joins with their states, and the edges between them.

A diagram knows no program, no layout and no format; :mod:`alamo.batch.diagrams` makes one.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Final, Literal

import msgspec

from alamo.core.edges import KINDS

__all__ = ["RUNNING_MEANS", "STATES", "Diagram", "Node", "State", "Type"]

State = Literal["pending", "running", "done", "failed", "skipped", "cancelled"]
Type = Literal["task", "array", "join"]

#: In the order in which a task may go through them.
STATES: Final[tuple[State, ...]] = (
    "pending",
    "running",
    "done",
    "failed",
    "skipped",
    "cancelled",
)
#: A client is told what has ended, not what has begun.
RUNNING_MEANS: Final = "running or ready"


class Node(msgspec.Struct, gc=False):
    """A task, an array, or a join, which has no work and only stands for many edges.

    Attributes:
        id: its place among the diagram's nodes.
        uid: ``None`` for a join.
        name: the one that the user gave, else the function's.
        state: as far as the client knows; "running" is what waits for nothing any more, whether
            it has begun or not.  That of an array is of all its elements together.
        level: tasks and arrays on the longest path that leads to it.
        size: elements of an array, as far as they have been made; ``None`` for others.
    """

    id: int
    type: Type
    uid: int | None
    name: str | None
    state: State
    level: int = 0
    size: int | None = None


class Diagram:
    """Nodes in program order, and edges, which go upwards: sorted by head, then by tail.

    Args:
        title: what all of it is called.
        nodes: with their ids, and no levels yet.
        edges: (tail, head, kind), kind being a place in ``KINDS``, in any order.

    Example:
        >>> nodes = [Node(i, "task", i + 1, None, "done") for i in range(3)]
        >>> diagram = Diagram("t", nodes, [(1, 2, 0), (0, 1, 2)])
        >>> [node.level for node in nodes], diagram.edge_counts()
        ([0, 1, 2], {'RAW': 1, 'WAR': 1})
    """

    def __init__(self, title: str, nodes: list[Node], edges: list[tuple[int, int, int]]) -> None:
        self.title = title
        self.nodes = nodes
        edges.sort(key=lambda edge: (edge[1], edge[0], edge[2]))
        self.tails = array("I", [edge[0] for edge in edges])
        self.heads = array("I", [edge[1] for edge in edges])
        self.kinds = bytes([edge[2] for edge in edges])
        for tail, head in zip(self.tails, self.heads):
            above = nodes[tail].level + (nodes[tail].type != "join")
            if nodes[head].level < above:
                nodes[head].level = above

    @property
    def tasks(self) -> int:
        """How many tasks the user made: an array is one."""
        return sum([node.type != "join" for node in self.nodes])

    @property
    def levels(self) -> int:
        """How many tasks the longest path holds."""
        return max((n.level + 1 for n in self.nodes if n.type != "join"), default=0)

    def state_counts(self) -> dict[State, int]:
        """How many tasks are in each of the states that occur."""
        counts = Counter([node.state for node in self.nodes if node.type != "join"])
        return {state: counts[state] for state in STATES if counts[state]}

    def edge_counts(self) -> dict[str, int]:
        """How many edges are of each of the kinds that occur."""
        counts = Counter(self.kinds)
        return {kind: counts[k] for k, kind in enumerate(KINDS) if counts[k]}
