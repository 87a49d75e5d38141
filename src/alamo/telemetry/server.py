"""A small HTTP server for one page, in a thread of its own, on this machine's loopback.

One request after the other: however many come, they take one thread and two descriptors of the
process that works beside it, and each is cut off when its time is over.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

#: How long a request may take.
REQUEST_S = 5.0
_BACKLOG = 16
#: Where the system has no descriptor for a request: how long until the next is looked at.
_NO_ROOM_S = 0.1

#: Makes the page and its content type of the formats that are accepted.
Page = Callable[[str], tuple[bytes, str]]


class Server:
    """Serves ``/metrics`` until it is closed or the process ends.

    Nothing that goes wrong in a request is told to anybody but who made it.

    Args:
        page: called in the server's thread; whatever it raises is answered as "not now" (503).

    Attributes:
        url: where the page is, on a port chosen by the system.

    Raises:
        OSError: no port or no descriptor is left.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/metrics"
        threading.Thread(target=self._serve, name="alamo-metrics", daemon=True).start()

    def close(self) -> None:
        """Give the port back; a request that is being answered may go on."""
        self._closed = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closes it
        except OSError:
            pass

    def _serve(self) -> None:
        with self._listener:
            while not self._closed:
                try:
                    sock, address = self._listener.accept()
                except OSError:
                    if not self._closed:
                        time.sleep(_NO_ROOM_S)
                    continue
                with sock:
                    self._answer(sock, address)

    def _answer(self, sock: socket.socket, address: Any) -> None:
        timer = threading.Timer(REQUEST_S, _cut_off, (sock,))
        timer.daemon = True
        try:
            timer.start()
            _Handler(sock, address, self._page)
        except Exception:  # of a client that is gone, say
            pass
        finally:
            timer.cancel()


def _cut_off(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = REQUEST_S
    server_version = "alamo"
    sys_version = ""

    def __init__(self, sock: socket.socket, address: Any, page: Page) -> None:
        self._page = page
        super().__init__(sock, address, None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Give the page, whatever is asked about it."""
        if self.path.partition("?")[0] not in ("/metrics", "/"):
            self.send_error(404, explain="The metrics are at /metrics.")
            return
        try:
            text, content_type = self._page(self.headers.get("Accept", ""))
        except Exception:
            self.send_error(503, explain="The manager is about to end, or busy.")
            return
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it, and the logger belongs to another thread."""
