"""What the manager knows of elements' terms, and which failures it has tried again."""

from __future__ import annotations

import subprocess
from array import array
from itertools import accumulate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alamo.errors import ProtocolError
from alamo.manager.retrying import is_retried
from alamo.manager.settling import Outcomes
from alamo.manager.stopping import stopped_record
from alamo.manager.terms import TermsTable, core_terms
from alamo.protocol.exceptions import dump_exception
from alamo.protocol.messages import NO_FUNCTION, Page, TermsDefined
from alamo.protocol.records import (
    CANCELLED,
    LOST,
    MEMORY,
    RAISED,
    TIMEOUT,
    LostInfo,
    Record,
    StopInfo,
)


def page(count: int, terms: int | bytes) -> Page:
    return Page(0, count, NO_FUNCTION, bytes(4 * count), b"", terms=terms)


@given(st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 3)) | st.integers(0, 3))))
def test_each_element_has_the_terms_of_its_page(pages: list[tuple[int, list[int] | int]]) -> None:
    table = TermsTable()
    for number in (1, 2, 3):
        table.define(TermsDefined(0, number, timeout_s=float(number)))
    expected: list[int] = []
    for count, terms in pages:
        numbers = [terms] * count if isinstance(terms, int) else terms
        sent = terms if isinstance(terms, int) else array("I", terms).tobytes()
        table.check(page(len(numbers), sent))
        table.add_page(len(expected), len(numbers), sent)
        expected += numbers
    for element, number in enumerate(expected):
        found = table.of(element)
        assert (found.timeout_s if found else 0) == number


@pytest.mark.parametrize(
    "terms",
    [
        TermsDefined(0, 0),
        TermsDefined(0, 1),
        TermsDefined(0, 3),
        TermsDefined(0, 2, cores=0),
        TermsDefined(0, 2, timeout_s=-1.0),
        TermsDefined(0, 2, timeout_s=float("nan")),
        TermsDefined(0, 2, memory_bytes=-1),
        TermsDefined(0, 2, retries=-1),
    ],
)
def test_terms_that_nothing_can_have(terms: TermsDefined) -> None:
    table = TermsTable()
    table.define(TermsDefined(0, 1))
    with pytest.raises(ProtocolError):
        table.define(terms)


@pytest.mark.parametrize("terms", [2, array("I", [1, 2]).tobytes(), array("I", [1]).tobytes()])
def test_pages_that_do_not_fit_their_terms(terms: int | bytes) -> None:
    table = TermsTable()
    table.define(TermsDefined(0, 1))
    with pytest.raises(ProtocolError):
        table.check(page(2, terms))


def test_the_scheduler_is_told_what_it_needs_to_know() -> None:
    terms = core_terms(TermsDefined(0, 1, 2, 500, (1,), 7, (3, 4), True, True, 9.0, 5, 0.5, 3, 0.1))
    assert terms.need == type(terms.need)(2, 500, (1,), 7, (3, 4), True, True)
    assert (terms.retries, terms.backoff_s, terms.factor, terms.jitter) == (5, 0.5, 3, 0.1)


def raised(error: Exception) -> bytes:
    return msgspec.msgpack.encode(Record(RAISED, dump_exception(error, "host", 1)))


def stopped(kind: str) -> bytes:
    return stopped_record(StopInfo(kind, "host", 1), b"", b"")


LOST_WORKER = msgspec.msgpack.encode(
    Record(LOST, msgspec.msgpack.encode(LostInfo("host", 1, 9, -1, "killed")))
)


@pytest.mark.parametrize(
    ("terms", "outcome", "retried"),
    [
        ({}, raised(ValueError()), True),
        ({}, LOST_WORKER, True),
        ({}, stopped(TIMEOUT), True),
        ({}, stopped(MEMORY), True),
        ({}, stopped(CANCELLED), False),
        ({"lost": True}, LOST_WORKER, True),
        ({"lost": True}, raised(ValueError()), False),
        ({"lost": True}, stopped(CANCELLED), False),
        ({"types": ("builtins.OSError",)}, raised(FileNotFoundError()), True),
        ({"types": ("builtins.OSError",)}, raised(ValueError()), False),
        ({"types": ("builtins.OSError",)}, LOST_WORKER, False),
        ({"types": ("builtins.TimeoutError",)}, stopped(TIMEOUT), True),
        ({"types": ("builtins.TimeoutError",)}, stopped(MEMORY), False),
        ({"types": ("builtins.MemoryError",)}, stopped(MEMORY), True),
        ({"types": ("builtins.Exception",)}, stopped(CANCELLED), False),
        ({"types": ("alamo.errors.WorkerLost",)}, LOST_WORKER, True),
        ({"exit_codes": (75,)}, raised(subprocess.CalledProcessError(75, "a")), True),
        ({"exit_codes": (75,)}, raised(subprocess.CalledProcessError(1, "a")), False),
        ({"exit_codes": (75,)}, raised(ValueError(75)), False),
        ({}, b"\x93\x01", False),
        ({}, b"", False),
    ],
)
def test_which_failures_are_tried_again(
    terms: dict[str, object], outcome: bytes, retried: bool
) -> None:
    assert is_retried(TermsDefined(0, 1, retries=1, **terms), outcome) is retried  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.binary(max_size=3), st.booleans(), st.booleans())), st.data())
def test_some_of_the_outcomes(rows: list[tuple[bytes, bool, bool]], data: st.DataObject) -> None:
    pieces = [piece for piece, _, _ in rows]
    whole = Outcomes(
        range(10, 10 + len(rows)),
        array("I", accumulate(map(len, pieces))).tobytes(),
        b"".join(pieces),
        tuple(k for k, row in enumerate(rows) if row[1]),
        tuple((k, 100 + k) for k, row in enumerate(rows) if row[2]),
    )
    positions = sorted(data.draw(st.sets(st.sampled_from(range(len(rows))))) if rows else [])
    some = whole.only(positions)
    assert list(some.elements) == [10 + p for p in positions]
    assert some.pieces() == [pieces[p] for p in positions]
    assert {some.elements[k] - 10 for k in some.failed} == {p for p in positions if rows[p][1]}
    assert [(some.elements[k] - 10, block - 100) for k, block in some.blocks] == [
        (p, p) for p in positions if rows[p][2]
    ]
