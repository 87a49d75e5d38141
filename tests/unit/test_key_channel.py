"""Channels of a dictionary whose keys are compared by their encoding."""

from __future__ import annotations

import gc
import math
import pickle
from typing import Any

import pytest
from hazard_oracle import cwd

from alamo.core.access import (
    READ,
    WHOLE,
    WRITE,
    CommunicationDomain,
    CommunicationObject,
    DataAccess,
    has_own_channels,
    make_access,
)
from alamo.core.hazards import HazardTracker
from alamo.core.key_channel import KeyChannel, channel_of
from alamo.core.keys import encode


class Table:
    """As a handle of a DDict is: many of them are one datum."""

    __hash__ = None  # type: ignore[assignment]

    def __alamo_datum__(self) -> str:
        return "table-1"

    def __alamo_channel__(self, key: Any) -> KeyChannel:
        return channel_of(key)


def depends(write: DataAccess, read: DataAccess) -> bool:
    """Whether a read of the second access waits for a write of the first."""
    tracker = HazardTracker()
    tracker.add((), (write,))
    tracker.add((read,), ())
    return bool(tracker.drain().preds)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, True, True),
        (1, 1.0, True),
        (1, 2, False),
        (1, "1", False),
        (math.nan, float("nan"), True),
        ((1, "a"), (1.0, "a"), True),
        ("a", b"a", False),
    ],
)
def test_accesses_meet_where_keys_are_one(a: Any, b: Any, same: bool) -> None:
    """Also through two handles of one dictionary, and after a journey."""
    write, read = make_access(Table(), (a,), WRITE, cwd), make_access(Table(), (b,), READ, cwd)
    assert depends(write, read) == same
    assert depends(write, pickle.loads(pickle.dumps(read))) == same
    assert depends(make_access(Table(), (a, "x"), WRITE, cwd), read) == same
    assert depends(make_access(Table(), (), WRITE, cwd), read)


def test_a_key_that_the_dictionary_refuses_is_refused_at_once() -> None:
    for key in ([], (1, []), object(), (object(),)):
        with pytest.raises(TypeError) as expected:
            encode(key)
        for channels in ((key,), (1, key)):
            with pytest.raises(TypeError) as found:
                make_access(Table(), channels, READ, cwd)
            assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("key", [1, True, 1.0, "a", (1, True), math.inf, b"x", None])
def test_an_access_reads_as_the_user_wrote_it(key: Any) -> None:
    access = make_access(Table(), (key,), READ, cwd)
    assert repr(access).endswith(f"[{key!r}]>")
    assert repr(pickle.loads(pickle.dumps(access.channel))) == repr(key)
    (channel,) = access.channels
    assert channel.key == key
    assert type(channel.key) is type(key)
    assert channel.encoded == encode(key)
    assert repr(make_access(Table(), (key, 2), READ, cwd)).endswith(f"[{key!r}, 2]>")
    assert len(repr(make_access(Table(), ("x" * 10_000,), READ, cwd))) < 200


def test_the_whole_dictionary_is_asked_for_no_channel() -> None:
    assert make_access(Table(), (), READ, cwd).channel is WHOLE


def test_other_objects_keep_their_channels() -> None:
    key = (1, True)
    for obj in ({}, object(), CommunicationObject(CommunicationDomain(), "a")):
        assert not has_own_channels(type(obj))
        assert make_access(obj, (key,), READ, cwd).channel is key
    assert has_own_channels(str)
    assert has_own_channels(Table)


def test_a_channel_is_not_the_collectors() -> None:
    """A program has millions of them."""
    assert not gc.is_tracked(channel_of(1))
    assert not gc.is_tracked(make_access(Table(), ((1, "a"),), READ, cwd))
