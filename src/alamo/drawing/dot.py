"""A diagram in the language of Graphviz, with the colours and strokes of our own pictures."""

from __future__ import annotations

from alamo.core.edges import KINDS
from alamo.drawing.diagram import Diagram, Node
from alamo.drawing.style import EDGES, FILLS

__all__ = ["to_dot"]

_STROKES = {"RAW": "solid", "argument": "bold", "WAR": "dashed", "WAW": "dotted"}


def to_dot(diagram: Diagram) -> bytes:
    """The diagram as a DOT file; the node of id 3 is ``n3``.

    Example:
        >>> print(to_dot(Diagram("t", [Node(0, "join", None, None, "done")], [])).decode())
        digraph "t" {
          node [shape=box, style="rounded,filled", fontname="Helvetica"];
          n0 [shape=point, width=0.08];
        }
        <BLANKLINE>
    """
    lines = [
        f"digraph {_quoted(diagram.title)} {{",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica"];',
        *[f"  n{node.id} [{_attributes(node)}];" for node in diagram.nodes],
    ]
    for kind, name in enumerate(KINDS):
        style = EDGES[name]
        edges = [
            f"  n{tail} -> n{head};"
            for tail, head, k in zip(diagram.tails, diagram.heads, diagram.kinds)
            if k == kind
        ]
        if edges:
            lines.append(f'  edge [style={_STROKES[name]}, color="{style.colour}", class={name}];')
            lines += edges
    return "\n".join([*lines, "}\n"]).encode("utf-8", "replace")


def _attributes(node: Node) -> str:
    if node.type == "join":
        return "shape=point, width=0.08"
    fill, border = FILLS[node.state]
    lines = [node.name, f"task {node.uid}", node.state]
    if node.size is not None:
        lines[0] = f"{node.name or 'array'} × {node.size}"
    label = _quoted("\n".join([line for line in lines if line is not None]))
    more = ", peripheries=2" if node.type == "array" else ""
    return f'label={label}, fillcolor="{fill}", color="{border}"{more}'


def _quoted(text: str) -> str:
    safe = text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", " ").replace("\n", "\\n")
    return f'"{safe}"'
