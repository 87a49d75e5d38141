"""More or fewer slots while tasks run.

Nobody is chosen to leave: after a cut every worker finishes the task that it is in, those that
come to idle while there are too many are retired, and the rest is dealt to again.  So a task of
an hour holds no slot that another worker could have given back in a second.
"""

from __future__ import annotations

from collections.abc import Callable

from alamo.core.workers import Worker, WorkerPool


def change_slots(pool: WorkerPool, slots: int, recall: Callable[[Worker, bool], None]) -> None:
    """Set the number of slots; who is to be started or retired the pool tells when asked next.

    Args:
        recall: takes back what a worker holds behind the task that it is in.  Done where more
            run than there are slots now, so that these give up no more than that one task late.
    """
    assert slots >= 1
    if slots < pool.slots:
        pool.spare = 0  # until a task waits again
    pool.slots = slots
    if pool.running > slots:
        for worker in list(pool.holding.values()):
            if worker.behind_running:
                recall(worker, True)
