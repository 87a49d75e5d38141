"""Log records of the manager and its workers, on their way to the primary client."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from alamo.errors import SerializationError
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.manager.service import Service

log = logging.getLogger("alamo.manager")

#: A client with so much to take in gets no log records on top of it.
LOGS_MAX_BYTES = 4 << 20


class LogRelay:
    """Passes records on; drops and counts those that the client does not take in time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lost = 0

    def tell(self, message: msg.Logged) -> None:
        """Pass a record on to the primary client."""
        number = self._service.session.primary
        primary = self._service.clients.get(-1 if number is None else number)
        if primary is None:
            return
        if primary.connection.queued_bytes > LOGS_MAX_BYTES:
            if not self._lost:
                primary.connection.when_below(LOGS_MAX_BYTES // 2, self._tell_lost)
            self._lost += 1
            return
        try:
            primary.connection.send(message)
        except SerializationError:  # not worth more than the text that it has no encoding for
            pass

    def _tell_lost(self) -> None:
        count, self._lost = self._lost, 0
        log.warning("%d log records were dropped, which this process did not take in time", count)
