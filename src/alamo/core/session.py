"""The life of the service: its clients, and when it ends.

The service ends when its primary client has asked to join, every client has closed or
is gone and all work is done; at once when the primary is gone or terminates it.
"""

from __future__ import annotations

import enum


class End(enum.Enum):
    """Whether the service goes on."""

    NOT_YET = 0
    DONE = 1
    ABORT = 2


class Session:
    """Counts clients and decides on the end.  The first client to register is the primary.

    Example:
        >>> s = Session(); s.register(0); s.closed(0); s.join_asked(0)
        >>> s.verdict(unfinished=3), s.verdict(unfinished=0)
        (<End.NOT_YET: 0>, <End.DONE: 1>)
    """

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._closed: set[int] = set()
        self.primary: int | None = None
        self._joining = False
        self.reason = ""

    def register(self, client: int) -> None:
        """A client has been let in."""
        if self.primary is None:
            self.primary = client
        self._open.add(client)

    def may_submit(self, client: int) -> bool:
        """Whether the client has not closed."""
        return client in self._open

    def closed(self, client: int) -> None:
        """The client submits no more."""
        self._open.discard(client)
        self._closed.add(client)

    def gone(self, client: int) -> None:
        """The client's connection has ended; a client that had not closed counts as closed."""
        self.closed(client)
        if client == self.primary and not self.reason:
            self.reason = "the primary client is gone"

    def join_asked(self, client: int) -> None:
        """The primary waits for the end."""
        if client == self.primary:
            self._joining = True

    def terminate_asked(self, client: int) -> None:
        """The primary ends the service at once."""
        if client == self.primary and not self.reason:
            self.reason = "the primary client terminated the Batch"

    def broken(self, reason: str) -> None:
        """The service cannot go on."""
        self.reason = self.reason or reason

    @property
    def open_clients(self) -> int:
        """Clients that may still submit."""
        return len(self._open)

    def verdict(self, unfinished: int) -> End:
        """Whether the service ends now, with so many elements not finished."""
        if self.reason:
            return End.ABORT
        if self._joining and not self._open and not unfinished:
            return End.DONE
        return End.NOT_YET
