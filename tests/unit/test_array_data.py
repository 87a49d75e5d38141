"""What the manager holds of an array: pickles of many elements, objects that may come again."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import Any

import pytest

from alamo.core.chunks import Chunk
from alamo.core.program import Program
from alamo.errors import ProtocolError
from alamo.manager.arrays import ArrayData, check_array_page
from alamo.protocol import messages as msg


def page(counts: list[int], size: int = 10, **more: Any) -> msg.Page:
    """So many elements a pickle; 0 is one that is pickled by itself."""
    lengths = array("I", [size] * len(counts))
    count = sum(counts) + counts.count(0)
    columns = array("I", counts).tobytes()
    args = b"x" * size * len(counts)
    return msg.Page(0, count, 3, lengths.tobytes(), args, counts=columns, **more)


def held_bytes(data: ArrayData) -> int:
    return sum(map(len, data._pickles))


def chunk_of(data: ArrayData, elements: range) -> msg.Chunk:
    program = Program(0, 0, 0)
    return data.make_chunk(Chunk(0, program, 0, 0, elements, False, {}, 0.0), 0)


@pytest.mark.parametrize("counts", [[5, 5, 5], [0] * 15, [5, 0, 0, 0, 0, 0, 5], [15], [0, 14]])
def test_any_range_is_a_chunk_until_it_has_ended(counts: list[int]) -> None:
    data = ArrayData(0, 0, 0, "/")
    data.add_page(page(counts), 3)
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + (count or 1))
    for first in range(15):
        for end in range(first + 1, 16):
            made = chunk_of(data, range(first, end))
            assert made.count == end - first
            inside = [k for k, (a, b) in enumerate(pairwise(starts)) if a < end and b > first]
            assert len(made.args) == 10 * len(inside)
            assert array("I", made.counts).tolist() == [counts[k] for k in inside]
            assert made.skip == first - starts[inside[0]]
    data.ended(range(4))
    assert len(chunk_of(data, range(4, 15)).args) == 10 * sum(b > 4 for b in starts[1:])
    data.ended(range(4, 15))
    data.ended([0])


def test_pickles_are_let_go_as_elements_end() -> None:
    data = ArrayData(0, 0, 0, "/")
    data.add_page(page([0] * 10), 3)
    data.ended(range(0, 4))
    assert held_bytes(data) == 60
    data.ended([7])  # lost with its worker
    assert held_bytes(data) == 50
    data.add_page(page([4, 4]), 3)
    data.ended(range(4, 18))
    assert held_bytes(data) == 0


def test_an_object_is_kept_while_elements_to_come_may_need_it() -> None:
    data = ArrayData(0, 0, 0, "/")
    data.add_object(msg.ObjectDefined(0, 5, b"value"))
    data.add_page(page([0, 0], objects=((0, (5,)),)), 3)
    assert data.ended([0]) == ([], []), "nobody needs it now, but the client knows it still"
    data.add_page(page([0, 0], objects=((2, (5,)),)), 3)
    assert data.let_go((5,)) == []
    assert not data.gifts_of([2])  # it is in no block
    assert data.ended([2]) == ([], [5])


def test_an_object_that_nobody_used_is_gone_when_the_client_says_so() -> None:
    data = ArrayData(0, 0, 0, "/")
    for number in (1, 2, 3):
        data.add_object(msg.ObjectDefined(0, number, b"value"))
    data.add_object(msg.ObjectDefined(0, 4, b"class", is_part=True))
    data.add_page(page([0], objects=((0, (3,)),)), 3)
    assert data.let_go((1, 9)) == [1]
    assert data.let_go(None) == [2]
    assert data.ended([0]) == ([], [3])


def test_a_block_is_no_gift_while_elements_to_come_may_need_it() -> None:
    data = ArrayData(0, 0, 0, "/")
    data.add_object(msg.ObjectDefined(0, 1, b"", 77, (0, 100)))
    data.add_page(page([0], objects=((0, (1,)),)), 3)
    assert data.gifts_of([0]) == []
    data.let_go(None)
    assert data.gifts_of([0]) == [(0, 77)]


def test_pages_that_do_not_fit() -> None:
    good = page([2, 0])
    check_array_page(good)
    for name, value in (
        ("count", 4),
        ("lengths", good.lengths[:4]),
        ("args", b"x"),
        ("counts", good.counts[:4]),
        ("functions", b"1234"),
        ("joins", (0,)),
        ("gates", ((0, 1),)),
    ):
        bad = page([2, 0])
        setattr(bad, name, value)
        with pytest.raises(ProtocolError):
            check_array_page(bad)
