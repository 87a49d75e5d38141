"""Descriptors of accesses: identity, normal forms, errors and how they read."""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from alamo.core.access import (
    FILES,
    READ,
    WHOLE,
    WRITE,
    Channels,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    datum_key,
    make_access,
)


def cwd() -> str:
    """Where the tests pretend to be."""
    return "/home"


def nowhere() -> str:
    """A working directory that must not be asked for."""
    raise AssertionError("cwd() was called for an absolute path")


@pytest.mark.parametrize(
    ("obj", "channels", "path"),
    [
        ("/a", ("b",), "/a/b"),
        ("/a/", ("b/",), "/a/b"),
        ("/a", ("b/c",), "/a/b/c"),
        ("/a/b", ("c",), "/a/b/c"),
        ("/a", ("../c",), "/c"),
        ("/a", (".",), "/a"),
        ("/a", ("..",), "/"),
        ("/a", ("",), "/a"),
        ("/a", ("/b",), "/b"),
        ("//a", (), "/a"),
        ("//", ("a",), "/a"),
        ("/", ("a",), "/a"),
        ("a", ("b",), "/home/a/b"),
        ("", (), "/home"),
        (".", ("b",), "/home/b"),
        ("../a", (), "/a"),
        (Path("/a"), (Path("b"),), "/a/b"),
        (PurePosixPath("a"), ("b",), "/home/a/b"),
        (b"/a", (b"b\xff",), "/a/b\udcff"),
    ],
)
def test_paths_are_absolute_normal_forms(obj: Any, channels: tuple[Any, ...], path: str) -> None:
    """Whatever the spelling, the channel is one absolute normal path."""
    access = make_access(obj, channels, READ, cwd)
    assert access.obj is FILES
    assert access.channel == path
    assert access.channels == (path,)


def test_cwd_is_asked_only_for_relative_paths() -> None:
    """An absolute path needs no working directory, a relative one takes that of the moment."""
    make_access("/a", ("b",), READ, nowhere)
    make_access(Path("/a"), (), READ, nowhere)
    assert make_access("a", (), READ, lambda: "/one").channel == "/one/a"
    assert make_access("a", (), READ, lambda: "/two").channel == "/two/a"


def test_channels_of_objects() -> None:
    """No channel is the whole object, one is kept bare (also a tuple), several together."""
    d: dict[str, int] = {}
    assert make_access(d, (), READ, nowhere).channel is WHOLE
    assert make_access(d, (), READ, nowhere).channels == ()
    assert make_access(d, (1,), READ, nowhere).channel == 1
    assert make_access(d, ((1, 2),), READ, nowhere).channel == (1, 2)
    several = make_access(d, (1, 2), READ, nowhere)
    assert several.channels == (1, 2)
    assert isinstance(several.channel, Channels)
    assert make_access("/a", ("b", "c/d"), READ, nowhere).channels == ("/a/b", "/a/c/d")


@pytest.mark.parametrize("channel", [3, None, 1.5, ("a",), ["a"]])
def test_a_channel_of_a_path_is_a_name(channel: Any) -> None:
    """A wrong channel of a path is refused where it is written."""
    for channels in ((channel,), ("ok", channel)):
        with pytest.raises(TypeError, match=r"channel of the path '/a' is a file .* not \w+"):
            make_access("/a", channels, READ, nowhere)


def test_repr_is_short() -> None:
    """An access reads well and never prints a big object."""
    d = dict.fromkeys(range(1000), "x" * 1000)
    assert repr(make_access(d, ("x",), READ, cwd)).startswith("<READ dict at 0x")
    assert repr(make_access(d, ("x",), READ, cwd)).endswith("['x']>")
    assert repr(make_access("/a", ("b",), WRITE, cwd)) == "<WRITE '/a/b'>"
    assert repr(make_access((1, 2), (), READ, cwd)) == "<READ (1, 2)>"
    assert repr(make_access((1, 2), (3, 4), READ, cwd)) == "<READ (1, 2)[3, 4]>"
    assert len(repr(make_access(d, tuple("x" * 10_000 for _ in range(10_000)), READ, cwd))) < 300
    obj = CommunicationObject(CommunicationDomain(), "10.0.0.1")
    assert repr(make_access(obj, (80,), READ, cwd)) == "<READ CommunicationObject('10.0.0.1')[80]>"


def test_communication_objects_compare_by_domain_and_object() -> None:
    """Equal domain and equal object, or the identical one if it has no hash."""
    one, two = CommunicationDomain(rar=True), CommunicationDomain(rar=True, waw=False)
    assert CommunicationDomain() == CommunicationDomain(rar=False, raw=True, war=True, waw=True)
    assert CommunicationObject(one, "a") == CommunicationObject(one, "a")
    assert hash(CommunicationObject(one, "a")) == hash(CommunicationObject(one, "a"))
    assert CommunicationObject(one, "a") != CommunicationObject(two, "a")
    assert CommunicationObject(one, "a") != CommunicationObject(one, "b")
    assert CommunicationObject(one, "a") != "a"
    x: list[int] = []
    assert CommunicationObject(one, x) == CommunicationObject(one, x)
    assert CommunicationObject(one, x) != CommunicationObject(one, [])
    assert make_access(CommunicationObject(one, "a"), (1,), READ, nowhere).obj.obj == "a"
    with pytest.raises(TypeError, match="CommunicationDomain"):
        CommunicationObject("10.0.0.1", one)  # type: ignore[arg-type]


def test_datum_keys_do_not_mix() -> None:
    """An object equal to another's datum, or to its id, is not the same datum."""

    class Queue:
        def __alamo_datum__(self) -> str:
            return "q1"

    x: list[int] = []
    assert datum_key(Queue()) == datum_key(Queue())
    assert datum_key(Queue()) != datum_key("q1")
    assert datum_key(x) == datum_key(x)
    assert datum_key(x) != datum_key(id(x))


def test_pickling() -> None:
    """Accesses and objects survive pickling; the markers stay themselves."""
    obj = CommunicationObject(CommunicationDomain(rar=True), "a")
    for access in (DataAccess(FILES, "/a", READ), DataAccess(obj, WHOLE, WRITE)):
        copy = pickle.loads(pickle.dumps(access))
        assert copy.obj == access.obj
        assert copy.channel == access.channel
        assert (copy.obj is FILES, copy.channel is WHOLE) == (
            access.obj is FILES,
            access.channel is WHOLE,
        )
