"""dump_dag of real programs: before, while and after they run; arrays, joins, single tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alamo import Batch
from alamo.drawing.json import Graph
from alamo.errors import UsageError


def work(*args: Any) -> Any:
    return args[0] if args else None


def fail(*args: Any) -> None:
    raise ValueError("as planned")


def wait_for(path: Path) -> None:
    import time

    while not path.exists():
        time.sleep(0.01)


@pytest.fixture
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as made:
        yield made


def graph_of(task: Any, tmp_path: Path) -> Graph:
    assert task.dump_dag(str(tmp_path / "dag.json")) is None
    return msgspec.json.decode((tmp_path / "dag.json").read_bytes(), type=Graph)


def edges_of(graph: Graph) -> set[tuple[str | None, str | None, str]]:
    names = [node.name for node in graph.nodes]
    return {(names[edge.tail], names[edge.head], edge.kind) for edge in graph.edges}


def test_kinds_of_edges(batch: Batch, tmp_path: Path) -> None:
    """RAW, WAR, WAW and arguments are told apart; a function's name stands in for a missing one."""
    d: dict[str, int] = {}
    read, write = batch.read(d, "x"), batch.write(d, "x")
    first = batch.function(work, writes=write, name="first")
    rewrite = batch.function(work, writes=write, name="rewrite")
    tasks = [
        first,
        rewrite,
        batch.function(fail, reads=read),
        batch.function(work, first.result, writes=write, name="last"),
    ]
    graph = graph_of(batch.compile(tasks, name="kinds"), tmp_path)
    assert edges_of(graph) == {
        ("first", "rewrite", "WAW"),
        ("rewrite", "fail", "RAW"),
        ("fail", "last", "WAR"),
        ("first", "last", "argument"),
    }
    assert graph.title.endswith("(kinds)")
    assert [node.uid for node in graph.nodes] == [task.uid for task in tasks]
    assert [node.level for node in graph.nodes] == [0, 1, 2, 3]


def test_states_before_while_and_after(batch: Batch, tmp_path: Path) -> None:
    """As far as the client knows them."""
    go = tmp_path / "go"
    done = batch.function(work, 1, name="done")
    bad = batch.function(fail, name="bad")
    tasks = [
        done,
        bad,
        batch.function(wait_for, go, name="running"),
        batch.function(work, bad.result, name="skipped"),
    ]
    tasks.append(batch.function(work, tasks[2].result, name="pending"))
    program = batch.compile(tasks)
    assert {node.state for node in graph_of(program, tmp_path).nodes} == {"pending"}
    program.start()
    tasks[3].result.task.program.client.waits.element(tasks[3].program, tasks[3].index, 30)
    done.result.get()
    now = {node.name: node.state for node in graph_of(program, tmp_path).nodes}
    assert now == {
        "done": "done",
        "bad": "failed",
        "running": "running",
        "skipped": "skipped",
        "pending": "pending",
    }
    go.touch()
    program.wait()
    states = [node.state for node in graph_of(program, tmp_path).nodes]
    assert states == ["done", "failed", "done", "skipped", "done"]


def test_arrays_are_one_node(batch: Batch, tmp_path: Path) -> None:
    """However their elements are kept; their joins and inner edges do not show."""
    d: dict[Any, int] = {}
    seed = batch.function(work, 0, writes=batch.write(d, 0), name="seed")
    chain = batch.map(
        work,
        range(40),
        reads=lambda i: batch.read(d, i),
        writes=lambda i: batch.write(d, i + 1),
        name="chain",
    )
    whole = batch.map(work, range(30), reads=batch.read(d), writes=batch.write(d, "out"))
    total = batch.function(work, chain.result, reads=batch.read(d, "out"), name="total")
    program = batch.compile([seed, chain, whole, total])
    graph = graph_of(program, tmp_path)
    tasks = [node for node in graph.nodes if node.type != "join"]
    assert [(n.name, n.type, n.size) for n in tasks] == [
        ("seed", "task", None),
        ("chain", "array", 40),
        ("work", "array", 0),
        ("total", "task", None),
    ]
    assert ("seed", "chain", "RAW") in edges_of(graph)
    assert ("chain", "total", "argument") in edges_of(graph)
    assert ("work", "total", "RAW") in edges_of(graph)
    assert all(edge.tail < edge.head for edge in graph.edges)
    assert len({(e.tail, e.head, e.kind) for e in graph.edges}) == len(graph.edges)
    program.run()
    tasks = [node for node in graph_of(program, tmp_path).nodes if node.type != "join"]
    assert [(n.state, n.size) for n in tasks] == [
        ("done", None),
        ("done", 40),
        ("done", 30),
        ("done", None),
    ]


def test_an_array_that_fails_or_is_skipped(batch: Batch, tmp_path: Path) -> None:
    """Its state is that of all its elements together."""
    d: dict[Any, int] = {}
    bad = batch.map(fail, range(3), writes=batch.write(d, "a"), name="bad")
    behind = batch.map(work, range(3), reads=batch.read(d, "a"), name="behind")
    apart = batch.map(fail, range(3), writes=lambda i: batch.write(d, (1, i)), name="apart")
    after = batch.map(work, range(3), reads=lambda i: batch.read(d, (1, i)), name="after")
    program = batch.compile([bad, behind, apart, after])
    with pytest.warns(RuntimeWarning, match="failed"):
        program.run()
    states = {n.name: n.state for n in graph_of(program, tmp_path).nodes if n.type == "array"}
    assert states == {"bad": "failed", "behind": "skipped", "apart": "failed", "after": "skipped"}


def test_joins_are_no_tasks(batch: Batch, tmp_path: Path) -> None:
    """Many that wait for many: the edges go through a join, which has no uid."""
    d: dict[Any, int] = {}
    tasks = [batch.function(work, writes=batch.write(d, i)) for i in range(30)]
    tasks += [batch.function(work, reads=batch.read(d)) for _ in range(30)]
    graph = graph_of(batch.compile(tasks), tmp_path)
    joins = [node for node in graph.nodes if node.type == "join"]
    assert joins
    assert all(join.uid is None for join in joins)
    assert (graph.tasks, graph.levels) == (60, 2)
    assert len(graph.edges) < 200


def test_single_tasks(batch: Batch, tmp_path: Path) -> None:
    """One node, whatever has become of it; a subtask shows the program that it is part of."""
    single = batch.function(work, 3, name="alone")
    (node,) = graph_of(single, tmp_path).nodes
    assert (node.name, node.state, node.uid) == ("alone", "pending", single.uid)
    single.run()
    (node,) = graph_of(single, tmp_path).nodes
    assert (node.name, node.state) == ("alone", "done")
    unnamed = batch.function(work, 3)
    assert graph_of(unnamed, tmp_path).nodes[0].name == "work"
    array = batch.map(work, range(7))
    assert graph_of(array, tmp_path).nodes[0].state == "pending"
    array.run()
    (node,) = graph_of(array, tmp_path).nodes
    assert (node.type, node.size, node.state, node.name) == ("array", 7, "done", "work")
    spread = batch.map(work, range(4), writes=lambda i: batch.write("/tmp", f"{i}"))
    spread.run()
    (node,) = graph_of(spread, tmp_path).nodes
    assert (node.type, node.size, node.state) == ("array", 4, "done")
    subtask = batch.function(work)
    batch.compile([subtask, batch.function(work, subtask.result)])
    assert graph_of(subtask, tmp_path).tasks == 2


def test_pictures(batch: Batch, tmp_path: Path) -> None:
    """The documented call writes a PNG; nothing is written where that cannot be."""
    pytest.importorskip("PIL")
    program = batch.compile([batch.function(work, i) for i in range(5)])
    program.dump_dag("".join([str(tmp_path), "/dag.png"]))
    assert (tmp_path / "dag.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="can be written as"):
        program.dump_dag(str(tmp_path / "dag.bmp"))
    with pytest.raises(FileNotFoundError):
        program.dump_dag(str(tmp_path / "nowhere" / "dag.png"))


def test_drawing_while_it_runs(batch: Batch, tmp_path: Path) -> None:
    """Outcomes come in meanwhile; counts never go back."""
    program = batch.compile([batch.function(work, i) for i in range(20_000)])
    thread = threading.Thread(target=program.start)
    thread.start()
    done = -1
    while done < 20_000:
        now = sum(node.state == "done" for node in graph_of(program, tmp_path).nodes)
        assert now >= done
        done = now
    thread.join()


def test_after_the_batch_has_ended(tmp_path: Path) -> None:
    """The picture needs no service."""
    with Batch(num_workers=1) as batch:
        program = batch.compile([batch.function(work, 1)])
        program.run()
    assert [node.state for node in graph_of(program, tmp_path).nodes] == ["done"]
    with Batch(num_workers=1) as batch:
        program = batch.compile([batch.function(work, 1)])
    assert [node.state for node in graph_of(program, tmp_path).nodes] == ["pending"]
