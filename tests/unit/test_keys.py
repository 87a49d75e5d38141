"""Keys: which are one key, which are refused, and what is said of those."""

from __future__ import annotations

import dataclasses
import enum
import math
import pickle
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from alamo.core.keys import decode, encode, is_plain

BERLIN = ZoneInfo("Europe/Berlin")
Pair = namedtuple("Pair", "x y")


def short(value: Any) -> str:
    """Name a test; repr would refuse the long ints."""
    if isinstance(value, list) and value:
        value = value[0]
    return type(value).__name__


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class OldWord(str, enum.Enum):  # noqa: UP042
    A = "a"


class Bits(enum.IntFlag):
    R = 1
    W = 2


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = [2]  # noqa: RUF012


class OtherColour(enum.Enum):
    RED = 1


class Access(enum.Flag):
    R = 1
    W = 2


class LoudStr(str):
    """Keeps equality and hash, and lies in everything else."""

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        return b"lie"

    def __str__(self) -> str:
        return "lie"


class LoudTuple(tuple[Any, ...]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class LoudInt(int):
    def __int__(self) -> int:
        return 99

    def __index__(self) -> int:
        return 99


class LoudFloat(float):
    def is_integer(self) -> bool:
        return not super().is_integer()


class OwnEqTuple(tuple[Any, ...]):
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class NoHash:  # noqa: PLW1641
    def __eq__(self, other: object) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0
    note: Any = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class OtherPoint:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any


class SubPoint(Point):
    """Not decorated: equal to its like, not to a Point."""


@dataclasses.dataclass(frozen=True)
class OwnEq:
    x: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnEq)

    def __hash__(self) -> int:
        return 1


@dataclasses.dataclass(frozen=True, eq=False)
class ByIdentity:
    x: Any


@dataclasses.dataclass(frozen=True)
class Unhashed:
    x: Any = dataclasses.field(hash=False)


@pytest.mark.parametrize(
    "alike",
    [
        [1, 1.0, True, Decimal(1), Decimal("1.000"), Fraction(1), 1 + 0j, Number.ONE, Bits.R,
        LoudInt(1)],
        [np.int64(1), np.uint8(1), np.bool_(True), np.float32(1), np.longdouble(1),
        np.complex64(1), 1],
        [0, 0.0, -0.0, False, Decimal("-0E+5"), -0j, complex(-0.0, -0.0), np.float64(-0.0)],
        [0.5, Decimal("0.5"), Fraction(1, 2), np.float16(0.5), np.longdouble(0.5), LoudFloat(0.5)],
        [0.1, float(repr(0.1)), Decimal.from_float(0.1), Fraction(0.1), np.float64(0.1),
        complex(0.1)],
        [Decimal("0.1"), Fraction(1, 10), Decimal("0.100")],
        [np.float32(0.1), float(np.float32(0.1))],
        [2**63, float(2**63), Decimal(2**63), np.uint64(2**63), Fraction(2**63)],
        [10**5000, Decimal("1E+5000"), Fraction(10**5000)],
        [Fraction(1, 10**5000), Decimal("1E-5000")],
        [Decimal("1E+320000"), Decimal("100E+319998"), Decimal("1E+320001") / 10],
        [float("1e308"), int(1e308), Decimal.from_float(1e308)],
        [5e-324, Decimal.from_float(5e-324), Fraction(5e-324)],
        [math.inf, Decimal("Infinity"), np.float64("inf"), np.longdouble("inf"), complex("inf")],
        [math.nan, -math.nan, Decimal("NaN"), Decimal("-NaN123"), np.float32("nan"),
        np.longdouble("nan")],
        [1.5 + 2j, np.complex64(1.5 + 2j), np.clongdouble(1.5 + 2j)],
        ["a", Word.A, OldWord.A, LoudStr("a"), np.str_("a")],
        [b"a", np.bytes_(b"a")],
        [(1, 2), (True, 2.0), Pair(1, 2), LoudTuple((1, 2))],
        [frozenset({1, 2, "a"}), frozenset({"a", 2.0, True})],
        [frozenset({math.nan}), frozenset({float("nan"), float("nan")})],
        [range(0), range(5, 5), range(3, 1)],
        [range(1, 2), range(1, 9, 100)],
        [range(0, 5, 2), range(0, 6, 2)],
        [Colour.RED, Colour.CRIMSON, pickle.loads(pickle.dumps(Colour.RED))],
        [Access.R | Access.W, Access.W | Access.R],
        [Path("/a/b"), PurePosixPath("/a/b"), PurePosixPath("/a//b/")],
        [PureWindowsPath("C:/A"), PureWindowsPath("c:\\a")],
        [date(2020, 1, 1), type("Day", (date,), {})(2020, 1, 1)],
        [datetime(2020, 1, 1), datetime(2020, 1, 1, fold=1)],
        [
            datetime(2020, 7, 1, 12, tzinfo=BERLIN),
            datetime(2020, 7, 1, 10, tzinfo=UTC),
            datetime(2020, 7, 1, 15, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        ],
        [datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN), datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN,
        fold=1)],
        [time(1), time(1, fold=1)],
        [time(1, tzinfo=UTC), time(3, tzinfo=timezone(timedelta(hours=2)))],
        [timedelta(days=1), timedelta(hours=24)],
        [UTC, timezone(timedelta(0), "zero")],
        [UUID(int=5), UUID(str(UUID(int=5)))],
        [Point(1, 2, "a"), Point(1.0, True + 1, "b")],
        [Slotted(1), Slotted(1.0)],
    ],
    ids=short,
)  # fmt: skip
def test_equal_keys_have_equal_bytes(alike: list[Any]) -> None:
    """Whatever their types."""
    assert len({encode(key) for key in alike}) == 1
    assert len({encode((key, key)) for key in alike}) == 1


DIFFERENT: list[Any] = [
    None, ..., 0, 1, -1, 255, 256, 2**63, -(2**63), 2**63 - 1, 2**64, 2**70, -(2**70),
    7 << 1_100_000, 7 << 1_100_001, 35 << 1_100_000,
    Decimal("1E+999999999"), Decimal("1E-999999999"), Decimal("-1E+999999999"),
    Decimal("3E+999999999"),
    0.5, -0.5, 0.1, Decimal("0.1"), Fraction(1, 3), Fraction(-1, 3), Fraction(2, 3), 1e308, 5e-324,
    math.inf, -math.inf,
    math.nan, 1j, -1j, 1 + 1j, complex(1, math.nan), np.longdouble(1) / 3, 2**53 + 1, float(2**53),
    "", "0", "1", "None", "a", "\ud800", "\udc80", "\ud800\udc00", "\U00010000", "\0", "a\0",
    b"", b"a", b"1", (), ("",), ("", ""), ((),), ((), ()), (((),),), ("a",), ("a", "b"), ("ab",),
    ("a", ("b",)), (("a",), "b"),
    (1,), (1, 2), (2, 1), ("a" * 254,), ("a" * 255,), ("a" * 300,), ("a" * 254, "b"), (None,),
    (b"a",),
    frozenset(), frozenset({()}), frozenset({1}), frozenset({1, 2}), frozenset({(1, 2)}),
    frozenset({frozenset()}),
    range(0), range(1), range(2), range(0, 5, 2), range(10**30), Colour.RED, Colour.BLUE,
    OtherColour.RED,
    Access.R, Access.W, Access.R | Access.W, Access(0),
    PurePosixPath("a"), PurePosixPath("/a"), PurePosixPath("//a"), PurePosixPath("A"),
    PureWindowsPath("a"),
    date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), datetime(1, 1, 1,
    tzinfo=timezone(timedelta(hours=9))),
    datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN), datetime(2020, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2020, 10, 25, 1, 30, tzinfo=UTC),
    datetime(2020, 3, 29, 2, 30, tzinfo=BERLIN), datetime(2020, 3, 29, 3, 30, tzinfo=BERLIN),
    datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris")),
    time(1), time(1, tzinfo=UTC), time(23, tzinfo=UTC), time(1,
    tzinfo=timezone(timedelta(hours=2))), timedelta(1), timedelta(0),
    timedelta.max, UTC, timezone(timedelta(hours=1)), UUID(int=0), UUID(int=1), UUID(int=0).bytes,
    str(UUID(int=0)),
    Point(1, 2), Point(2, 1), OtherPoint(1, 2), SubPoint(1, 2), Slotted(1), Slotted((1,)),
]  # fmt: skip


def test_unequal_keys_have_other_bytes() -> None:
    """All of these are different keys, alone and inside a tuple."""
    found: dict[bytes, Any] = {}
    for key in DIFFERENT:
        other = found.setdefault(encode(key), key)
        assert other is key, (other, key)
    assert len({encode((key, 1)) for key in DIFFERENT}) == len(DIFFERENT)


def test_encodings_are_the_same_in_every_process() -> None:
    """Hashes of str differ from process to process, and the stored encodings must not."""
    script = (
        "import sys\nsys.path[:0] = eval(sys.argv[1])\nfrom test_keys import DIFFERENT, encode\n"
        "import hashlib\nprint(hashlib.sha256(b''.join(map(encode, DIFFERENT))).hexdigest())"
    )
    path = [str(Path(__file__).parent), *filter(None, sys.path)]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, repr(path)],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_encodings_are_kept() -> None:
    """A change of these makes stored dictionaries unreadable."""
    assert encode(1).hex() == "690000000000000001"
    assert encode("é") == b"s\xc3\xa9"
    assert encode(b"a") == b"ba"
    assert encode(None) == b"N"
    assert encode(2**64).hex() == "6a010000000000000000"
    assert encode(0.5).hex() == "663fe0000000000000"
    assert encode(Decimal("0.1")) == b"r\x01\x01\x01\xff\x01\xff\x01\x01"
    assert encode((1, "a")).hex() == "7409690000000000000001027361"
    assert encode(Colour.RED).endswith(b"test_keys.Colour\x03RED")


def test_small_ints_and_strs_are_in_order() -> None:
    for values in ([0, 1, 2, 255, 256, 2**40], ["", "A", "a", "aa", "b", "é", "\U00010000"]):
        assert sorted(values, key=encode) == values


def test_decimals_are_exact_in_any_context() -> None:
    with localcontext() as context:
        context.prec = 2
        assert encode(Decimal("1.2345")) != encode(Decimal("1.2"))
        assert encode(Decimal("1.2345")) == encode(Fraction(12345, 10000))
        big = Decimal("1" + "0" * 4_000 + "." + "0" * 4_000)
        assert encode(big) == encode(10**4_000)


@pytest.mark.parametrize(
    "key",
    [
        None, ..., 0, -1, 2**63, 2**70, -(35 << 1_100_000), "", "a", "\ud800", b"", b"a", 0.5,
        math.inf, 1e-300,
        (), (1, "a"), ((0.5, None), b""), ("a" * 1000, "b"), frozenset(), frozenset({1, ("a",)}),
    ],
    ids=short,
)  # fmt: skip
def test_a_plain_key_comes_back(key: Any) -> None:
    """The very key: value and types."""
    assert is_plain(key)
    back = decode(encode(key))
    assert back == key
    assert type(back) is type(key)
    if isinstance(key, tuple):
        assert list(map(type, back)) == list(map(type, key))


def test_nan_comes_back_as_nan() -> None:
    assert is_plain(math.nan)
    assert math.isnan(decode(encode(math.nan)))


@pytest.mark.parametrize(
    "key",
    [
        True, 1.0, -0.0, 1j, Decimal(1), Fraction(1, 2), np.int64(1), np.str_("a"), Number.ONE,
        Word.A, Colour.RED, LoudStr("a"),
        Pair(1, 2), LoudTuple((1,)), (1, True), ((1.0,),), frozenset({True}), Point(1), Path("a"),
        UUID(int=1), range(3),
        date(2020, 1, 1), UTC,
    ],
    ids=short,
)  # fmt: skip
def test_any_other_key_is_not_plain(key: Any) -> None:
    assert not is_plain(key)


def test_what_decode_cannot_do_is_told() -> None:
    for key in (Colour.RED, Point(1), date(2020, 1, 1), Fraction(1, 3), Decimal("1E+999999999")):
        with pytest.raises(ValueError, match="key"):
            decode(encode(key))


@pytest.mark.parametrize(
    "key",
    [[], {}, set(), bytearray(), (1, []), (1, (2, {})), NoHash(), Point([]), np.zeros(1),
    Decimal("sNaN"), (Decimal("sNaN"),)],
    ids=short,
)  # fmt: skip
def test_what_has_no_hash_is_refused_as_in_a_dict(key: Any) -> None:
    with pytest.raises(TypeError) as expected:
        hash(key)
    with pytest.raises(TypeError) as found:
        encode(key)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (object(), "object cannot be a key. Use"),
        (int, "type cannot be a key"),
        (np.datetime64("2020-01-01"), "numpy.datetime64 cannot be a key"),
        (np.timedelta64(1, "s"), "numpy.timedelta64 cannot be a key"),
        (OwnEqTuple((1,)),
        "OwnEqTuple cannot be a key; its __eq__ or __hash__ is not that of tuple"),
        (OwnEq(1), "OwnEq cannot be a key"),
        (ByIdentity(1), "ByIdentity cannot be a key"),
        ((1, (2, object())), r"object cannot be a key \(it is at key\[1\]\[1\]\)"),
        (Point((1, object())), r"object cannot be a key \(it is at key.x\[1\]\)"),
        (Unhashed([1]), r"unhashable type: 'list' \(it is at key.x\)"),
        (frozenset({object()}), r"object cannot be a key \(it is at key, an element\)"),
    ],
    ids=short,
)  # fmt: skip
def test_another_type_is_refused_with_advice(key: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as found:
        encode(key)
    assert "has a hash" in str(found.value) or "alamo.register_key_encoder(" in str(found.value)


def test_nesting_without_end_is_refused() -> None:
    """A tuple 10 000 deep is an error and no crash."""
    key: Any = ()
    for _ in range(10_000):
        key = (key,)
    with pytest.raises(RecursionError, match="nested deeper"):
        encode(key)
    assert decode(encode(((((1,),),),))) == ((((1,),),),)
