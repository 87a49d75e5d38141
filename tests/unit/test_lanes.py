"""Terms of elements in columns, and ready elements by what they need."""

from __future__ import annotations

from array import array

import pytest

from alamo.core.lanes import Lanes
from alamo.core.ready import ReadyRanges, ReadyRanks
from alamo.core.term_table import TermTable
from alamo.core.terms import DEFAULT_TERMS, Need, Terms
from alamo.errors import GraphError

TWO = Need(2)


def table(*pages: tuple[int, int | list[int]]) -> TermTable:
    """Terms 1 retry, 2 need two cores, 3 need them and retry."""
    made = TermTable()
    for number, terms in enumerate((Terms(retries=1), Terms(TWO), Terms(Need(2), 5)), 1):
        made.define(number, terms)
    first = 0
    for count, terms in pages:
        column = terms if isinstance(terms, int) else array("I", terms).tobytes()
        made.add_page(first, count, column)
        first += count
    return made


def test_each_element_has_its_terms() -> None:
    numbers = [0] * 5 + [1] * 7 + [0, 2, 2, 1] + [1, 1]
    made = table((5, 0), (3, 1), (4, 1), (4, [0, 2, 2, 1]), (0, 2), (2, 1))
    assert [made.number_of(e) for e in range(18)] == numbers
    assert list(made.numbers([17, 0, 13])) == [1, 0, 2]
    assert made.of(0) is DEFAULT_TERMS
    assert made.of(99_999).retries == 1, "one more of the last"
    assert [(r, n) for r, n in made.runs(range(3, 15))] == [
        (range(3, 5), 0),
        (range(5, 12), 1),
        (range(12, 13), 0),
        (range(13, 15), 2),
    ]


def test_alike_pages_cost_one_entry() -> None:
    made = table(*[(1024, 1)] * 1000)
    assert list(made.runs(range(1_024_000))) == [(range(1_024_000), 1)]
    assert not made.has_needs
    assert table((1, [2])).has_needs


@pytest.mark.parametrize("terms", [4, -1, [0, 1, 4], [0, 1]])
def test_pages_that_cannot_be_right_change_nothing(terms: int | list[int]) -> None:
    made = table((3, 1))
    column = terms if isinstance(terms, int) else array("I", terms).tobytes()
    with pytest.raises(GraphError):
        made.add_page(3, 3, column)
    assert list(made.runs(range(3))) == [(range(3), 1)]
    with pytest.raises(GraphError):
        made.define(7, Terms())


def test_ready_elements_lie_in_the_lane_of_their_need() -> None:
    plain = ReadyRanges()
    lanes = Lanes(table((2, 1), (2, 2), (2, 3), (3, [0, 2, 0])), plain)
    lanes.add(range(9))
    assert list(plain.elements()) == [0, 1, 6, 8]
    (lane,) = lanes.all
    assert lane.need == TWO
    assert list(lane.ready.elements()) == [2, 3, 4, 5, 7]
    assert len(lanes) == 5
    assert lanes.lane_of(7) is lane
    assert lanes.lane_of(1) is None
    assert lane.ready.take(3) == range(2, 5) or lane.ready.take(1) == range(4, 5)
    lanes.remove([5])
    lanes.give_back(range(0, 4))
    assert list(plain.elements())[:2] == [0, 1]
    assert list(lane.ready.elements())[:2] == [2, 3]


def test_lanes_of_a_program_with_edges_keep_the_ranks() -> None:
    ranks = [1, 9, 5, 7, 3, 2]
    plain = ReadyRanks(ranks)
    lanes = Lanes(table((6, [0, 2, 2, 0, 2, 0])), plain)
    lanes.add([0, 1, 2, 3, 4, 5])
    (lane,) = lanes.all
    assert plain.take(2) == [3, 5]
    assert lane.ready.head() < plain.head(), "the longest path first"
    assert lane.ready.take(2) == [1, 2]


def test_ready_elements_can_be_taken_out() -> None:
    ranges = ReadyRanges()
    ranges.add(range(10))
    ranges.add(range(20, 25))
    ranges.remove([0, 4, 5, 24, 99])
    assert list(ranges.elements()) == [1, 2, 3, 6, 7, 8, 9, 20, 21, 22, 23]
    assert len(ranges) == 11
    ranks = ReadyRanks([3, 3, 3, 1, 1])
    ranks.add([0, 1, 2, 3, 4])
    assert ranks.take(1) == [0]
    ranks.remove([1, 2, 0])
    assert len(ranks) == 2
    assert ranks.take(5) == [3, 4]
