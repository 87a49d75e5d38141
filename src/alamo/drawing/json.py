"""A diagram as JSON, for programs: a stable format.

    {
      "format": "alamo-dag", "version": 1,
      "title": "task 4 (demo)", "tasks": 3, "levels": 2,
      "nodes": [
        {"id": 0, "type": "task", "uid": 1, "name": "load", "state": "done", "level": 0,
         "size": null},
        ...
      ],
      "edges": [{"tail": 0, "head": 1, "kind": "RAW"}, ...]
    }

``nodes`` stand in program order; an id is a place in that list.  ``type`` is "task", "array" (with
``size`` elements) or "join": no task, but what stands between many nodes that all of many others
wait for; its uid is null.  ``state`` is "pending", "running" (that, or ready to), "done", "failed"
or "skipped".  ``level`` is the number of tasks on the longest path that leads there.  An edge goes
from its ``tail`` to what waits for it, its ``head``, which has the greater id; ``kind`` is "RAW",
"argument", "WAR" or "WAW".  What a later version adds has names that are not used here.
"""

from __future__ import annotations

import msgspec

from alamo.core.edges import KINDS
from alamo.drawing.diagram import Diagram, Node

__all__ = ["Edge", "Graph", "to_json"]


class Edge(msgspec.Struct, gc=False):
    """An edge, by ids of nodes."""

    tail: int
    head: int
    kind: str


class Graph(msgspec.Struct):
    """The whole file; ``msgspec.json.decode(data, type=Graph)`` reads one."""

    format: str
    version: int
    title: str
    tasks: int
    levels: int
    nodes: list[Node]
    edges: list[Edge]


def to_json(diagram: Diagram) -> bytes:
    """The diagram as a JSON document, a node and an edge a line."""
    nodes = [msgspec.json.encode(_speakable(node)) for node in diagram.nodes]
    edges = [
        msgspec.json.encode(Edge(tail, head, KINDS[kind]))
        for tail, head, kind in zip(diagram.tails, diagram.heads, diagram.kinds)
    ]
    head = b'{"format": "alamo-dag", "version": 1,\n"title": %s, "tasks": %d, "levels": %d,\n' % (
        msgspec.json.encode(_text(diagram.title)),
        diagram.tasks,
        diagram.levels,
    )
    parts = [head, b'"nodes": [\n', b",\n".join(nodes), b'],\n"edges": [\n', b",\n".join(edges)]
    return b"".join([*parts, b"]}\n"])


def _speakable(node: Node) -> Node:
    if node.name is None or node.name.isascii():
        return node
    return msgspec.structs.replace(node, name=_text(node.name))


def _text(text: str) -> str:
    """Without what UTF-8 cannot hold, as file names of unknown encoding do."""
    return text.encode("utf-8", "replace").decode()
