"""Metrics of a running service, for Prometheus.

The service's thread counts and, when somebody scrapes, copies the numbers; the server's thread
makes text of them.  So the numbers fit together, nothing is locked where tasks are dealt, and
a service without metrics does nothing for them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from copy import deepcopy
from queue import SimpleQueue
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.telemetry.exposition import Snapshot, render
from alamo.telemetry.server import Server
from alamo.telemetry.tally import Tally

if TYPE_CHECKING:
    from alamo.manager.service import Service

log = logging.getLogger("alamo.manager")

#: How long a scrape waits for the service's thread.
_ANSWER_S = 3.0
#: For so long the server's thread may hold up the service's (5 ms if nothing is said).
_SWITCH_S = 0.000_2


class Metrics:
    """Counts what a service does and serves it; made before the service takes in anything.

    Attributes:
        url: where Prometheus finds it.

    Raises:
        OSError: no port or no descriptor is left.
    """

    def __init__(self, service: Service) -> None:
        sys.setswitchinterval(_SWITCH_S)
        self._service = service
        self._tally = Tally(service.scheduler)
        service.handle = self._handle
        self._asked: deque[SimpleQueue[Snapshot]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        service.loop.add(self._wake, lambda _: self._answer())
        self._server = Server(self._page)
        self.url = self._server.url

    def _handle(self, event: ev.Event, now_s: float) -> list[ev.Effect]:
        """Stands in for the scheduler's; an error of the counting is none of the service's."""
        try:
            self._tally.before(event, now_s)
        except Exception:
            self._give_up()
        effects = self._service.scheduler.handle(event, now_s)
        try:
            self._tally.after(effects)
        except Exception:
            self._give_up()
        return effects

    def _give_up(self) -> None:
        """No numbers are better than wrong ones."""
        self._service.handle = self._service.scheduler.handle
        self.close()
        log.exception("metrics are not served any more: counting failed")

    def close(self) -> None:
        """Serve no more: the service ends."""
        self._server.close()

    def _page(self, accept: str) -> tuple[bytes, str]:
        """In the server's thread.  Raises ``queue.Empty`` when the service does not answer."""
        answer: SimpleQueue[Snapshot] = SimpleQueue()
        self._asked.append(answer)
        os.eventfd_write(self._wake, 1)
        return render(answer.get(timeout=_ANSWER_S), accept)

    def _answer(self) -> None:
        os.eventfd_read(self._wake)
        while self._asked:
            self._asked.popleft().put(self._snapshot())

    def _snapshot(self) -> Snapshot:
        service = self._service
        pool = service.scheduler.pool
        return Snapshot(
            counts=deepcopy(self._tally.counts),
            running=len(pool.holding),
            slots=pool.slots,
            busy=pool.running,
            blocked=pool.blocked,
            idle=len(pool.workers) - len(pool.holding),
            starting=pool.starting,
            result_bytes=service.forwarder.forwarded_bytes,
            shared_bytes=service.blocks.total_bytes,
            manager_cpu_seconds=time.process_time(),
        )
