"""What a client sends to its manager, from any thread.

Users' threads may block in a send while the manager is busy.  The receiver thread may not:
while it does not read, the manager cannot get rid of what it has for us.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Sequence

from alamo.protocol import messages as msg
from alamo.protocol.framing import encode_all, send_all


class Outlet:
    """The sending side of one connection.

    Attributes:
        why: why this side has ended the connection, "" when it has not, or in good order.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        #: Messages that go with whatever is sent next.  It need not be soon: what they give
        #: back is not what anybody waits for.
        self._posted: deque[msg.Message] = deque()
        #: The end of a message of which the socket has taken the beginning; under the lock.
        self._rest = b""
        self.why = ""

    def send(self, messages: Sequence[msg.Message], fds: Sequence[int] = ()) -> None:
        """Send messages in one piece; blocks while the manager takes nothing.

        Raises:
            OSError: the connection is broken.
        """
        data = encode_all(messages)
        with self._lock:
            try:
                if self._rest or self._posted:
                    send_all(self._sock, self._waiting())
                    self._rest = b""
                send_all(self._sock, data, fds)
            except OSError:
                raise
            except BaseException:  # Ctrl-C: what comes next would be read as the rest of this
                self.shut_down("sending to it was interrupted")
                raise

    def post(self, message: msg.Message) -> None:
        """Have a message go with the next one, or when ``push`` is called."""
        self._posted.append(message)

    def push(self) -> None:
        """Send what was posted, as far as that does not block.

        Only for the receiver thread: an interrupt behind ``acquire`` would leave the lock held.
        """
        if (self._posted or self._rest) and self._lock.acquire(blocking=False):
            try:
                self._send_some(b"")
            except OSError:  # the receiver is about to see it too
                self._posted.clear()
                self._rest = b""
            finally:
                self._lock.release()

    def send_at_once(self, message: msg.Message, wait_s: float) -> bool:
        """Send something short, or not when the manager takes nothing from us.

        Args:
            wait_s: how long another thread that sends is waited for.
        """
        if not self._lock.acquire(timeout=wait_s):
            return False
        try:
            return self._send_some(encode_all([message]))
        except OSError:
            return False
        finally:
            self._lock.release()

    def _waiting(self) -> bytes:
        """All that was posted and the rest from before."""
        messages = []
        while self._posted:
            messages.append(self._posted.popleft())
        return self._rest + encode_all(messages)

    def _send_some(self, data: bytes) -> bool:
        """Send what waits and this behind it, without blocking; whether all has gone."""
        try:
            data = self._rest = self._waiting() + data
            self._rest = data[self._sock.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError:
            raise
        except BaseException:
            self.shut_down("sending to it was interrupted")
            raise
        return not self._rest

    def shut_down(self, why: str = "") -> None:
        """Wake whoever sends or receives; for good."""
        self.why = self.why or why
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Close the socket, which nobody receives from any more."""
        self.shut_down()  # wakes a sender, who holds the lock
        with self._lock:
            self._sock.close()
