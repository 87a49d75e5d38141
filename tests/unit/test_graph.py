"""Functions over the columns of a graph, against plain recursive definitions."""

from __future__ import annotations

import random
from array import array
from functools import cache
from itertools import pairwise

import pytest

from alamo.core.edges import ORDER_ONLY
from alamo.core.graph import Dag, check_columns, critical_path, levels, ranks
from alamo.core.hazards import HazardTracker
from alamo.errors import GraphError


def random_dag(rng: random.Random, n: int) -> Dag:
    """A random graph with some joins and some order-only edges."""
    joins = [i for i in range(n) if rng.random() < 0.1]
    return Dag.of(
        [
            [
                p | rng.choice((0, ORDER_ONLY))
                for p in rng.sample(range(i), min(i, rng.choice((0, 0, 1, 2, 3))))
            ]
            for i in range(n)
        ],
        joins,
    )


@pytest.mark.parametrize("seed", range(20))
def test_ranks_and_levels(seed: int) -> None:
    """Ranks and levels are the longest paths to an end and from a start, joins for nothing."""
    dag = random_dag(random.Random(seed), 60)
    after: list[list[int]] = [[] for _ in range(len(dag))]
    for p, i in dag.edges():
        after[p].append(i)

    @cache
    def rank(i: int) -> int:
        return (i not in dag.joins) + max((rank(s) for s in after[i]), default=0)

    @cache
    def level(i: int) -> int:
        return max((level(p) + (p not in dag.joins) for p in dag.predecessors(i)), default=0)

    assert dag.ranks().tolist() == [rank(i) for i in range(len(dag))]
    assert dag.levels().tolist() == [level(i) for i in range(len(dag))]


@pytest.mark.parametrize("seed", range(20))
def test_critical_path(seed: int) -> None:
    """The critical path is a path, of the length it claims, and no path is longer."""
    rng = random.Random(seed)
    dag = random_dag(rng, 40)
    durations_s = [rng.random() for _ in range(len(dag))]

    @cache
    def finish(i: int) -> float:
        return durations_s[i] + max((finish(p) for p in dag.predecessors(i)), default=0.0)

    length_s, path = dag.critical_path(durations_s)
    assert length_s == pytest.approx(max(map(finish, range(len(dag)))))
    assert length_s == pytest.approx(sum(durations_s[i] for i in path))
    assert set(pairwise(path)) <= set(dag.edges())


def test_nothing_and_no_edges() -> None:
    """Empty columns are fine everywhere."""
    assert ranks([], [], 0).tolist() == []
    assert ranks(b"", array("I"), 3).tolist() == [1, 1, 1]
    assert levels([0, 0], [], 2).tolist() == [0, 0]
    assert critical_path([], [], []) == (0.0, [])
    assert critical_path([0, 0], [], [1.0, 2.0]) == (2.0, [1])
    check_columns([], [], 0)


def test_zero_durations_still_follow_edges() -> None:
    """A path through elements of no duration goes back to its start."""
    assert Dag.of([[], [0], [1 | ORDER_ONLY]]).critical_path([0.0, 0.0, 1.0]) == (1.0, [0, 1, 2])


@pytest.mark.parametrize(
    ("ends", "preds", "n", "text"),
    [
        ([0], [], 2, "do not describe"),
        ([0, 1], [], 2, "do not describe"),
        ([], [0], 0, "do not describe"),
        ([1], [0], 1, "itself or a later"),
        ([0, 1], [1 | ORDER_ONLY], 2, "itself or a later"),
        ([0, 2], [0, 0 | ORDER_ONLY], 2, "twice"),
        ([0, 2, 1], [0], 3, "before they begin"),
    ],
)
def test_bad_columns(ends: list[int], preds: list[int], n: int, text: str) -> None:
    """Every broken invariant is named."""
    with pytest.raises(GraphError, match=text):
        check_columns(ends, preds, n)


def test_dag_of_pages_and_kinds() -> None:
    """Pages put together give one graph, also across pages without edges."""
    tracker = HazardTracker()
    pages = []
    tracker.add_plain(2)
    pages.append(tracker.drain())
    tracker.add((), (), (0, 1))
    tracker.add_plain()
    pages.append(tracker.drain())
    tracker.add((), (), (2,))
    pages.append(tracker.drain())
    dag = Dag.of_pages(pages)
    assert dag.edges() == [(0, 2), (1, 2), (2, 4)]
    assert list(dag.sizes()) == [0, 0, 2, 0, 1]
    assert dag.kind(2, 4) == "data"
    with pytest.raises(GraphError, match="does not wait"):
        dag.kind(0, 4)
