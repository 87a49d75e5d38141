"""The workers of a running Batch: what is shown of them, and how they are changed."""

from __future__ import annotations

from alamo.batch import launch
from alamo.batch.client import Client
from alamo.errors import UsageError
from alamo.protocol import messages as msg


class Controls:
    """The part of a Batch that deals with its workers."""

    _client: Client
    _joined: bool

    @property
    def num_workers(self) -> int:
        """How many tasks run at once; a client that did not make the Batch learns of a change
        a moment later.
        """
        return self._client.slots

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus finds the metrics of this Batch, on this machine's loopback; ``None``
        without ``enable_telem=True``.  The port goes with the Batch.
        """
        return self._client.metrics_url

    def scale(self, num_workers: int) -> None:
        """Change how many tasks run at once, while tasks run.

        More workers start at once.  Of fewer, those that idle end at once and those that run a
        task end when it has; what they had been dealt and not begun runs elsewhere.  Nothing is
        lost and nothing runs twice.  Allowed after ``close`` too, while work goes on.

        Args:
            num_workers: at least 1, for with none no work would ever end.

        Raises:
            UsageError: ``num_workers`` is no number of at least 1 or more than the machine
                holds; or this client did not make the Batch; or the Batch has ended.
            BatchBroken: the service is gone.

        Cost: a message; a worker started takes some milliseconds and some 15 MB.

        Example:
            >>> from alamo import Batch
            >>> with Batch(num_workers=1) as batch:
            ...     batch.scale(3)
            ...     batch.num_workers
            3
        """
        if not self._client.is_primary:
            raise UsageError(
                "only the process that made the Batch can scale it: its other clients share it"
            )
        if self._joined:
            raise UsageError("this Batch has ended; there is nothing to scale")
        slots = launch.check_slots(num_workers, "close() ends all workers")
        self._client.check_broken()
        self._client.send([msg.ScaleAsked(slots)])
        self._client.slots = slots
        self._client.options.forget()
