"""Taking work back from a worker that has not begun it (the protocol is told in ``layout``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol.layout import GRACE_S

if TYPE_CHECKING:
    from alamo.manager.service import Service

#: A worker from which the later half was taken may take this long for the other, or loses it too.
_HALF_S = 0.005


def recall(service: Service, worker: WorkerProcess, everything: bool) -> None:
    """Take back what the worker has not begun, or the later half of it."""
    first = worker.next_seq + 1
    cut = first if everything else first + max(0, worker.end_seq - first) // 2
    if cut >= worker.end_seq:
        if worker.recall is None:  # else it has stopped at the earlier limit and will say so
            service.drive_later(ev.WorkerResumed(worker.number))
        return
    cut = worker.lower_limit(cut)
    token = worker.recall = object()

    def settle() -> None:
        if worker.recall is token:
            service.harvester.harvest(worker)
            service.drive(ev.TakenBack(worker.number, max(cut, worker.next_seq + 1)))
            if not everything:
                service.loop.call_later(_HALF_S, escalate)

    def escalate() -> None:
        # It is still before its half: it may be in a task of an hour.
        if worker.recall is token:
            recall(service, worker, True)

    service.loop.call_later(GRACE_S, settle)
