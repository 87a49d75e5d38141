"""Messages on a Unix stream socket: length-prefixed msgpack, descriptors beside them.

A descriptor is attached to the first byte of its message and received in order, so a
receiver takes as many from its queue as the message's type says.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from alamo.errors import ProtocolError, SerializationError
from alamo.protocol.messages import Message

M = TypeVar("M")

_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode

#: A message may hold a page of arguments or results; more is a broken or hostile peer.
FRAME_MAX_BYTES = 0xFFFF_0000
#: Descriptors that one ``sendmsg`` may bring (Linux: 253).
DESCRIPTORS_MAX = 64
_ANCILLARY_BYTES = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
_READ_BYTES = 1 << 18


def encode(message: Message) -> bytes:
    """The message as it travels, length first.

    Raises:
        SerializationError: it is too large, or holds what has no encoding.
    """
    try:
        body = _encode(message)
    except (msgspec.EncodeError, UnicodeEncodeError, OverflowError) as error:
        raise SerializationError(
            f"a {type(message).__name__} message cannot be sent: {error}"
        ) from error
    if len(body) > FRAME_MAX_BYTES:
        raise SerializationError(
            f"a {type(message).__name__} message of {len(body)} bytes is over the limit of "
            f"{FRAME_MAX_BYTES}; pass large data through files or as arrays, whose buffers "
            "travel apart"
        )
    return _LENGTH.pack(len(body)) + body


def printable(text: str) -> str:
    """The text as a message can hold it: what stands for bytes that are no UTF-8 is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def encode_all(messages: Iterable[Message]) -> bytes:
    """Several messages, one behind the other."""
    return b"".join([encode(m) for m in messages])


class MessageReader(Generic[M]):
    """Cuts a byte stream into messages of the given types.

    Args:
        types: a union of message classes; any other message is a ``ProtocolError``.
        frame_max: bytes that a message may have.

    Attributes:
        frame_max: may be changed; below ``FRAME_MAX_BYTES`` no descriptors are taken either.
    """

    def __init__(self, types: Any, frame_max: int = FRAME_MAX_BYTES) -> None:
        self.frame_max = frame_max
        self._decode = msgspec.msgpack.Decoder(types).decode
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._descriptors: deque[int] = deque()

    def receive(self, sock: socket.socket) -> bool:
        """Read once from the socket; ``False`` at the end of the stream.

        Raises:
            BlockingIOError: a non-blocking socket has nothing.
            OSError: the connection broke.
        """
        if len(self._buffer) - self._end < _READ_BYTES // 4:
            self._make_room()
        count, ancillary, flags, _ = sock.recvmsg_into(
            [self._view[self._end :]], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self._descriptors.extend(fds)
        if self._descriptors and self.frame_max < FRAME_MAX_BYTES:
            raise ProtocolError("descriptors from a peer that has not said who it is")
        self._end += count  # also when descriptors were lost: what came before them is good
        if flags & socket.MSG_CTRUNC:
            raise ProtocolError(
                "descriptors were lost on the way: too many open files (see ulimit -n)"
            )
        return count > 0

    def _make_room(self) -> None:
        """Move the unread rest to the front, in a larger buffer when a frame needs one."""
        rest = self._end - self._start
        needed = _READ_BYTES
        if rest >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, self._start)
            needed = max(needed, length + _LENGTH.size + _READ_BYTES // 4)
        buffer = bytearray(needed) if needed != len(self._buffer) else self._buffer
        buffer[:rest] = bytes(self._view[self._start : self._end])
        if buffer is not self._buffer:
            self._buffer = buffer
            self._view = memoryview(buffer)
        self._start, self._end = 0, rest

    def messages(self) -> Iterator[M]:
        """Complete messages received so far.

        Raises:
            ProtocolError: bytes that are no message of these types.
        """
        while self._end - self._start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, self._start)
            if length > self.frame_max:
                raise ProtocolError(f"a frame of {length} bytes is over the limit")
            first = self._start + _LENGTH.size
            if self._end < first + length:
                return
            try:
                message = self._decode(self._view[first : first + length])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ProtocolError(f"not a message of this protocol: {error}") from None
            self._start = first + length
            if self._start == self._end:
                self._start = self._end = 0
            yield message

    def take_descriptors(self, message: Message) -> list[int]:
        """The descriptors that came with the message."""
        count = message.descriptors
        if len(self._descriptors) < count:
            raise ProtocolError(f"{type(message).__name__} came without its descriptor")
        return [self._descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


def send_with_descriptors(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int]) -> int:
    """One ``sendmsg`` with descriptors; returns how many bytes went out."""
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])


def send_all(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send everything on a blocking socket."""
    if fds:
        sent = send_with_descriptors(sock, data, fds)
        if sent < len(data):
            sock.sendall(memoryview(data)[sent:])
    else:
        sock.sendall(data)
