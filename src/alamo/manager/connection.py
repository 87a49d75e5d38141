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
    DESCRIPTORS_MAX,
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

    Attributes:
        queued_bytes: what the peer has not taken yet.

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
        self._below: list[tuple[int, Callable[[], None]]] = []
        self.queued_bytes = 0
        self.closed = False
        self._fd = sock.fileno()
        loop.add(self._fd, self._ready)

    def send(self, message: Message, fds: Sequence[int] = (), linger_s: float = 0.0) -> None:
        """Queue a message; duplicates the descriptors, so the caller keeps its own.

        Args:
            linger_s: how long it may wait for others to go with it.

        Raises:
            SerializationError: the message is too large.
            OSError: there are no descriptors left.  Nothing was queued then.
        """
        if self.closed:
            return
        data = encode(message)
        self._out.append((memoryview(data), _duplicates(fds)))
        self.queued_bytes += len(data)
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
                self._join_small()
                data, fds = out[0]
                if fds:
                    sent = send_with_descriptors(self.sock, data, fds)
                    for fd in fds:
                        os.close(fd)
                    out[0] = (data, ())
                else:
                    sent = self.sock.send(data)
                self.queued_bytes -= sent
                if sent == len(data):
                    out.popleft()
                else:
                    out[0] = (data[sent:], ())
        except BlockingIOError:
            pass
        except OSError as error:
            reason = str(error)
            # Not now: the sender may be in the middle of what the owner does about the end.
            self._loop.at_round_end(lambda: self._gone(reason))
            return
        self._want_write(bool(out))
        if self._below:
            self._look_below()

    def when_below(self, size: int, callback: Callable[[], None]) -> None:
        """Call once at the end of the round in which no more than so many bytes are queued."""
        self._below.append((size, callback))

    def _look_below(self) -> None:
        reached = [entry for entry in self._below if self.queued_bytes <= entry[0]]
        for entry in reached:
            self._below.remove(entry)
            self._loop.at_round_end(entry[1])

    def _gone(self, reason: str) -> None:
        """The peer takes nothing any more; what it had said before that counts."""
        self.drain()
        self.close(reason)

    def _join_small(self) -> None:
        """Make the first frames one, with the descriptors of all, which are received in order."""
        out = self._out
        if len(out) < 2 or len(out[0][0]) > _JOIN_BYTES:
            return
        parts: list[memoryview] = []
        size = 0
        all_fds: list[int] = []
        while out:
            data, fds = out[0]
            room = size + len(data) <= _JOIN_BYTES and len(all_fds) + len(fds) <= DESCRIPTORS_MAX
            if parts and not room:
                break
            out.popleft()
            parts.append(data)
            size += len(data)
            all_fds += fds
        out.appendleft((memoryview(b"".join(parts)), all_fds))

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
        """Read what is there and hand its messages over.

        Whatever a handler raises, other than that the peer broke the protocol, is our own
        fault and goes up: the peer must not be blamed for it.
        """
        if self.closed:
            return
        gone: str | None = None
        try:
            if not self._reader.receive(self.sock):
                gone = ""
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            gone = str(error)
        broken = self._hand_over()
        if broken is not None or gone is not None:
            self.close(broken or gone or "")

    def _hand_over(self) -> str | None:
        """Give the complete messages to the handler; how the peer broke the protocol, if it did."""
        try:
            for message in self._reader.messages():
                self._on_message(message)
                if self.closed:
                    return None
        except ProtocolError as error:
            return str(error)
        return None

    def drain(self) -> None:
        """Receive until the peer's last byte: for a process that is known to be dead."""
        alive = True
        while alive and not self.closed:
            try:
                alive = self._reader.receive(self.sock)
            except (OSError, ProtocolError):
                alive = False
            if self._hand_over() is not None:
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
        self._below.clear()
        self.queued_bytes = 0
        self.sock.close()
        if not quiet:
            self._on_close(reason)

    @property
    def has_output(self) -> bool:
        """Whether the peer has not yet taken all that was sent."""
        return bool(self._out)

    def begin_anew(self, on_message: Callable[[Message], None]) -> None:
        """Go on after the loop's ``begin_anew``; nobody is told of the end."""
        if self.closed:
            return
        self._on_message, self._on_close = on_message, lambda _: None
        self._dirty = self._lingering = self._writing = False
        self._loop.add(self._fd, self._ready)

    def trust(self) -> None:
        """The peer has proved who it is: its frames may be large."""
        self._reader.frame_max = FRAME_MAX_BYTES
