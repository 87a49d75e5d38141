"""Time in an inline Batch: the machine's, but pauses are skipped when nothing else is to do."""

from __future__ import annotations

import heapq
import time


class Clock:
    """What time it is, and when the scheduler wants to be woken."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._alarms: list[float] = []

    def now_s(self) -> float:
        """Monotonic seconds."""
        return time.monotonic() + self._ahead_s

    def wake_at(self, at_s: float) -> None:
        """Note an alarm."""
        heapq.heappush(self._alarms, at_s)

    def skip(self) -> bool:
        """Go on to the next alarm; ``False`` when there is none."""
        if not self._alarms:
            return False
        self._ahead_s += max(0.0, heapq.heappop(self._alarms) - self.now_s())
        return True
