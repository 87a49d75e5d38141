"""A queue's store on one machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from alamo.data.home import Home, make_home, share_home
from alamo.data.lmdb.line import Line
from alamo.data.store import Packed, QueueStore, Watch

__all__ = ["EmbeddedQueueStore"]


class EmbeddedQueueStore(QueueStore):
    """One handle's store; all handles of a process share one :class:`Line`."""

    def __init__(self, home: Home) -> None:
        """Take over a user's part of the home."""
        self._home = home
        self._line = line = home.part("line", partial(Line, home))
        self.id = home.about.id
        self.place = home.path
        self.maxsize = line.maxsize
        self.joinable = line.joinable
        # Hot paths are the line's own.
        self.put_one = line.put_one  # type: ignore[method-assign]
        self.take_one = line.take_one  # type: ignore[method-assign]

    @classmethod
    def make(
        cls,
        *,
        maxsize: int = 0,
        joinable: bool = False,
        name: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        total_mem: int | None = None,
    ) -> EmbeddedQueueStore:
        """Make a queue, or open the one of that name, as ``make_queue_store``."""
        settings = {"maxsize": maxsize, "joinable": joinable}
        return cls(
            make_home(
                "queue", name=name, directory=directory, total_bytes=total_mem, settings=settings
            )
        )

    @classmethod
    def open(cls, path: str, id: str) -> EmbeddedQueueStore:
        """Open the queue that a handle stands for."""
        return cls(share_home(path, id))

    def handle(self) -> tuple[str, str, str]:
        """Path and id; whoever made the queue keeps it from now on."""
        self._home.keep()
        return "embedded", self.place, self.id

    def put(self, messages: Sequence[Packed]) -> int:
        return self._line.put(messages)

    def take(self, limit: int) -> list[Packed]:
        return self._line.take(limit)

    def size(self) -> int:
        return self._line.size()

    def watch_messages(self) -> AbstractContextManager[Watch]:
        return self._line.watch_messages()

    def watch_room(self) -> AbstractContextManager[Watch]:
        return self._line.watch_room()

    def unfinished(self) -> int:
        return self._line.unfinished()

    def done(self, count: int) -> bool:
        return self._line.done(count)

    def watch_finished(self) -> AbstractContextManager[Watch]:
        return self._line.watch_finished()

    def stats(self) -> dict[str, Any]:
        return self._line.stats()

    def close(self) -> None:
        home, self._home = self._home, None  # type: ignore[assignment]
        if home is not None:
            home.release()

    def destroy(self) -> None:
        self._line.destroy()
        self._home.destroy()

    def __del__(self) -> None:
        if getattr(self, "_home", None) is not None:
            self.close()
