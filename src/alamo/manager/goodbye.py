"""The last words to all clients, at once, when nothing else goes on any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from alamo.protocol import messages as msg
from alamo.protocol.framing import printable

if TYPE_CHECKING:
    from alamo.manager.clients import Client
    from alamo.manager.service import Service

#: For telling clients that the service ends before its work is done.
ABORT_S = 1.0
#: For all clients but the primary to take the last results.
LAST_RESULTS_S = 30.0


class Goodbye:
    """Gives the clients what is still queued for them.

    What they send meanwhile is read and dropped: one that cannot get rid of what it has
    to say might never come to read what we have.

    Args:
        service: its loop has forgotten everything, but who may give it a reason to end at once.
        done: all work is done: the primary gets its results however long it takes, until
            there is such a reason.
    """

    def __init__(self, service: Service, reason: str, done: bool) -> None:
        self._loop = service.loop
        self._session = service.session
        self._done = done
        self._clients = list(service.clients.values())
        self._end_within(LAST_RESULTS_S if done else ABORT_S)
        for client in self._clients:
            client.connection.begin_anew(self._dropping(client))
            client.connection.send(msg.Ended(printable(reason)))

    def say(self) -> None:
        """Work until all have it or the time is over."""
        self._loop.run(until=self._is_over)
        for client in self._clients:
            client.connection.close()

    def _end_within(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._loop.call_at(self._deadline, lambda: None)

    def _is_over(self) -> bool:
        if self._done and self._session.reason:  # the primary is gone, or wants no more
            self._done = False
            self._end_within(ABORT_S)
        waiting = [c for c in self._clients if c.connection.has_output]
        if self._done and any(c.number == self._session.primary for c in waiting):
            return False
        return not waiting or time.monotonic() >= self._deadline

    def _dropping(self, client: Client) -> Callable[[msg.Message], None]:
        def drop(message: msg.Message) -> None:
            for fd in client.connection.take_descriptors(message):
                os.close(fd)
            if isinstance(message, msg.TerminateAsked):
                self._session.terminate_asked(client.number)

        return drop
