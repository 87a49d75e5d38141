"""A layout by Graphviz, where pygraphviz is installed (extra ``dag``); painted as our own.

It holds the interpreter lock for as long as it takes, and nothing can be said beforehand about
how long that is: it runs in a child process, for a limited time.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence

from alamo.drawing.diagram import Diagram
from alamo.drawing.layout import Layout, Spacing

__all__ = ["dot_layout", "parse_plain"]

#: Above, Graphviz takes minutes, and what it makes is no better.
_NODES_MAX = 1000
_EDGES_MAX = 4000
_LIMIT_S = 10.0
#: Graphviz measures in inches.
_PIXELS = 72.0

_CHILD = """
import sys
sys.path[:] = sys.argv[1:]
import pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.read())
sys.stdout.buffer.write(graph.draw(format="plain", prog="dot"))
"""


def dot_layout(
    diagram: Diagram, widths: Sequence[float], heights: Sequence[float], spacing: Spacing
) -> Layout | None:
    """Lay a diagram out whose nodes have these sizes; ``None`` if that cannot be done here."""
    if len(diagram.nodes) > _NODES_MAX or len(diagram.tails) > _EDGES_MAX:
        return None
    if importlib.util.find_spec("pygraphviz") is None:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *sys.path],
            input=_dot(diagram, widths, heights, spacing),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LIMIT_S,
            check=True,
        )
        return parse_plain(done.stdout.decode(), diagram)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _dot(
    diagram: Diagram, widths: Sequence[float], heights: Sequence[float], spacing: Spacing
) -> bytes:
    """The shape of the diagram alone: names stay here, so no font is asked for."""
    gap, row_gap = spacing.gap / _PIXELS, spacing.row_gap / _PIXELS
    lines = [
        f"digraph {{ nodesep={gap:.3f}; ranksep={row_gap:.3f};",
        'node [shape=box, fixedsize=true, label=""]; edge [arrowhead=none];',
    ]
    for i, (width, height) in enumerate(zip(widths, heights)):
        lines.append(f"{i} [width={width / _PIXELS:.4f}, height={height / _PIXELS:.4f}];")
    lines += [f"{tail} -> {head};" for tail, head in zip(diagram.tails, diagram.heads)]
    return "\n".join([*lines, "}\n"]).encode()


def parse_plain(text: str, diagram: Diagram) -> Layout:
    """The layout in Graphviz's "plain" format.

    Raises:
        ValueError: it is none of this diagram.
    """
    try:
        return _parsed(text, diagram)
    except (KeyError, IndexError) as error:
        raise ValueError(f"something is missing: {error}") from error


def _parsed(text: str, diagram: Diagram) -> Layout:
    n = len(diagram.nodes)
    x, y = [0.0] * n, [0.0] * n
    ways: dict[tuple[int, int], list[list[float]]] = {}
    width = height = 0.0
    for line in text.splitlines():
        what, *fields = line.split()
        if what == "graph":
            width, height = float(fields[1]) * _PIXELS, float(fields[2]) * _PIXELS
        elif what == "node":
            x[int(fields[0])] = float(fields[1]) * _PIXELS
            y[int(fields[0])] = height - float(fields[2]) * _PIXELS
        elif what == "edge":
            way = [float(value) * _PIXELS for value in fields[3 : 3 + 2 * int(fields[2])]]
            way[1::2] = [height - value for value in way[1::2]]
            ways.setdefault((int(fields[0]), int(fields[1])), []).append(way)
    routes = [ways[edge].pop() for edge in zip(diagram.tails, diagram.heads)]
    return Layout(x, y, [0] * n, width, height, routes, True, False)
