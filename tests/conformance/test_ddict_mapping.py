"""A DDict is a mapping as a dict is one."""

from __future__ import annotations

import copy
import pickle
import uuid
from collections import UserDict
from collections.abc import MutableMapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
from _stores import MakeDDict

from alamo import DDict, SerializationError


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Plain:
    """Hashable, by identity: nothing to be compared by in another process."""


def test_it_is_a_mutable_mapping(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    assert isinstance(d, MutableMapping)
    assert d == {"a": 1}
    assert d == {"a": 1}
    assert d != {"a": 2}
    assert d != {"b": 1}
    assert d != {"a": 1, "b": 1}
    assert d != [("a", 1)]
    assert d == d
    assert d == make_ddict({"a": 1.0})
    with pytest.raises(TypeError, match="unhashable"):
        hash(d)


def test_data_may_be_a_mapping_or_pairs(make_ddict: MakeDDict) -> None:
    assert make_ddict([("a", 1), ("a", 2)]) == {"a": 2}
    assert make_ddict(UserDict(a=1)) == {"a": 1}
    assert make_ddict(make_ddict({"a": 1})) == {"a": 1}
    assert make_ddict(iter([])) == {}
    with pytest.raises(TypeError):
        make_ddict([1])


def test_equal_keys_are_one_key(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    for value, one in enumerate((1, 1.0, True, Decimal(1), Fraction(1), np.int64(1), 1 + 0j)):
        d[one] = value
        assert d == {1: value}
        assert Decimal("1.00") in d
    ((key, value),) = d.items()
    assert (type(key), value) == (int, 6)


def test_a_key_stays_what_was_first_put(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    d[True] = "a"
    d[1] = "b"
    assert [type(key) for key in d] == [bool]
    assert d.popitem() == (True, "b")
    d[1.0] = "c"
    assert [type(key) for key in list(d)] == [float]


KEYS = [
    None,
    0,
    -(10**400),
    2.5,
    float("inf"),
    "",
    "é\0\udcff",
    b"",
    b"\0",
    (),
    (1, ("a", None)),
    frozenset({1, "a"}),
    Colour.RED,
    uuid.UUID(int=5),
    Path("/a/b"),
    Point(1, 2),
    "x" * 100_000,
    b"x" * 511,
    (1,) * 600,
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_keys_of_many_types(make_ddict: MakeDDict, key: Any) -> None:
    d = make_ddict({key: 1, "other": 2})
    assert d[key] == 1
    assert key in d
    assert set(d) == {key, "other"}
    assert sorted(map(type, d), key=str) == sorted([type(key), str], key=str)
    assert d.pop(key) == 1
    assert key not in d
    assert d == {"other": 2}


def test_long_keys_that_begin_alike_are_different(make_ddict: MakeDDict) -> None:
    keys = [f"{'x' * 600}{i}" for i in range(50)]
    d = make_ddict({key: key for key in keys})
    assert set(d) == set(keys)
    assert all(d[key] == key for key in keys)
    assert "x" * 600 not in d


@pytest.mark.parametrize("key", [[], {}, set(), bytearray(), ([],)], ids=repr)
def test_unhashable_keys_are_refused(make_ddict: MakeDDict, key: Any) -> None:
    d = make_ddict()
    calls = [
        lambda: d[key],
        lambda: d.__setitem__(key, 1),
        lambda: d.__delitem__(key),
        lambda: key in d,
        lambda: d.get(key),
        lambda: d.pop(key, None),
        lambda: d.setdefault(key),
        lambda: d.update([("a", 1), (key, 2)]),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="unhashable"):
            call()
    assert d == {}


def test_keys_without_an_encoding_are_refused(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    with pytest.raises(TypeError, match="register_key_encoder"):
        d[Plain()] = 1
    with pytest.raises(TypeError, match="Plain"):
        d.get(Plain())
    assert d == {}


def test_missing_keys(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": None})
    for call in (lambda: d["b"], lambda: d.pop("b"), lambda: d.__delitem__("b")):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value.args == ("b",)
    assert d.get("b") is None
    assert d.get("b", 5) == 5
    assert d.get("a", 5) is None
    assert d.pop("b", None) is None
    assert d.pop("b", default=3) == 3
    assert d.pop("a", 5) is None
    with pytest.raises(KeyError, match="empty"):
        d.popitem()


def test_setdefault(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    assert d.setdefault("a", 2) == 1
    assert d.setdefault("b", 2) == 2
    assert d.setdefault("c") is None
    assert d == {"a": 1, "b": 2, "c": None}


@pytest.mark.needs("one shard")
def test_update(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    d.update()
    d.update({"a": 2, "b": 2})
    d.update([("b", 3)], c=4, other=5)
    d.update(make_ddict({True: b"x" * 100_000}))
    assert d == {"a": 2, "b": 3, "c": 4, "other": 5, 1: b"x" * 100_000}
    assert [type(key) for key in d if key == 1] == [bool]
    d.update(d)
    assert len(d) == 5


def test_an_update_that_fails_stores_nothing(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    with pytest.raises(SerializationError, match="key 'c'"):
        d.update({"b": 2, "c": (i for i in ())})
    with pytest.raises(ValueError, match="unpack"):
        d.update([("b", 2), (1, 2, 3)])
    with pytest.raises(TypeError):
        d.update(5)
    assert d == {"a": 1}


def test_the_operators(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1, "b": 1})
    right = d | {"b": 2}
    left = {"b": 2, "c": 2} | d
    assert type(right) is type(left) is DDict
    assert right == {"a": 1, "b": 2}
    assert left == {"a": 1, "b": 1, "c": 2}
    same = d
    d |= {"b": 3}
    d |= [("c", 4)]
    assert d is same
    assert d == {"a": 1, "b": 3, "c": 4}
    with pytest.raises(TypeError):
        d | [("c", 4)]
    with pytest.raises(TypeError):
        [] | d
    for other in (right, left):
        other.destroy()


def test_a_copy_is_another_dictionary(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1, True: 2}, wait_for_keys=True, timeout=30)
    other = d.copy()
    assert type(other) is DDict
    assert other == d
    assert {type(key) for key in other} == {str, bool}
    assert (other.wait_for_keys, other.timeout, other.name) == (True, 30, None)
    other["a"] = 5
    assert d["a"] == 1
    assert dict(d) == {"a": 1, 1: 2}
    shallow, deep = copy.copy(d), copy.deepcopy(d)
    assert shallow == deep == d
    shallow["a"] = deep["a"] = 5
    assert d["a"] == 1
    for one in (other, shallow, deep):
        one.destroy()


def test_clear_and_len(make_ddict: MakeDDict) -> None:
    d = make_ddict({i: i for i in range(2500)})
    assert len(d) == 2500
    assert d
    assert sorted(d) == list(range(2500))
    d.clear()
    assert not d
    assert len(d) == 0
    assert list(d.items()) == []


@pytest.mark.needs("one shard")
def test_the_views_are_live_and_have_the_operations_of_sets(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    keys, values, items = d.keys(), d.values(), d.items()
    d.update({"a": 1, "b": 2})
    assert len(keys) == len(values) == len(items) == 2
    assert set(keys) == {"a", "b"}
    assert sorted(values) == [1, 2]
    assert set(items) == {("a", 1), ("b", 2)}
    assert keys == {"a", "b"}
    assert keys & {"a", "c"} == {"a"}
    assert keys | {"c"} == {"a", "b", "c"}
    assert keys - {"a"} == {"b"}
    assert {"a", "c"} - keys == {"c"}
    assert keys ^ {"a", "c"} == {"b", "c"}
    assert keys <= {"a", "b", "c"}
    assert keys.isdisjoint({"c"})
    assert items & {("a", 1), ("a", 2)} == {("a", 1)}
    assert ("a", 1) in items
    assert ("a", 2) not in items
    assert ("c", 1) not in items
    assert "a" not in items
    assert 2 in values
    assert 3 not in values
    assert "c" not in keys
    assert keys.mapping is values.mapping is items.mapping is d
    assert all("DDict" in repr(view) for view in (keys, values, items))


def test_views_do_not_wait_for_keys(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1}, wait_for_keys=True)
    assert ("b", 1) not in d.items()
    assert "b" not in d
    assert d.get("b") is None
    assert d.pop("b", 1) == 1
    assert d != {"b": 1}
    with pytest.raises(KeyError):
        del d["b"]


def test_arrays_are_compared_whole(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": np.arange(3), "b": np.zeros((2, 2))})
    assert d == {"a": np.arange(3), "b": np.zeros((2, 2))}
    assert d != {"a": np.arange(3), "b": np.ones((2, 2))}
    assert d != {"a": np.arange(4), "b": np.zeros((2, 2))}
    assert ("a", np.arange(3)) in d.items()
    assert any(array is not None for array in d.values())


def test_there_is_no_order(make_ddict: MakeDDict) -> None:
    with pytest.raises(TypeError, match="reversible"):
        reversed(make_ddict())


def test_changes_during_an_iteration_are_no_error(make_ddict: MakeDDict) -> None:
    """What was there throughout is met once, what comes or goes at most once."""
    d = make_ddict(dict.fromkeys(range(3000), 0))
    met = []
    for key in d:
        met.append(key)
        if len(met) < 1000:
            d["new", key] = 2
        if isinstance(key, int):
            if key % 3 == 0:
                d[key] = 1
            if key % 3 == 1:
                del d[key]
    assert len(met) == len(set(met))
    assert set(range(3000)) <= set(met)
    assert len([key for key in d if isinstance(key, int)]) == 2000


def test_removing_all_that_is_met(make_ddict: MakeDDict) -> None:
    d = make_ddict(dict.fromkeys(range(2500), 0))
    for key in d:
        del d[key]
    assert d == {}


def test_two_iterations_at_once(make_ddict: MakeDDict) -> None:
    d = make_ddict({i: i for i in range(20)})
    assert len([(a, b) for a in d for b in d.values()]) == 400


class Answering(DDict[Any, Any]):
    """A subclass as one may be of a dict."""

    def __init__(self, *data: Any) -> None:
        super().__init__(*data, timeout=30)

    def __missing__(self, key: Any) -> str:
        return f"no {key}"


@pytest.mark.needs("handles")
def test_subclasses(make_ddict: MakeDDict) -> None:
    del make_ddict
    with Answering.fromkeys("ab", [0]) as d:
        assert type(d) is Answering
        d.colour = "red"
        for one in (d, pickle.loads(pickle.dumps(d)), d.copy()):
            assert isinstance(one, Answering)
            assert one == {"a": [0], "b": [0]}
            assert one["c"] == "no c"
            assert one.timeout == 30
            assert one.get("c") is None
        assert pickle.loads(pickle.dumps(d)).colour == "red"


def test_types_of_what_comes_back(make_ddict: MakeDDict) -> None:
    d: DDict[str, int] = make_ddict({"a": 1})
    assert_type(d.get("a"), int | None)
    assert_type(d.get("b", 2), int)
    assert_type(d.get("b", "none"), int | str)
    assert_type(d.setdefault("a", 2), int)
    assert_type(d.pop("b", None), int | None)
    assert_type(d.pop("a"), int)
