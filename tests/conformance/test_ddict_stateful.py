"""Whatever is done with a DDict through two handles, it holds what a dict would."""

from __future__ import annotations

import pickle
import uuid
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import pytest
from _stores import MakeDDict
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from alamo import DDict

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, Decimal(1), Fraction(5, 2), 1 + 0j, 2**70, float(2**70)]),
    st.sampled_from(["", "a", "1", "a" * 600, "a" * 601, "\0", "é"]),
    st.sampled_from([b"", b"a", b"a" * 600, b"\0"]),
    st.sampled_from([uuid.UUID(int=1), date(2020, 1, 1), PurePosixPath("a")]),
)
KEYS = st.one_of(
    LEAVES, st.tuples(LEAVES), st.tuples(LEAVES, LEAVES), st.frozensets(LEAVES, max_size=3)
)


class Blob:
    """A large value, shown short."""

    def __init__(self, data: Any) -> None:
        self.data = bytes(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Blob, (pickle.PickleBuffer(self.data),)

    def __repr__(self) -> str:
        return f"Blob({self.data[:1]!r} * {len(self.data)})"


VALUES = st.one_of(
    st.integers(),
    st.text(max_size=5),
    st.sampled_from([[1, [2]], None, 1.5]),
    st.sampled_from([b"a", b"b"]).map(lambda letter: Blob(letter * 70_000)),
)
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=5)


class Undone(Exception):
    """Ends a transaction."""


class Twins(RuleBasedStateMachine):
    """A dict, and two handles of a DDict that is to be equal to it."""

    make: MakeDDict

    @initialize(entries=ENTRIES)
    def begin(self, entries: dict[Any, Any]) -> None:
        self.model = dict(entries)
        self.one = type(self).make(entries)
        self.other: DDict[Any, Any] = pickle.loads(pickle.dumps(self.one))

    def teardown(self) -> None:
        if hasattr(self, "one"):
            self.other.close()
            self.one.destroy()

    def swap_handles(self) -> DDict[Any, Any]:
        self.one, self.other = self.other, self.one
        return self.one

    @rule(key=KEYS, value=VALUES)
    def put(self, key: Any, value: Any) -> None:
        self.swap_handles()[key] = value
        self.model[key] = value

    @rule(key=KEYS)
    def read(self, key: Any) -> None:
        d = self.swap_handles()
        assert (key in d) == (key in self.model)
        assert d.get(key, "none") == self.model.get(key, "none")
        assert d.get(key) == self.other.get(key)

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: Any, value: Any) -> None:
        assert self.swap_handles().setdefault(key, value) == self.model.setdefault(key, value)

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        assert self.swap_handles().pop(key, "none") == self.model.pop(key, "none")

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        d = self.swap_handles()
        if key in self.model:
            del d[key], self.model[key]
        else:
            with pytest.raises(KeyError):
                del d[key]

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        key, value = self.swap_handles().popitem()
        assert self.model.pop(key) == value

    @rule(entries=ENTRIES)
    def update(self, entries: dict[Any, Any]) -> None:
        self.swap_handles().update(entries)
        self.model.update(entries)

    @rule(key=KEYS, n=st.integers(-3, 3))
    def fetch_add(self, key: Any, n: int) -> None:
        before = self.model.get(key, 0)
        if isinstance(before, int):
            assert self.swap_handles().fetch_add(key, n) == before
            self.model[key] = before + n

    @rule(key=KEYS, expected=VALUES, new=VALUES)
    def compare_and_swap(self, key: Any, expected: Any, new: Any) -> None:
        fits = key in self.model and self.model[key] == expected
        assert self.swap_handles().compare_and_swap(key, expected, new) == fits
        if fits:
            self.model[key] = new

    @rule(entries=ENTRIES, key=KEYS, is_undone=st.booleans())
    def transaction(self, entries: dict[Any, Any], key: Any, is_undone: bool) -> None:
        d = self.swap_handles()
        changed = dict(self.model)
        try:
            with d.transaction():
                assert d.pop(key, "none") == changed.pop(key, "none")
                d.update(entries)
                changed.update(entries)
                d[key] = changed[key] = Blob(b"y" * 66_000)
                assert len(d) == len(changed)
                if is_undone:
                    raise Undone
        except Undone:
            return
        self.model = changed

    @rule()
    def clear(self) -> None:
        self.swap_handles().clear()
        self.model.clear()

    @rule(entries=ENTRIES)
    def compare(self, entries: dict[Any, Any]) -> None:
        d = self.swap_handles()
        assert d.keys() & entries.keys() == self.model.keys() & entries.keys()
        assert (d == entries) == (self.model == entries)

    @invariant()
    def holds_the_same(self) -> None:
        if not hasattr(self, "one"):
            return
        assert len(self.one) == len(self.other) == len(self.model)
        listed = list(self.other.items())
        assert len(listed) == len(self.model)
        assert dict(listed) == self.model
        # As they were first put, not only equal to it.
        kinds = sorted(str(type(key)) for key in self.model)
        assert sorted(str(type(key)) for key in self.one) == kinds


@pytest.mark.hypothesis
@pytest.mark.needs("one shard")
def test_it_holds_what_a_dict_would(make_ddict: MakeDDict) -> None:
    machine = type("Machine", (Twins,), {"make": staticmethod(make_ddict)})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25))
