"""Exceptions packed and unpacked: the class, what it holds, its chain, and what cannot travel."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest

from alamo.errors import RemoteError, TaskExit, UpstreamFailed, WorkerLost
from alamo.protocol.exceptions import dump_exception, load_exception, name_of, traits


def travel(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        data = dump_exception(raised, "host", 7)
    return load_exception(data, "task 3 (fit)")


class Plain(Exception):
    pass


class Keyword(Exception):
    def __init__(self, *, a: int, b: Any = None) -> None:
        super().__init__(f"a is {a}")
        self.a, self.b = a, b


class New(Exception):
    def __new__(cls, one: int, two: int) -> New:
        return super().__new__(cls, one, two)

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one + two)
        self.sum = one + two


class Slots(Exception):
    __slots__ = ("deep", "level")

    def __init__(self, level: int) -> None:
        super().__init__("slots")
        self.level = level


class MoreSlots(Slots):
    __slots__ = ("message",)

    def __init__(self) -> None:
        super().__init__(3)
        self.message = "kept"


class Http(OSError):
    def __init__(self, url: str) -> None:
        super().__init__(13, "denied", url)
        self.url = url


class Decode(UnicodeDecodeError):
    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "odd")


class Stop(StopIteration):
    def __init__(self) -> None:
        super().__init__(42)


class Group(ExceptionGroup[Exception]):
    def __init__(self, message: str, errors: list[Exception]) -> None:
        self.tag = "mine"

    def derive(self, errors: Any) -> Group:
        return Group(self.message, errors)


class Refuses(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("never")


class LoadsAsOther(Exception):
    def __reduce__(self) -> Any:
        return str, ("other",)


FIELDS = (
    *("a", "b", "sum", "level", "message", "url", "errno", "strerror", "filename", "name"),
    *("path", "value", "start", "object", "lineno", "end_offset", "uid", "signal"),
)


@pytest.mark.parametrize(
    "error",
    [
        Plain(),
        Plain("a", 1, [2]),
        Keyword(a=1, b=[2]),
        New(1, 2),
        Slots(5),
        MoreSlots(),
        Http("/x"),
        Decode(b"\xff"),
        Stop(),
        ImportError("no", name="n", path="p"),
        SyntaxError("bad", ("f", 1, 2, "t", 3, 4)),
        KeyError(("a", 1)),
        UpstreamFailed("text", 3, 4),
        WorkerLost("text", 1, "h", 2, 9, -1),
        TimeoutError(),
        BlockingIOError(11, "again", 5),
        NameError("n", name="who"),
        AttributeError("a", name="what"),
        LoadsAsOther("x"),
        Refuses("r"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_it_arrives_as_it_was(error: BaseException) -> None:
    error.add_note("of the user's")
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert str(arrived) == str(error)
    for name in FIELDS:
        assert getattr(arrived, name, None) == getattr(error, name, None), name
    assert arrived.__notes__[0] == "of the user's"
    assert arrived.__notes__[1].startswith(
        "raised by task 3 (fit) on host, pid 7; there:\nTraceback"
    )
    assert not hasattr(arrived, "deep")


def test_chains_and_cycles() -> None:
    first, second, third = Plain(1), Keyword(a=2), Plain(3)
    first.__cause__, second.__context__, third.__context__ = second, third, first
    arrived = travel(first)
    assert arrived.__suppress_context__
    cause = arrived.__cause__
    assert isinstance(cause, Keyword)
    assert isinstance(cause.__context__, Plain)
    assert cause.__context__.__context__ is arrived


def test_a_long_chain_is_cut() -> None:
    error: BaseException = Plain(0)
    for k in range(1, 500):
        following = Plain(k)
        following.__cause__ = error
        error = following
    arrived, length = travel(error), 1
    while arrived.__cause__ is not None:
        arrived, length = arrived.__cause__, length + 1
    assert 100 < length < 300


def test_groups_keep_their_members() -> None:
    error = Group(
        "outer", [Keyword(a=1), ExceptionGroup("inner", [Http("/x"), Plain(threading.Lock())])]
    )
    error.exceptions[0].__cause__ = Plain("why")
    arrived = travel(error)
    assert type(arrived) is Group
    assert (arrived.message, arrived.tag) == ("outer", "mine")
    one, inner = arrived.exceptions
    assert isinstance(one, Keyword)
    assert isinstance(one.__cause__, Plain)
    assert isinstance(inner, ExceptionGroup)
    assert isinstance(inner.exceptions[0], Http)
    assert type(inner.exceptions[1]) is RemoteError
    assert "Plain" in str(inner.exceptions[1])


def test_a_group_that_holds_its_own_cause() -> None:
    inner = Plain("inner")
    group = ExceptionGroup("outer", [inner])
    inner.__cause__ = group
    arrived = travel(inner)
    assert type(arrived) is Plain


def test_what_cannot_be_pickled_stays_behind() -> None:
    error = Plain("text")
    error.lock, error.good = threading.Lock(), 5  # type: ignore[attr-defined]
    arrived = travel(error)
    assert type(arrived) is Plain
    assert arrived.good == 5  # type: ignore[attr-defined]
    assert not hasattr(arrived, "lock")
    assert "lock: could not be pickled" in arrived.__notes__[0]
    arrived = travel(Plain(threading.Lock()))
    assert type(arrived) is RemoteError
    assert "Plain" in str(arrived)


def test_exits_are_wrapped() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise SystemExit(9)

    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit("x"), SystemExit(Rude())):
        arrived = travel(error)
        assert type(arrived) is TaskExit
        assert type(error).__name__ in str(arrived)
    group = BaseExceptionGroup("g", [KeyboardInterrupt()])
    arrived = travel(group)
    assert type(arrived) is TaskExit
    assert type(arrived.__cause__) is BaseExceptionGroup


def test_odd_texts() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    assert travel(Plain("\ud800 ü")).args == ("\ud800 ü",)
    assert "Odd" in repr(travel(Odd()))
    huge = travel(Plain("x" * 3_000_000))
    assert len(str(huge)) == 3_000_000
    assert len(huge.__notes__[0]) < 200_000


def test_a_class_that_is_gone_here(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump_exception(Keyword(a=5), "h", 1)
    monkeypatch.delattr(sys.modules[__name__], "Keyword")
    arrived = load_exception(data, "task 1")
    assert type(arrived) is RemoteError
    assert "Keyword: a is 5" in str(arrived)
    assert "cannot be loaded here" in str(arrived)


class Unpickled(Exception):
    """Its loading would be seen."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    ("error", "names", "code"),
    [
        (ValueError("x"), ["builtins.ValueError", "builtins.Exception"], None),
        (Http("url"), [f"{__name__}.Http", "builtins.OSError", "builtins.Exception"], None),
        (
            subprocess.CalledProcessError(75, ["false"]),
            ["subprocess.CalledProcessError", "subprocess.SubprocessError", "builtins.Exception"],
            75,
        ),
        (subprocess.CalledProcessError(-9, ["sh"]), ["subprocess.CalledProcessError"], -9),
        (SystemExit(3), ["alamo.errors.TaskExit", "builtins.SystemExit"], None),
        (Unpickled(), [f"{__name__}.Unpickled"], None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_traits_without_unpickling(
    error: BaseException, names: list[str], code: int | None
) -> None:
    found = traits(dump_exception(error, "host", 7))
    assert found.exit_code == code
    assert found.names[0] == names[0]
    assert set(names) <= set(found.names)
    assert name_of(BaseException) in found.names
    assert name_of(object) not in found.names  # type: ignore[arg-type]


def test_traits_of_local_classes_and_of_strange_codes() -> None:
    class Local(KeyError):
        pass

    error = subprocess.CalledProcessError("?", "sh")  # type: ignore[arg-type]
    assert traits(dump_exception(error, "", 0)).exit_code is None
    error.returncode = 1 << 80
    assert traits(dump_exception(error, "", 0)).exit_code is None
    assert traits(dump_exception(Local("k"), "", 0)).names[0] == name_of(Local)
    assert ".<locals>.Local" in name_of(Local)
    with pytest.raises(msgspec.DecodeError):
        traits(b"none")
