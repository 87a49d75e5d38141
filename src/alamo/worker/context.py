"""What code inside a task can know of the worker around it.

A Batch that is unpickled inside a task registers here: it tells the manager in which
worker it lives, so that a wait lends the worker's slot, and it is closed with the task.
"""

from __future__ import annotations

from collections.abc import Callable


class WorkerContext:
    """State of this process as a worker.

    Attributes:
        worker: number of this worker, -1 in any other process.
        address: socket path of the manager that it belongs to.
    """

    def __init__(self) -> None:
        self.worker = -1
        self.address = ""
        self._at_end: list[Callable[[], None]] = []

    def enter(self, worker: int, address: str) -> None:
        """This process is a worker from now on."""
        self.worker = worker
        self.address = address

    def at_task_end(self, callback: Callable[[], None]) -> None:
        """Call this when the running task has ended."""
        self._at_end.append(callback)

    def end_task(self) -> None:
        """The running task has ended.  A callback must not raise."""
        while self._at_end:
            self._at_end.pop()()


context = WorkerContext()
