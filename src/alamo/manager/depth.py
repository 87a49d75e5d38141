"""Tasks that all stand still in waits, with no worker left to run what they wait for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from alamo.core import workers

if TYPE_CHECKING:
    from alamo.manager.service import Service

log = logging.getLogger("alamo.manager")

#: How long all workers may stand still in waits, one of which may be about to end.
_TOO_DEEP_S = 1.0


class DepthWatch:
    """Ends a service in which nothing can go on any more.

    What waits for shared data may go on when a client brings it, so then it only warns.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._looking_again = False
        #: Chunks dealt when it was warned last.
        self._warned = -1

    def look(self) -> None:
        """Something has changed."""
        if self._service.scheduler.is_too_deep and not self._looking_again:
            self._look_again(-1)

    def _look_again(self, dealt: int) -> None:
        """All workers stand still.  If nothing has gone on when this is asked again, it is told.

        Args:
            dealt: chunks dealt when it was asked before.
        """
        scheduler = self._service.scheduler
        self._looking_again = scheduler.is_too_deep and scheduler.chunks_dealt != dealt
        if self._looking_again:
            now = scheduler.chunks_dealt
            self._service.loop.call_later(_TOO_DEEP_S, lambda: self._look_again(now))
        elif scheduler.is_too_deep:
            await_data = sum([w.awaits_data for w in self._service.pool.workers.values()])
            if await_data:
                self._warn(await_data, dealt)
            else:
                self._end()

    def _end(self) -> None:
        self._service.session.broken(
            f"{self._service.scheduler.pool.blocked} tasks wait for tasks that they submitted, and "
            f"no worker is left to run these: at most {workers.LENT_MAX} tasks may stand still in "
            "a wait at once; nest them less deeply, or do not wait inside of them"
        )
        self._service.check_end()

    def _warn(self, await_data: int, dealt: int) -> None:
        if self._warned != dealt:
            self._warned = dealt
            log.warning(
                "%d tasks stand still in a wait, %d of them for shared data, and no worker is left "
                "for the tasks behind them: at most %d may do so at once. They go on when the data "
                "come. If tasks behind them bring the data, none goes on: put these before those "
                "that wait, or give the waits a timeout",
                self._service.scheduler.pool.blocked,
                await_data,
                workers.LENT_MAX,
            )
