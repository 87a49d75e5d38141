"""A worker's way to its manager: whatever thread sends, a message goes out in one piece."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence

from alamo.protocol.framing import encode, send_all
from alamo.protocol.messages import Logged


class Outbox:
    """The sending side of the worker's socket.

    Cost of the lock: 0.05 us a message, of which there is one a chunk.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._posted: deque[bytes] = deque()

    def leave(self) -> None:
        """In a forked child of a task: the socket is the worker's, who alone writes to it."""
        self._sock.close()

    def sendall(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send an encoded message."""
        with self._lock:
            send_all(self._sock, data, fds)
        if self._posted:
            self._send_posted()

    def post(self, data: bytes) -> None:
        """Send a message now or, if something is being sent, behind that; never waits for it.

        A log record may come from a signal handler in the middle of ``sendall``.
        """
        self._posted.append(data)
        self._send_posted()

    def _send_posted(self) -> None:
        # Who holds the lock comes here when it is free again, so nothing is left lying.
        while self._posted and self._lock.acquire(blocking=False):
            try:
                while self._posted:
                    send_all(self._sock, self._posted.popleft())
            finally:
                self._lock.release()


class LogHandler(logging.Handler):
    """Log records become messages to the manager; in a child of a task, a part of its output."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if os.getpid() == self._pid:
                self._outbox.post(encode(Logged(record.name, record.levelno, text)))
            else:  # it shares the socket, and not the lock, with the worker
                print(text, file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)
