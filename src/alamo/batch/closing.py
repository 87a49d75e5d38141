"""The end of a Batch: closing it, waiting for it, ending it at once."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from alamo.batch.client import Client
from alamo.batch.waiting import default_timeout
from alamo.errors import UsageError


class Closing:
    """The part of a Batch that deals with its end."""

    _client: Client
    _joined: bool

    def close(self) -> None:
        """Say that this client submits no more; a second call does nothing."""
        self._client.close()

    def join(self, timeout: float | None = default_timeout, *, progress: bool = False) -> None:
        """Wait until all clients have closed, all work is done and the service has ended.

        Args:
            timeout: seconds.
            progress: show meanwhile on stderr how far the programs are that this client has
                not seen the end of; needs ``alamo[progress]``.

        Raises:
            WaitTimeout: (a ``TimeoutError``) the time is over; the service goes on.
            UsageError: called before ``close``, or by a client that did not make the Batch.
            BatchBroken: the service ended before all work was done.
        """
        if not self._client.is_primary:
            raise UsageError(
                "only the process that made the Batch can join it; other clients just close()"
            )
        if self._joined:
            return
        if not self._client.closed:
            raise UsageError(
                "call close() before join(): the service runs on while work may be submitted"
            )
        if progress:
            from alamo.batch.progress import of_client  # for those who ask for it

            with of_client(self._client) as tick:
                self._client.join(timeout, tick)
        else:
            self._client.join(timeout)
        self._joined = True

    def terminate(self) -> None:
        """End the service at once: running tasks are killed, waits raise ``BatchBroken``.

        Raises:
            UsageError: called by a client that did not make the Batch.
        """
        if not self._client.is_primary:
            raise UsageError(
                "only the process that made the Batch can terminate it; other clients just close()"
            )
        self._joined = True
        self._client.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._client.is_primary:
            if kind is None:
                self._client.finish_feeding(only_at_hand=False)
            self._leave()
        elif kind is None:
            try:
                self.close()
                self.join()
            except BaseException:  # Ctrl-C: at exit nobody waits again for what takes long
                self.terminate()
                raise
        elif not self._joined:
            self.terminate()

    def __del__(self) -> None:
        """The primary client terminates a Batch that was not joined; another one closes, in a task
        at the task's end."""
        if "_client" not in self.__dict__ or self._joined:
            return
        if self._client.is_primary or not self._client.ends_with_task:
            try:
                self._leave()
            except Exception:
                pass

    def _leave(self) -> None:
        if self._client.is_primary:
            self.terminate()
        else:
            self._client.leave()
            self._joined = True
