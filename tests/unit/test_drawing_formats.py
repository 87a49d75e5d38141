"""Diagrams as dot, json, svg, pdf and png."""

from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alamo.core.edges import KINDS
from alamo.drawing import files, graphviz
from alamo.drawing.diagram import STATES, Diagram, Node
from alamo.drawing.dot import to_dot
from alamo.drawing.json import Graph, to_json
from alamo.drawing.layout import Layout
from alamo.drawing.pdf import to_pdf
from alamo.drawing.png import dashes, to_png
from alamo.drawing.scene import Lines, Scene
from alamo.drawing.style import EDGES, FILLS
from alamo.drawing.svg import to_svg
from alamo.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"
ODD_NAMES = ['quote " and \\ back', "<&>]]>", "(par(en)\\", "größe 三\n\0\x1b", "\udcff", "n" * 500]


def sample(names: list[str | None] | None = None) -> Diagram:
    """A node of each type and state, an edge of each kind."""
    names = names or [f"name {k}" for k in range(len(STATES))]
    nodes = [Node(k, "task", k + 1, name, STATES[k % len(STATES)]) for k, name in enumerate(names)]
    n = len(nodes)
    nodes.append(Node(n, "array", 77, "simulate", "done", size=2000))
    nodes.append(Node(n + 1, "join", None, None, "pending"))
    edges = [(k, n, k) for k in range(4)] + [(4, n + 1, 0), (n, n + 1, 0)]
    return Diagram("task 9 (all)", nodes, edges)


@pytest.fixture(autouse=True)
def _own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with and without pygraphviz; what is about Graphviz calls it."""
    monkeypatch.setattr(files, "dot_layout", lambda *args: None)


def test_json_is_read_back() -> None:
    """The documented form, all of it."""
    graph = msgspec.json.decode(to_json(sample()), type=Graph)
    assert (graph.format, graph.version, graph.title) == ("alamo-dag", 1, "task 9 (all)")
    n = len(STATES)
    assert (graph.tasks, graph.levels) == (n + 1, 2)
    assert [node.id for node in graph.nodes] == list(range(n + 2))
    assert [node.state for node in graph.nodes[:n]] == list(STATES)
    assert (graph.nodes[n].type, graph.nodes[n].size, graph.nodes[n].level) == ("array", 2000, 1)
    assert (graph.nodes[n + 1].type, graph.nodes[n + 1].uid) == ("join", None)
    assert [e.kind for e in graph.edges if e.head == n] == list(KINDS)
    assert all(edge.tail < edge.head for edge in graph.edges)


def test_json_of_nothing_special() -> None:
    """No edges, odd names: still JSON."""
    diagram = Diagram("\udcff", [Node(0, "task", 1, "\udcff\n", "done")], [])
    assert msgspec.json.decode(to_json(diagram))["nodes"][0]["name"] == "?\n"
    assert msgspec.json.decode(to_json(diagram))["edges"] == []


def test_dot_tells_all_apart() -> None:
    """Every state and every kind of edge has its own look."""
    text = to_dot(sample()).decode()
    for fill, _ in FILLS.values():
        assert f'fillcolor="{fill}"' in text
    for style in EDGES.values():
        assert f'color="{style.colour}"' in text
    assert "peripheries=2" in text
    assert "simulate × 2000" in text
    assert "shape=point" in text


def test_styles_differ() -> None:
    """In colour, and without colour too."""
    assert len(set(FILLS.values())) == len(STATES)
    assert len({style.colour for style in EDGES.values()}) == len(KINDS)
    assert len({(style.dash, style.width) for style in EDGES.values()}) == len(KINDS)


def test_svg_has_names_states_and_a_legend() -> None:
    """It is XML, and all words are there."""
    root = ElementTree.fromstring(to_svg(files.scene_of(sample())))
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    for k, state in enumerate(STATES):
        assert f"name {k}" in words
        assert f"task {k + 1} · {state}" in words
    assert "simulate × 2,000" in words
    for state in ("1 pending", "1 running or ready", "2 done", "1 failed", "1 cancelled"):
        assert state in words
    for kind, count in (("RAW", 3), ("argument", 1), ("WAR", 1), ("WAW", 1)):
        assert any(word.startswith(f"{count} {kind}: ") for word in words)
    colours = {path.get("stroke") for path in root.iter(f"{SVG}path")}
    assert colours >= {style.colour for style in EDGES.values()}


def test_odd_names_break_no_format() -> None:
    """Whatever is in a name, the file can be read."""
    diagram = sample(list(ODD_NAMES))
    scene = files.scene_of(diagram)
    ElementTree.fromstring(to_svg(scene))
    assert to_pdf(scene).startswith(b"%PDF")
    assert to_png(scene).startswith(b"\x89PNG")
    msgspec.json.decode(to_json(diagram))
    assert to_dot(diagram).decode().count("\n  n") >= len(diagram.nodes)


def test_pdf_is_whole() -> None:
    """The table of objects points at them, and the page has the texts."""
    data = to_pdf(files.scene_of(sample()))
    table = data[int(data.split(b"startxref\n")[1].split()[0]) :]
    assert table.startswith(b"xref\n0 6\n")
    for number, line in enumerate(table.splitlines()[3:8], 1):
        assert data[int(line[:10]) :].startswith(b"%d 0 obj" % number)
    stream = data.split(b"stream\n", 1)[1].split(b"\nendstream")[0]
    content = zlib.decompress(stream).decode("cp1252")
    assert "(name 0) Tj" in content
    assert "(simulate × 2,000) Tj" in content


def test_png_has_the_colours() -> None:
    """The states and kinds of edge are in the picture."""
    image_module = pytest.importorskip("PIL.Image")
    scene = files.scene_of(sample())
    image = image_module.open(io.BytesIO(to_png(scene)))
    assert image.size == (round(2 * scene.width), round(2 * scene.height))
    colours = {colour for _, colour in image.getcolors(1 << 24)}
    for fill, _ in FILLS.values():
        assert tuple(bytes.fromhex(fill[1:])) in colours


def test_huge_pictures_are_scaled_down() -> None:
    """A scene of a hundred thousand pixels a side is still a file of some megapixels."""
    image_module = pytest.importorskip("PIL.Image")
    scene = Scene("t", 100_000, 50_000, [Lines([[0, 0, 9, 9]], "#000000", 1, (), 0.5, False)])
    image = image_module.open(io.BytesIO(to_png(scene)))
    assert image.size[0] * image.size[1] <= 33_000_000
    assert b"MediaBox [0 0 14400.00 7200.00]" in to_pdf(scene)


def test_dashes_cover_their_share() -> None:
    """Of a bent line, and of one shorter than a dash."""
    pieces = list(dashes([0, 0, 50, 0, 50, 50], [6.0, 4.0]))
    assert len(pieces) == 10
    assert pieces[5] == [50, 10, 50, 16] or pieces[5][:2] == [50.0, 0.0]
    assert list(dashes([0, 0, 3, 0], [6.0, 4.0])) == [[0, 0, 3, 0]]


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the other formats still work."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    scene = files.scene_of(sample())
    with pytest.raises(UsageError, match=r"pip install 'alamo\[dag\]'"):
        to_png(scene)
    assert to_svg(scene)
    assert to_pdf(scene)


def test_without_pygraphviz_the_own_layout_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started then, nor for what is too large."""
    monkeypatch.setattr(subprocess, "run", lambda *args, **kw: pytest.fail("a child"))
    diagram = sample()
    widths = [10.0] * len(diagram.nodes)
    large = Diagram("t", [Node(i, "task", i, None, "done") for i in range(1001)], [])
    assert graphviz.dot_layout(large, [1.0] * 1001, [1.0] * 1001, files.look_for(9).spacing) is None
    monkeypatch.setattr(graphviz.importlib.util, "find_spec", lambda name: None)
    assert graphviz.dot_layout(diagram, widths, widths, files.look_for(9).spacing) is None


@pytest.mark.parametrize("fault", ["hangs", "dies", "mumbles"])
def test_a_child_that_fails_costs_only_its_time(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphviz that takes too long, dies or says something else: our own layout."""
    code = {
        "hangs": "while True: pass",
        "dies": "raise SystemExit(1)",
        "mumbles": "print('node x')",
    }
    monkeypatch.setattr(graphviz, "_CHILD", code[fault])
    monkeypatch.setattr(graphviz, "_LIMIT_S", 0.3)
    monkeypatch.setattr(graphviz.importlib.util, "find_spec", lambda name: True)
    diagram = sample()
    sizes = [10.0] * len(diagram.nodes)
    assert graphviz.dot_layout(diagram, sizes, sizes, files.look_for(9).spacing) is None


def test_graphviz_lays_out() -> None:
    """With the real one: every edge goes downwards, sizes are ours."""
    pytest.importorskip("pygraphviz")
    diagram = sample()
    sizes = [30.0 + node.id for node in diagram.nodes]
    layout = graphviz.dot_layout(diagram, sizes, sizes, files.look_for(9).spacing)
    assert isinstance(layout, Layout)
    for tail, head in zip(diagram.tails, diagram.heads):
        assert layout.y[tail] + sizes[tail] / 2 < layout.y[head] - sizes[head] / 2
    assert max(layout.x) < layout.width


def test_endings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the ending, large or small; none is a png; others are refused before any work."""
    pytest.importorskip("PIL")
    heads = {
        ".png": b"\x89PNG",
        ".PNG": b"\x89PNG",
        "": b"\x89PNG",
        ".svg": b"<svg",
        ".pdf": b"%PDF",
    }
    for ending, head in {**heads, ".dot": b"digraph", ".json": b'{"format"'}.items():
        path = tmp_path / f"dag{ending}"
        files.write(sample(), str(path) if ending == ".svg" else path)
        assert path.read_bytes().startswith(head), ending
    for name in ("dag.jpg", "dag.v1", "dag.gv.zip"):
        with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf, \.dot, \.json"):
            files.write(sample(), tmp_path / name)


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    """The error of the system, which names the path."""
    with pytest.raises(FileNotFoundError, match="missing"):
        files.write(sample(), tmp_path / "missing" / "dag.json")
    (tmp_path / "dag.svg").mkdir()
    with pytest.raises(IsADirectoryError, match=r"dag\.svg"):
        files.write(sample(), tmp_path / "dag.svg")


def test_large_diagrams_have_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some thousand tasks are drawn, without names, and the legend still says what is what."""
    nodes: list[Any] = [Node(i, "task", i + 1, f"n{i}", "done") for i in range(3000)]
    diagram = Diagram("many", nodes, [(i, i + 50, 0) for i in range(2950)])
    root = ElementTree.fromstring(to_svg(files.scene_of(diagram)))
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert "3,000 done" in words
    assert not any(word and word.startswith("n1") for word in words)
    assert len(list(root.iter(f"{SVG}rect"))) >= 3000
    assert len(words) < 10
