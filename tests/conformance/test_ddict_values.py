"""What values come back as, and what happens to those that cannot be stored or read."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest
from _stores import MakeDDict

import _work as work
from alamo import DDict, SerializationError


class Refuses:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> Any:
    raise ImportError("no such thing here")


LARGE = 300_000

VALUES = [
    None,
    True,
    5,
    -(2**70),
    2.5,
    1j,
    "",
    "é\0",
    "\udcff",
    "é" * LARGE,
    b"",
    b"\x80",
    b"x" * LARGE,
    bytearray(b"x" * LARGE),
    (),
    [1, [2, {"a": {3}}]],
    {"a": b"x" * LARGE, "b": b"y" * LARGE},
    list(range(LARGE)),
    frozenset({1, "a"}),
    work.Bag(content=[1]),
    len,
    work.Bag,
    KeyError("a"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back(make_ddict: MakeDDict, value: Any) -> None:
    d = make_ddict()
    d["a"] = value
    same = repr if isinstance(value, KeyError) else lambda one: one
    for got in (d["a"], d.get("a"), d.setdefault("a"), dict(d)["a"], d.copy()["a"], d.pop("a")):
        assert type(got) is type(value)
        assert same(got) == same(value)


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 1_000_000])
def test_arrays_come_back_as_copies_that_may_be_written_to(
    make_ddict: MakeDDict, size: int
) -> None:
    d = make_ddict()
    array = np.arange(size, dtype=np.float64)
    d["a"] = array
    d["b"] = {
        "first": array,
        "second": array[::2],
        "third": np.asfortranarray(array.reshape(1, -1)),
    }
    array[:] = -1
    expected = np.arange(size, dtype=np.float64)
    assert np.array_equal(d["a"], expected)
    got = d["b"]
    assert np.array_equal(got["first"], expected)
    assert np.array_equal(got["second"], expected[::2])
    assert np.array_equal(got["third"], expected.reshape(1, -1))
    got["first"][:] = 7
    assert np.array_equal(d["b"]["first"], expected)


def test_a_change_of_what_was_read_changes_nothing_stored(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": [1]})
    d["a"].append(2)
    assert d["a"] == [1]
    value = d["a"]
    value.append(2)
    d["a"] = value
    assert d["a"] == [1, 2]


def test_large_and_small_values_replace_each_other(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    for value in (1, b"x" * LARGE, 2, np.zeros(LARGE), np.ones(2 * LARGE), b"y" * LARGE, None):
        d["a"] = value
        assert ("a", value) in d.items()
        assert len(d) == 1
    del d["a"]
    assert d == {}


def test_borrowed_arrays_are_read_only(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": {"x": np.arange(LARGE)}, "b": b"x" * LARGE, "c": 5})
    with d.borrow("a") as value:
        assert np.array_equal(value["x"], np.arange(LARGE))
        with pytest.raises(ValueError, match="read-only"):
            value["x"][0] = 1
        del value
    with d.borrow("b") as view:
        assert view.readonly
        assert view == b"x" * LARGE
        del view
    with d.borrow("c") as five:
        assert five == 5


def test_borrowing_what_is_not_there(make_ddict: MakeDDict) -> None:
    d = make_ddict(wait_for_keys=True)
    with pytest.raises(KeyError, match="a"), d.borrow("a"):
        pass


def test_an_error_of_the_user_leaves_a_borrow(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": np.arange(LARGE)})
    with pytest.raises(ZeroDivisionError), d.borrow("a"):
        1 / 0  # noqa: B018
    d["a"] = 1
    assert d["a"] == 1


def test_a_value_that_cannot_be_pickled_is_refused(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    lock = threading.Lock()
    puts = [
        lambda: d.__setitem__("a", lock),
        lambda: d.put("a", lock),
        lambda: d.setdefault("a", lock),
        lambda: d.update(a=lock),
        lambda: d.compare_and_swap("a", 1, lock),
    ]
    for put in puts:
        with pytest.raises(SerializationError, match=r"key 'a' of DDict.*lock"):
            put()
    assert d == {"a": 1}


def test_a_value_that_does_not_unpickle_says_which_it_is(make_ddict: MakeDDict) -> None:
    d = make_ddict({"good": 1, ("bad", 1): Refuses()})
    reads = [
        lambda: d["bad", 1],
        lambda: d.get(("bad", 1)),
        lambda: list(d.values()),
        lambda: d.setdefault(("bad", 1), 2),
        lambda: d.borrow(("bad", 1)).__enter__(),
        lambda: d.wait_for(("bad", 1)),
    ]
    for read in reads:
        with pytest.raises(
            SerializationError, match=r"\('bad', 1\).*_refuse.*ImportError"
        ) as caught:
            read()
        assert isinstance(caught.value.__cause__, ImportError)
        assert "importable" in str(caught.value)
    assert d["good"] == 1
    assert sorted(d, key=str) == [("bad", 1), "good"]
    del d["bad", 1]
    assert d == {"good": 1}


def test_a_dictionary_in_a_dictionary(make_ddict: MakeDDict) -> None:
    inner = make_ddict({"x": 1}, wait_for_keys=True, timeout=20)
    outer = make_ddict({"inner": [inner], "self": None})
    outer["self"] = outer
    (got,) = outer["inner"]
    assert got == inner
    assert (got.wait_for_keys, got.timeout) == (True, 20)
    got["y"] = 2
    assert inner["y"] == 2
    outer["self"]["self"]["z"] = 3
    assert outer["z"] == 3
    assert outer == outer["self"]


def test_two_handles_are_one_dictionary(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    other = pickle.loads(pickle.dumps(d))
    assert type(other) is DDict
    assert other is not d
    other["b"] = 2
    assert d == {"a": 1, "b": 2}
    other.close()
    d["c"] = 3
    assert d["b"] == 2
