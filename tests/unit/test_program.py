"""A program's columns: pages in, what is ready and what is skipped out."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alamo.core.checks import check_program
from alamo.core.chunks import fuse
from alamo.core.edges import ORDER_ONLY
from alamo.core.program import Program
from alamo.core.states import DEALT, DONE, FAILED, PENDING, SKIPPED
from alamo.errors import GraphError

Rows = Sequence[Sequence[int]]


def columns(rows: Rows) -> tuple[bytes, bytes]:
    ends, preds = array("I"), array("I")
    for row in rows:
        preds.extend(row)
        ends.append(len(preds))
    return ends.tobytes(), preds.tobytes()


def opened(*pages: Rows | int, joins: tuple[int, ...] = ()) -> Program:
    """A page is given by its rows, or by its length when it has no columns."""
    program = Program(0, 0, 0)
    for page in pages:
        if isinstance(page, int):
            program.add_page(page, b"", b"", ())
        else:
            here = range(program.count, program.count + len(page))
            program.add_page(len(page), *columns(page), [j for j in joins if j in here])
    check_program(program)
    return program


def started(*pages: Rows | int, joins: tuple[int, ...] = ()) -> Program:
    program = opened(*pages, joins=joins)
    program.start(b"")
    check_program(program)
    return program


def take(program: Program, *elements: int) -> None:
    """The elements go to a worker as a chunk that is not extended."""
    assert set(elements) <= set(program.ready.elements())
    left = [e for e in program.ready.take(program.count) if e not in elements]
    fuse(program, list(elements), 0)
    program.ready.add(left)
    check_program(program)


def ready(program: Program) -> list[int]:
    return list(program.ready.elements())


# -- pages -----------------------------------------------------------------------------


def test_pages_without_edges_cost_a_byte_an_element() -> None:
    program = opened(1_000_000, 1_000_000)
    assert program.count == program.unfinished == 2_000_000
    assert not program.has_edges
    assert not program.waiting
    assert not program.successors


def test_pages_with_and_without_edges_mix() -> None:
    program = opened(2, [[0], [1, 2]], 1, [[4, 0], []], 3)
    assert program.waiting == [0, 0, 1, 2, 0, 2, 0, 0, 0, 0]
    assert [list(program.successors_of(e)) for e in range(6)] == [[2, 5], [3], [3], [], [5], []]
    program.start(b"")
    assert ready(program) == [0, 1, 4, 6, 7, 8, 9]


def test_empty_pages_change_nothing() -> None:
    program = opened(0, [], 3, [], 0)
    program.start(b"")
    assert list(program.ready.take(9)) == [0, 1, 2]


def test_a_page_may_have_columns_and_no_edge() -> None:
    assert ready(started([[], []])) == [0, 1]


def test_columns_may_be_any_buffer() -> None:
    ends, preds = columns([[], [0]])
    program = Program(0, 0, 0)
    program.add_page(2, memoryview(ends).cast("I"), memoryview(bytearray(preds)), ())
    program.start(memoryview(array("I", [2, 1])))
    assert ready(program) == [0]


def test_an_order_only_edge_counts_like_another() -> None:
    program = opened([[], [0 | ORDER_ONLY], [0, 1 | ORDER_ONLY]])
    assert program.waiting == [0, 1, 2]
    assert list(program.successors_of(0)) == [1, 2]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 10, 1000])
def test_an_element_may_have_any_number_of_successors(n: int) -> None:
    program = opened([[]], *([[0]] for _ in range(n)))
    assert list(program.successors_of(0)) == list(range(1, n + 1))


def test_successors_are_kept_out_of_the_collectors_books() -> None:
    program = opened([[], *([e, e] for e in range(1000))])
    gc.collect()
    assert not any(gc.is_tracked(after) for after in program.successors)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=12), max_size=30),
    st.lists(st.integers(0, 7), max_size=8),
)
def test_successors_are_the_edges_turned_round(
    drawn: list[list[tuple[int, bool]]], sizes: list[int]
) -> None:
    rows = [
        [before | (ORDER_ONLY if order else 0) for before, order in row if before < element]
        for element, row in enumerate(drawn)
    ]
    pages: list[Rows] = []
    first = 0
    for size in [*sizes, len(rows)]:
        pages.append(rows[first : first + size])
        first += size
    program = opened(*pages)
    for before in range(len(rows)):
        expected = [e for e, row in enumerate(rows) for b in row if b % ORDER_ONLY == before]
        assert list(program.successors_of(before)) == expected
    assert program.waiting == [len(row) for row in rows] or not program.has_edges


# -- the start -------------------------------------------------------------------------


def test_joins_end_by_themselves_when_the_program_starts() -> None:
    program = started([[], [0], [1], [2]], joins=(0, 1))
    assert list(program.state) == [DONE, DONE, PENDING, PENDING]
    assert ready(program) == [2]
    assert program.unfinished == 2


def test_joins_need_no_edges() -> None:
    program = Program(0, 0, 0)
    program.add_page(1, b"", b"", ())
    program.add_page(2, b"", b"", (1,))
    program.start(b"")
    assert ready(program) == [0, 2]
    check_program(program)


def test_a_chain_of_joins_is_no_recursion() -> None:
    n = 100_000
    program = started([[e - 1] if e else [] for e in range(n)], joins=tuple(range(n)))
    assert program.unfinished == 0


# -- elements end ----------------------------------------------------------------------


def test_the_last_predecessor_frees_an_element() -> None:
    program = started([[], [], [0, 1]])
    take(program, 0, 1)
    program.finish([0])
    assert ready(program) == []
    program.finish([1])
    assert ready(program) == [2]
    check_program(program)


def test_a_whole_chunk_ends_in_one_walk() -> None:
    program = started([[], [0], [1, 0], [2], [2, 1]])
    elements = program.ready.take(1)
    outside = fuse(program, elements, 3)
    assert (elements, outside) == ([0, 1, 2], {3: 1, 4: 2})
    program.finish_whole(elements, outside)
    assert sorted(ready(program)) == [3, 4]
    check_program(program)


def test_what_a_chunk_leaves_outside_is_counted_by_edges() -> None:
    program = started([[], [], [0, 0, 1]])
    elements = program.ready.take(1)
    assert fuse(program, elements, 9) == {2: 2}
    program.finish_whole(elements, {2: 2})
    assert program.waiting[2] == 1


def test_given_back_elements_wait_again_for_those_given_back_with_them() -> None:
    program = started([[], [0], [1], []])
    elements = program.ready.take(1)
    fuse(program, elements, 3)
    assert elements == [0, 1, 2]
    program.finish([0])
    check_program(program)
    program.give_back([1, 2])
    assert sorted(ready(program)) == [1, 3]
    check_program(program)


def test_an_element_in_a_chunk_is_not_freed_by_its_predecessor_there() -> None:
    program = started([[], [0]])
    elements = program.ready.take(1)
    fuse(program, elements, 2)
    program.finish([0])
    assert ready(program) == []
    assert program.state[1] == DEALT


# -- failures --------------------------------------------------------------------------


def skips(program: Program) -> dict[int, int]:
    return dict(zip(program.skipped, program.roots, strict=True))


def test_failure_travels_along_data_edges_and_names_its_root() -> None:
    program = started([[], [0], [1], [1 | ORDER_ONLY], []])
    take(program, 0)
    program.finish([0], {0})
    assert skips(program) == {1: 0, 2: 0}
    assert sorted(ready(program)) == [3, 4]
    assert list(program.state[:3]) == [FAILED, SKIPPED, SKIPPED]
    check_program(program)


def test_the_root_is_a_failure_and_no_skipped_element() -> None:
    program = started([[], [0], [], [2, 1]])
    take(program, 0, 2)
    program.finish([2])
    program.finish([0], {0})
    assert skips(program) == {1: 0, 3: 0}


def test_of_several_failures_one_is_the_root() -> None:
    program = started([[], [], [0, 1]])
    take(program, 0, 1)
    program.finish([0, 1], {0, 1})
    assert skips(program) == {2: 0}


def test_a_skipped_element_ends_after_all_its_predecessors() -> None:
    program = started([[], [], [0, 1 | ORDER_ONLY]])
    take(program, 0, 1)
    program.finish([0], {0})
    assert program.state[2] == PENDING
    program.finish([1])
    assert skips(program) == {2: 0}


def test_failure_goes_through_joins_that_are_not_told() -> None:
    program = started([[], [0], [1], [2]], joins=(1, 2))
    take(program, 0)
    program.finish([0], {0})
    assert skips(program) == {3: 0}
    assert program.unfinished == 0


def test_failure_ends_at_a_join_of_order_edges() -> None:
    program = started([[], [0 | ORDER_ONLY], [1 | ORDER_ONLY]], joins=(1,))
    take(program, 0)
    program.finish([0], {0})
    assert skips(program) == {}
    assert ready(program) == [2]


def test_failures_of_neighbours_without_edges() -> None:
    program = started(10)
    program.mark_dealt(program.ready.take(6))
    program.finish(range(0, 4), {1, 3})
    assert list(program.state) == [DONE, FAILED, DONE, FAILED, DEALT, DEALT, *[PENDING] * 4]
    program.give_back(range(4, 6))
    assert ready(program) == list(range(4, 10))
    check_program(program)


def test_a_dropped_program_frees_nothing() -> None:
    program = started([[], [0], []])
    take(program, 0)
    program.drop()
    program.finish([0])
    assert ready(program) == []
    program.settle_dropped()
    assert program.unfinished == 0


def test_a_wide_fan_of_failures_is_linear() -> None:
    """A scan of the predecessors for each failure would take 10^10 steps."""
    n = 100_000
    program = started([*([] for _ in range(n)), [e | ORDER_ONLY for e in range(n)]])
    elements = program.ready.take(n)
    fuse(program, elements, 0)
    start_s = time.process_time()
    program.finish(elements, set(elements))
    assert time.process_time() - start_s < 5.0
    assert ready(program) == [n]


# -- fuse ------------------------------------------------------------------------------


def test_fuse_marks_what_it_takes_and_nothing_else() -> None:
    program = started([[], [0], [0], [1, 2]])
    elements = program.ready.take(1)
    assert fuse(program, elements, 2) == {2: 1, 3: 1}
    assert list(program.state) == [DEALT, DEALT, PENDING, PENDING]


def test_fuse_takes_no_join_and_nothing_behind_it() -> None:
    program = started([[], [0], [1]], joins=(1,))
    elements = program.ready.take(1)
    assert fuse(program, elements, 9) == {1: 1}
    assert elements == [0]


def test_fuse_takes_nothing_that_a_failure_may_skip() -> None:
    program = started([[], [], [0, 1], [0 | ORDER_ONLY, 1]])
    take(program, 0)
    program.finish([0], {0})
    elements = program.ready.take(1)
    assert fuse(program, elements, 9) == {2: 1, 3: 1}
    assert elements == [1]


@pytest.mark.parametrize("before", [[], [3], [[], [0], [0, 1]], [[]] + [[0]] * 12])
@pytest.mark.parametrize(
    ("rows", "joins"),
    [
        ([[0, 99]], ()),
        ([[], [0, 50]], ()),
        ([[0], [0, 20]], ()),
        ([[0], [ORDER_ONLY - 1]], ()),
        ([[0]], (0,)),
        ([[0]], (70,)),
    ],
)
def test_a_page_that_cannot_be_right_changes_nothing(
    before: Rows | list[int], rows: Rows, joins: tuple[int, ...]
) -> None:
    pages = [before] if before and isinstance(before[0], list) else [3, *before]
    program, same = opened(*pages), opened(*pages)
    with pytest.raises(GraphError):
        program.add_page(len(rows), *columns(rows), joins)
    check_program(program)
    assert [program.successors_of(e) for e in range(program.count)] == [
        same.successors_of(e) for e in range(same.count)
    ]
    for one in (program, same):
        one.add_page(2, *columns([[0], [one.count]]), ())
        one.start(b"")
        check_program(one)
    assert program.waiting == same.waiting
    assert ready(program) == ready(same)


def test_ends_must_not_go_back() -> None:
    program = opened(2)
    with pytest.raises(GraphError, match="end before they begin"):
        program.add_page(3, array("I", [2, 1, 2]).tobytes(), array("I", [0, 0]).tobytes(), ())
    check_program(program)
