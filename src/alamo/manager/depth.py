"""Tasks that all wait for tasks of their own, with no worker left to run these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alamo.core import workers

if TYPE_CHECKING:
    from alamo.manager.service import Service

#: How long all workers may stand still in waits, one of which may be about to end.
_TOO_DEEP_S = 1.0


class DepthWatch:
    """Ends a service in which nothing can go on any more."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._looking_again = False

    def look(self) -> None:
        """Something has changed."""
        if self._service.scheduler.is_too_deep and not self._looking_again:
            self._look_again(-1)

    def _look_again(self, dealt: int) -> None:
        """All workers stand still.  If nothing has gone on when this is asked again, it is the end.

        Args:
            dealt: chunks dealt when it was asked before.
        """
        scheduler = self._service.scheduler
        self._looking_again = scheduler.is_too_deep and scheduler.chunks_dealt != dealt
        if self._looking_again:
            now = scheduler.chunks_dealt
            self._service.loop.call_later(_TOO_DEEP_S, lambda: self._look_again(now))
        elif scheduler.is_too_deep:
            self._service.session.broken(
                f"{scheduler.pool.blocked} tasks wait for tasks that they submitted, and no worker "
                f"is left to run these: at most {workers.LENT_MAX} tasks may stand still in a wait "
                "at once; nest them less deeply, or do not wait inside of them"
            )
            self._service.check_end()
