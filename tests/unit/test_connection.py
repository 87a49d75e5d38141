"""A connection of the manager: whose fault an error is, and what is delivered in spite of it."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from alamo.errors import ProtocolError, SerializationError
from alamo.manager.connection import Connection
from alamo.manager.loop import Loop
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader, encode, encode_all


class End:
    """A connection, and what its owner was told."""

    def __init__(self) -> None:
        self.loop = Loop()
        ours, self.theirs = socket.socketpair()
        self.seen: list[Any] = []
        self.closed: list[str] = []
        self.error: Exception | None = None
        self.connection = Connection(
            self.loop, ours, msg.ClientMessage, self.take, self.closed.append
        )

    def take(self, message: msg.Message) -> None:
        self.seen.append(message)
        if self.error is not None:
            raise self.error

    def finish_round(self) -> None:
        self.loop._finish_round()


@pytest.fixture
def end() -> Iterator[End]:
    one = End()
    yield one
    one.connection.close(quiet=True)
    one.theirs.close()


@pytest.mark.parametrize("error", [OSError("disk full"), SerializationError("x"), KeyError(1)])
def test_an_error_of_a_handler_is_not_the_peers(end: End, error: Exception) -> None:
    end.error = error
    end.theirs.sendall(encode(msg.Closed()))
    with pytest.raises(type(error)):
        end.connection.receive()
    assert not end.connection.closed
    assert end.closed == []


def test_a_handler_may_find_that_the_peer_broke_the_protocol(end: End) -> None:
    end.error = ProtocolError("nonsense")
    end.theirs.sendall(encode_all([msg.Closed(), msg.Closed()]))
    end.connection.receive()
    assert end.closed == ["nonsense"]
    assert len(end.seen) == 1


def test_good_messages_before_a_bad_one_are_delivered(end: End) -> None:
    good = [msg.Started(1), msg.Closed()]
    end.theirs.sendall(encode_all(good) + b"\x02\x00\x00\x00\xff\xff" + encode(msg.Closed()))
    end.connection.receive()
    assert end.seen == good
    assert len(end.closed) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_messages_before_lost_descriptors_are_delivered(end: End) -> None:
    end.theirs.sendall(encode(msg.Closed()))
    fd = os.open(os.devnull, os.O_RDONLY)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        socket.send_fds(end.theirs, [encode(msg.BlockMade(1, 2))], [fd])
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        end.connection.receive()
        end.connection.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(fd)
    assert end.seen[0] == msg.Closed()
    assert "too many open files" in end.closed[0]


def test_no_descriptors_left_loses_nothing_else(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message with descriptors is not queued, none of them stays open, the rest goes out."""
    end.connection.send(msg.Closed())
    gc.collect()  # what other tests left is not to go in between
    before = len(os.listdir("/proc/self/fd"))
    real, left = os.dup, iter(range(2))

    def dup(fd: int) -> int:
        if next(left, None) is None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(fd)

    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(OSError, match="Too many open files"):
        end.connection.send(msg.BlockMade(1, 2), [0] * 5)
    assert len(os.listdir("/proc/self/fd")) == before
    end.connection.send(msg.JoinAsked())
    end.finish_round()
    reader: MessageReader[Any] = MessageReader(msg.ClientMessage)
    assert reader.receive(end.theirs)
    assert list(reader.messages()) == [msg.Closed(), msg.JoinAsked()]


def test_a_peer_that_is_gone_is_noticed_after_the_round(end: End) -> None:
    """Who sends may be in the middle of something that the end of the peer would change."""
    end.theirs.close()
    end.connection.send(msg.Closed())
    end.connection.flush()
    assert end.closed == []
    end.finish_round()
    assert len(end.closed) == 1


def test_what_is_queued_is_counted_and_the_owner_told_when_it_is_less(end: End) -> None:
    reader: MessageReader[Any] = MessageReader(msg.ClientMessage)
    told: list[str] = []
    blob = bytes(1_000_000)
    for number in range(3):
        end.connection.send(msg.FunctionDefined(number, blob))
    assert end.connection.queued_bytes > 3_000_000
    end.connection.when_below(2_000_000, lambda: told.append("less"))
    end.connection.when_below(0, lambda: told.append("nothing"))
    seen = 0
    while seen < 3:
        end.connection.flush()
        before = end.connection.queued_bytes
        end.finish_round()
        assert told == ["less"] * (before <= 2_000_000) + ["nothing"] * (before == 0)
        reader.receive(end.theirs)
        seen += len(list(reader.messages()))
    assert end.connection.queued_bytes == 0
    end.connection.flush()
    end.finish_round()
    assert told == ["less", "nothing"]
