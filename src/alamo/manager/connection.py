"""A non-blocking connection of the manager to a client, a worker or the nursery."""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from alamo.errors import ProtocolError
from alamo.manager.loop import Loop
from alamo.protocol.framing import (
    FRAME_MAX_BYTES,
    MessageReader,
    encode,
    send_with_descriptors,
)
from alamo.protocol.messages import Message

#: Frames up to this size are joined before they are sent.
_JOIN_BYTES = 1 << 16


def _duplicates(fds: Sequence[int]) -> list[int]:
    made: list[int] = []
    try:
        for fd in fds:
            made.append(os.dup(fd))
    except OSError:
        for fd in made:
            os.close(fd)
        raise
    return made


class Connection:
    """Sends and receives messages; never blocks.

    Output is gathered and sent when the loop's round ends, so several messages to one
    peer cost one system call.

    Args:
        on_message: called with each message received.
        on_close: called once when the peer is gone or broke the protocol, with the
            reason ("" for an orderly end).
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        types: Any,
        on_message: Callable[[Message], None],
        on_close: Callable[[str], None],
        frame_max: int = FRAME_MAX_BYTES,
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self.sock = sock
        self._reader: MessageReader[Message] = MessageReader(types, frame_max)
        self._on_message = on_message
        self._on_close = on_close
        self._out: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._dirty = False
        self._lingering = False
        self._writing = False
        self.closed = False
        self._fd = sock.fileno()
        loop.add(self._fd, self._ready)

    def send(self, message: Message, fds: Sequence[int] = (), linger_s: float = 0.0) -> None:
        """Queue a message; duplicates the descriptors, so the caller keeps its own.

        Args:
            linger_s: how long it may wait for others to go with it.
        """
        if self.closed:
            return
        self._out.append((memoryview(encode(message)), [os.dup(fd) for fd in fds]))
        if linger_s:
            if not self._lingering and not self._dirty:
                self._lingering = True
                self._loop.call_later(linger_s, self._end_linger)
        elif not self._dirty:
            self._dirty = True
            self._loop.at_round_end(self.flush)

    def _end_linger(self) -> None:
        self._lingering = False
        if self._out and not self._dirty and not self.closed:
            self.flush()

    def take_descriptors(self, message: Message) -> list[int]:
        """Descriptors that came with a message."""
        return self._reader.take_descriptors(message)

    def flush(self) -> None:
        """Send as much as the socket takes."""
        self._dirty = False
        out = self._out
        try:
            while out and not self.closed:
                data, fds = out[0]
                if fds:
                    sent = send_with_descriptors(self.sock, data, fds)
                    for fd in fds:
                        os.close(fd)
                    out[0] = (data, ())
                else:
                    self._join_small()
                    data = out[0][0]
                    sent = self.sock.send(data)
                if sent == len(data):
                    out.popleft()
                else:
                    out[0] = (data[sent:], ())
        except BlockingIOError:
            pass
        except OSError as error:
            self.close(str(error))
            return
        self._want_write(bool(out))

    def _join_small(self) -> None:
        """Make the first frames one, up to a size or the next that carries descriptors."""
        out = self._out
        if len(out) < 2 or out[1][1] or len(out[0][0]) > _JOIN_BYTES:
            return
        parts: list[memoryview] = []
        size = 0
        while out and not out[0][1] and (not parts or size + len(out[0][0]) <= _JOIN_BYTES):
            data, _ = out.popleft()
            parts.append(data)
            size += len(data)
        out.appendleft((memoryview(b"".join(parts)), ()))

    def _want_write(self, wanted: bool) -> None:
        if wanted != self._writing and not self.closed:
            self._writing = wanted
            self._loop.modify(self._fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self.flush()
        if events & ~select.EPOLLOUT:
            self.receive()

    def receive(self) -> None:
        """Read what is there and hand its messages over."""
        if self.closed:
            return
        try:
            alive = self._reader.receive(self.sock)
            for message in self._reader.messages():
                self._on_message(message)
                if self._is_closed():
                    return
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            self.close(str(error))
            return
        if not alive:
            self.close("")

    def _is_closed(self) -> bool:
        """Whether a handler has closed the connection meanwhile."""
        return self.closed

    def drain(self) -> None:
        """Receive until the peer's last byte: for a process that is known to be dead."""
        while not self.closed:
            try:
                alive = self._reader.receive(self.sock)
                for message in self._reader.messages():
                    self._on_message(message)
            except (OSError, ProtocolError):
                return
            if not alive:
                return

    def close(self, reason: str = "", quiet: bool = False) -> None:
        """Close; ``quiet`` does not call ``on_close``."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove(self._fd)
        self._reader.close()
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()
        self.sock.close()
        if not quiet:
            self._on_close(reason)

    def flush_blocking(self, timeout_s: float | None) -> None:
        """Send what is queued before the process ends.

        Args:
            timeout_s: how long the peer may take nothing; ``None``: as long as it lives.
        """
        if self.closed:
            return
        self.sock.settimeout(timeout_s)
        self.flush()

    def trust(self) -> None:
        """The peer has proved who it is: its frames may be large."""
        self._reader.frame_max = FRAME_MAX_BYTES
