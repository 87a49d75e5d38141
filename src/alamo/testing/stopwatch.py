"""The time and CPU time that a task takes in the calling thread."""

from __future__ import annotations

import os
import time

from alamo.protocol.marks import Timing, pack
from alamo.worker.stats import children_cpu_ns, take_peak


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        take_peak()  # what is there is no task's
        self._begun = (0, *self._now_ns(), 0)

    def timing(self) -> Timing:
        """What is to be said of one task that ran meanwhile."""
        return Timing(os.getpid(), pack(self._begun, (1, *self._now_ns(), take_peak())))

    @staticmethod
    def _now_ns() -> tuple[int, int]:
        return time.time_ns(), time.process_time_ns() + children_cpu_ns()
