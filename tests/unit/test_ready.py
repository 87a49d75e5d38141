"""Ready elements come out in the order in which they should be dealt, each once."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alamo.core.ready import ReadyRanges, ReadyRanks


def test_ranges_come_first_in_first_out() -> None:
    ready = ReadyRanges()
    ready.add(range(0, 5))
    ready.add(range(7, 9))
    assert (ready.take(3), ready.take(3), ready.take(3)) == (range(3), range(3, 5), range(7, 9))
    assert len(ready) == 0


def test_neighbours_become_one_range() -> None:
    """Tasks that are started one by one can be dealt together."""
    ready = ReadyRanges()
    for element in range(10):
        ready.add(range(element, element + 1))
    assert ready.take(6) == range(6)
    ready.give_back(range(3, 6))
    assert ready.take(9) == range(3, 10)


def test_given_back_ranges_come_first_again() -> None:
    ready = ReadyRanges()
    ready.add(range(0, 10))
    taken = ready.take(4)
    ready.give_back(taken[1:3])
    assert len(ready) == 8
    assert (ready.take(9), ready.take(9)) == (range(1, 3), range(4, 10))


def test_empty_ranges_leave_no_trace() -> None:
    ready = ReadyRanges()
    ready.add(range(3, 3))
    ready.give_back(range(0))
    assert len(ready) == 0
    assert list(ready.elements()) == []
    ready.add(range(1))
    assert ready.take(5) == range(1)


def test_a_million_elements_cost_as_much_as_one() -> None:
    ready = ReadyRanges()
    ready.add(range(1_000_000_000))
    assert ready.take(10) == range(10)
    assert len(ready) == 999_999_990


def test_a_list_is_no_range() -> None:
    with pytest.raises(AssertionError):
        ReadyRanges().add([1, 2])


def test_the_highest_rank_comes_first_and_program_order_within() -> None:
    ready = ReadyRanks([0, 3, 1, 3, 3])
    ready.add([0, 1, 2, 3, 4])
    assert ready.take(2) == [1, 3]
    assert ready.take(9) == [4, 2, 0]
    assert ready.take(1) == []


def test_without_ranks_all_are_alike() -> None:
    ready = ReadyRanks(None)
    ready.add([5, 3])
    ready.add([4])
    assert ready.take(9) == [5, 3, 4]


def test_ranks_may_be_a_view_of_bytes() -> None:
    ready = ReadyRanks(memoryview(array("I", [1, 2**32 - 1]).tobytes()).cast("I"))
    ready.add([0, 1])
    assert ready.take(2) == [1, 0]


def test_a_rank_may_run_empty_and_come_back() -> None:
    ready = ReadyRanks([7] * 9)
    ready.add([0, 1, 2])
    assert ready.take(2) == [0, 1]
    assert ready.take(2) == [2]
    ready.give_back([1, 0])
    assert ready.take(3) == [1, 0]


@pytest.mark.parametrize("ready", [ReadyRanges(), ReadyRanks([0] * 20)])
def test_clear_forgets_all(ready: ReadyRanges | ReadyRanks) -> None:
    ready.add(range(0, 10))
    ready.take(3)
    ready.clear()
    assert len(ready) == 0
    assert list(ready.elements()) == []
    ready.add(range(12, 14))
    assert list(ready.take(5)) == [12, 13]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9)),
        st.tuples(st.just("take"), st.integers(1, 9)),
        st.tuples(st.just("back"), st.integers(0, 9)),
    ),
    max_size=40,
)


@given(STEPS, st.binary(min_size=400, max_size=400))
def test_ranks_against_a_sorted_list(steps: list[tuple[str, int]], drawn: bytes) -> None:
    """A stable sort by rank says the same."""
    ranks = [byte % 4 for byte in drawn]
    ready, model, taken, added = ReadyRanks(ranks), [], [], 0
    for step, count in steps:
        if step == "add":
            new = list(range(added, added + count))
            ready.add(new)
            model += new
            added += count
        elif step == "take":
            model.sort(key=lambda e: -ranks[e])
            taken = ready.take(count)
            assert taken == model[:count]
            model = model[count:]
        else:
            ready.give_back(taken[:count])
            model += taken[:count]
            taken = []
        assert len(ready) == len(model)
        assert sorted(ready.elements()) == sorted(model)


@given(STEPS)
def test_ranges_against_a_list(steps: list[tuple[str, int]]) -> None:
    ready, model, taken, added = ReadyRanges(), [], range(0), 0
    for step, count in steps:
        if step == "add":
            ready.add(range(added, added + count))
            model += range(added, added + count)
            added += count
        elif step == "take":
            if model:
                taken = ready.take(count)
                assert 0 < len(taken) <= count
                assert model[: len(taken)] == list(taken)
                model = model[len(taken) :]
        else:
            back = taken[-count:] if count else range(0)
            ready.give_back(back)
            model[:0] = back
            taken = range(0)
        assert len(ready) == len(model)
        assert list(ready.elements()) == model
