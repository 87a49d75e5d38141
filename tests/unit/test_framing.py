"""Messages on a socket: cut anywhere, of any size, with descriptors, and nothing else."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from alamo.errors import ProtocolError, SerializationError
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader, encode, encode_all, send_all


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def reader_of(types: Any = msg.ClientMessage, **limits: int) -> MessageReader[Any]:
    return MessageReader(types, **limits)


def read_all(reader: MessageReader[Any], sock: socket.socket) -> list[Any]:
    found = []
    while reader.receive(sock):
        found += reader.messages()
    return found


SOME = [
    msg.FunctionDefined(5, b"blob"),
    msg.Page(1, 2, 3, b"\x01", b"args", joins=(1, 2), inputs=((1, (2, 3)),)),
    msg.Started(7, b"r" * 1000),
    msg.Opened(1, b"/tmp/\xff", True),
    msg.Closed(),
    msg.ObjectDefined(1, 2, b"x" * 700_000, 5, (1, 2)),
    msg.Blocked(True),
]


def test_cut_anywhere(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    rng = random.Random(1)
    wanted = [rng.choice(SOME) for _ in range(60)]
    data = encode_all(wanted)

    def send() -> None:
        at = 0
        while at < len(data):
            size = rng.choice((1, 3, 7, 100, 5000, 300_000))
            ours.sendall(data[at : at + size])
            at += size
        ours.close()

    thread = threading.Thread(target=send)
    thread.start()
    assert read_all(reader_of(), theirs) == wanted
    thread.join()


def test_descriptors_come_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reader = reader_of()
    made = []
    for k in range(20):
        fd = os.memfd_create("test")
        os.write(fd, b"%d" % k)
        send_all(ours, encode(msg.Closed()) * 3)
        send_all(ours, encode(msg.BlockMade(k, 1)), (fd,))
        os.close(fd)
    ours.close()
    while reader.receive(theirs):
        for message in reader.messages():
            if isinstance(message, msg.BlockMade):
                (fd,) = reader.take_descriptors(message)
                made.append((message.block, os.pread(fd, 10, 0)))
                os.close(fd)
    assert made == [(k, b"%d" % k) for k in range(20)]


def test_a_missing_descriptor_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.sendall(encode(msg.BlockMade(1, 1)))
    reader = reader_of()
    reader.receive(theirs)
    (message,) = reader.messages()
    with pytest.raises(ProtocolError, match="without its descriptor"):
        reader.take_descriptors(message)


def test_descriptors_that_nobody_takes_are_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    fd = os.memfd_create("test")
    send_all(ours, encode(msg.Closed()), (fd, fd))
    os.close(fd)
    reader = reader_of()
    reader.receive(theirs)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "body",
    [
        b"\x00",
        b"\xff" * 10,
        b"",
        encode(msg.Ready(5))[4:],
        encode(msg.Closed())[4:] + b"x",
        b"\x91\xa4Blah",
    ],
    ids=["number", "garbage", "empty", "wrong direction", "longer", "unknown"],
)
def test_anything_else_is_an_error(pair: tuple[socket.socket, socket.socket], body: bytes) -> None:
    ours, theirs = pair
    ours.sendall(struct.pack("<I", len(body)) + body)
    reader = reader_of()
    reader.receive(theirs)
    with pytest.raises(ProtocolError):
        list(reader.messages())


def test_limits(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.sendall(encode(msg.FunctionDefined(1, b"x" * 1000)))
    reader = reader_of(frame_max=500)
    reader.receive(theirs)
    with pytest.raises(ProtocolError, match="over the limit"):
        list(reader.messages())
    ours.sendall(struct.pack("<I", 0xFFFF_FFFF))
    reader = reader_of()
    reader.receive(theirs)
    with pytest.raises(ProtocolError, match="over the limit"):
        list(reader.messages())


def test_random_bytes_never_do_more_than_raise() -> None:
    rng = random.Random(2)
    for _ in range(300):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            good = bytearray(encode(rng.choice(SOME[:5])))
            for _ in range(rng.randint(1, 5)):
                good[rng.randrange(len(good))] = rng.randrange(256)
            ours.sendall(bytes(good))
            ours.close()
            try:
                read_all(reader_of(), theirs)
            except ProtocolError:
                pass


def test_what_has_no_encoding_is_told_as_such() -> None:
    with pytest.raises(SerializationError, match="Logged"):
        encode(msg.Logged("name", 1, "\udc80"))


def test_a_message_over_the_limit_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alamo.protocol.framing.FRAME_MAX_BYTES", 1000)
    with pytest.raises(SerializationError, match="over the limit of 1000"):
        encode(msg.FunctionDefined(1, bytes(1000)))
