"""Keys against what a dict says of them: one key or two, for generated keys of all types."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alamo.core import key_numbers
from alamo.core.key_channel import channel_of
from alamo.core.keys import decode, encode, is_plain

#: Values that meet often, in many types.
exact = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64, 10**30, 10**60, -(10**60)]),
    st.builds(Fraction, st.integers(-20, 20), st.sampled_from([1, 2, 3, 8, 10, 125, 2**60])),
    st.builds(
        lambda m, e: Fraction(m) * Fraction(10) ** e, st.integers(-20, 20), st.integers(-40, 40)
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
)


def forms_of(value: int | Fraction) -> Iterator[Any]:
    """All numbers of other types that are exactly this value."""
    value = Fraction(value)
    n, d = value.numerator, value.denominator
    yield value
    if d == 1:
        yield n
        if abs(n) < 2**63:
            yield np.int64(n)
        if n in (0, 1):
            yield bool(n)
    while d % 10 == 0:
        d //= 10
    while d % 2 == 0:
        d //= 2
    while d % 5 == 0:
        d //= 5
    if d == 1:
        places = value.denominator.bit_length()
        yield Decimal(n * 10**places // value.denominator).scaleb(-places, key_numbers._EXACT)
    try:
        near = n / value.denominator
    except OverflowError:
        return
    if Fraction(near) == value:
        yield from (near, np.float64(near), complex(near), np.longdouble(near))
        if not near:
            yield -near


@pytest.fixture(params=["as shipped", "factored from 70 bits on"], scope="module")
def limits(request: pytest.FixtureRequest) -> Iterator[None]:
    """The form for the longest numbers is met by short ones too."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "as shipped":
            patch.setattr(key_numbers, "_INT_BITS_MAX", 70)
            patch.setattr(key_numbers, "_INT_EXPONENT_MAX", 21)  # 10**22 has more bits
        yield


@given(a=exact, b=exact)
def test_numbers(limits: None, a: Any, b: Any) -> None:
    """Equal values have the same bytes in every type, unequal ones never."""
    ours = {encode(form) for form in forms_of(a)}
    assert len(ours) == 1
    assert (ours == {encode(form) for form in forms_of(b)}) == (a == b)
    for form in forms_of(a):
        if is_plain(form):
            back = decode(encode(form))
            assert (back, type(back)) == (form, type(form))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 0.5, Decimal("0.5"), Decimal(1), Fraction(1, 2), 1j, np.int8(1)]),
    st.text(st.sampled_from("a\0\ud800\u00e9"), max_size=2),
    st.binary(max_size=2),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=1)), None])),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=8,
)


@given(trees, trees)
def test_keys(a: Any, b: Any) -> None:
    """Two encodings are the same if and only if a dict has one key."""
    one_key = len({a: 1, b: 2}) == 1
    assert (encode(a) == encode(b)) == one_key
    assert (channel_of(a) == channel_of(b)) == one_key
    if is_plain(a):
        assert repr(decode(encode(a))) == repr(a) or isinstance(a, (tuple, frozenset))
        assert decode(encode(a)) == a


@given(st.lists(st.tuples(trees, trees), max_size=4))
def test_nothing_runs_together(pairs: list[Any]) -> None:
    """A tuple of keys has the bytes of no other tuple, however they are grouped."""
    flat = tuple(key for pair in pairs for key in pair)
    nested = tuple(pairs)
    assert (encode(flat) == encode(nested)) == (flat == nested)
    assert encode(nested) == encode(tuple(tuple(pair) for pair in pairs))
