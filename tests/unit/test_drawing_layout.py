"""Layouts: no two nodes overlap, every edge goes downwards, whatever the graph."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alamo.drawing.columns import spread
from alamo.drawing.diagram import Diagram, Node
from alamo.drawing.fonts import shorten, text_width
from alamo.drawing.graphviz import parse_plain
from alamo.drawing.layout import Layout, Spacing, lay_out
from alamo.drawing.levels import rows_of
from alamo.drawing.picture import node_sizes
from alamo.drawing.style import look_for

#: Small enough that small graphs are broken into rows and bands.
TIGHT = Spacing(8, 20, 60, 8, 30, 60, 200, True)
STRAIGHT = TIGHT._replace(curved=False, waypoints_max=0)

edge_lists = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(0, 3)),
            max_size=80,
        ),
    )
)


def diagram_of(n: int, edges: list[tuple[int, int, int]]) -> Diagram:
    upwards = [(min(a, b), max(a, b), kind) for a, b, kind in edges if a != b]
    nodes = [Node(i, "task", i + 1, None, "pending") for i in range(n)]
    return Diagram("t", nodes, list(dict.fromkeys(upwards)))


def check(diagram: Diagram, layout: Layout, widths: list[float], heights: list[float]) -> None:
    """Everything that a layout promises."""
    boxes = [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        for x, y, w, h in zip(layout.x, layout.y, widths, heights)
    ]
    for i, a in enumerate(boxes):
        assert min(a) > -0.01
        assert a[2] < layout.width + 0.01
        assert a[3] < layout.height + 0.01
        for b in boxes[:i]:
            assert a[2] <= b[0] + 0.01 or b[2] <= a[0] + 0.01 or a[3] <= b[1] or b[3] <= a[1]
    for tail, head, way in zip(diagram.tails, diagram.heads, layout.routes):
        if layout.band[tail] == layout.band[head]:
            assert boxes[tail][3] < boxes[head][1]
        else:
            assert layout.band[tail] < layout.band[head]
        assert len(way) % 6 == 2 or not layout.curved
        assert way[1] == pytest.approx(boxes[tail][3], abs=0.6)
        assert way[-1] == pytest.approx(boxes[head][1], abs=0.6)
        assert boxes[tail][0] <= way[0] <= boxes[tail][2]
        assert boxes[head][0] <= way[-2] <= boxes[head][2]


@settings(max_examples=150, deadline=None)
@given(edge_lists, st.sampled_from([TIGHT, STRAIGHT]), st.integers(5, 60))
def test_layout_of_any_graph(
    graph: tuple[int, list[tuple[int, int, int]]], spacing: Spacing, width: int
) -> None:
    """Also of nodes of different sizes, broken or not."""
    diagram = diagram_of(*graph)
    widths = [float(width + node.id % 7) for node in diagram.nodes]
    heights = [10.0 + node.id % 3 for node in diagram.nodes]
    check(diagram, lay_out(diagram, widths, heights, spacing), widths, heights)


@pytest.mark.parametrize("n", [1, 2, 30, 300])
@pytest.mark.parametrize("shape", ["chain", "fan", "alone", "ladder"])
def test_common_shapes_are_no_threads(shape: str, n: int) -> None:
    """Neither a chain nor a fan makes a picture that is all width or all height."""
    edges = {
        "chain": [(i, i + 1, 0) for i in range(n - 1)],
        "fan": [e for i in range(1, n - 1) for e in ((0, i, 0), (i, n - 1, 0))],
        "alone": [],
        "ladder": [(i, j, 3) for i in range(n) for j in (i + 1, i + 2) if j < n],
    }[shape]
    diagram = diagram_of(n, edges)
    look = look_for(n)
    widths, heights = node_sizes(diagram, look)
    layout = lay_out(diagram, widths, heights, look.spacing)
    check(diagram, layout, widths, heights)
    if n == 300:
        assert 0.3 < layout.width / layout.height < 5


def test_rows_of_a_late_source() -> None:
    """What waits for nothing stands above the first that needs it, not at the top."""
    assert rows_of(5, [0, 1, 2, 3], [1, 2, 4, 4]) == [0, 1, 2, 2, 3]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.1, 10)), min_size=1, max_size=30))
def test_spread_keeps_its_distance(wanted: list[tuple[float, float]]) -> None:
    """In order and apart, and where there is room exactly as wanted."""
    places = spread([w for w, _ in wanted], [weight for _, weight in wanted], [2.0] * len(wanted))
    assert all(b - a >= 2.0 - 1e-6 for a, b in pairwise(places))
    far = [100.0 * i for i in range(len(wanted))]
    assert spread(far, [1.0] * len(far), [2.0] * (len(far) - 1)) == pytest.approx(far)


def test_plain_output_of_graphviz() -> None:
    """Inches from below become pixels from above; two edges between two nodes are two ways."""
    text = (
        "graph 1 2 3\n"
        'node 0 1 2.5 1 0.5 "" solid box black lightgrey\n'
        'node 1 1 0.5 1 0.5 "" solid box black lightgrey\n'
        "edge 0 1 4 1 2 1 1.5 1 1 1 0.75 solid black\n"
        "edge 0 1 4 2 2 2 1.5 2 1 2 0.75 solid black\n"
        "stop\n"
    )
    diagram = diagram_of(2, [(0, 1, 0), (0, 1, 2)])
    layout = parse_plain(text, diagram)
    assert (layout.width, layout.height) == (144, 216)
    assert (layout.y, layout.x) == ([36, 180], [72, 72])
    assert sorted(way[0] for way in layout.routes) == [72, 144]
    with pytest.raises(ValueError, match="missing"):
        parse_plain(text, diagram_of(3, [(0, 2, 0)]))


def test_names_are_shortened_in_the_middle() -> None:
    """The end of a name is often what tells it from others."""
    name = "a_very_long_name_of_a_task_0042"
    short = shorten(name, 12, 120)
    assert text_width(short, 12) <= 120
    assert short.startswith("a_very")
    assert short.endswith("0042")
    assert "…" in short
    assert shorten("ab", 12, 120) == "ab"
