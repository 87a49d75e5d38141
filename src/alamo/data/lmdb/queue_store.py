"""A queue's store on one machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from alamo.data.home import Home, share_home
from alamo.data.lmdb.line import Line
from alamo.data.lmdb.room import buffer_files, make_roomy_home
from alamo.data.store import Packed, QueueStore, Watch

__all__ = ["EmbeddedQueueStore"]


class EmbeddedQueueStore(QueueStore):
    """One handle's store; all handles of a process share one :class:`Line`."""

    def __init__(self, home: Home) -> None:
        """Take over one use of a home."""
        self._home = home
        self._is_closed = False
        files = buffer_files(home)
        self._line = line = home.part("line", lambda: Line(home, files))
        self.id = home.about.id
        self.place = home.path
        self.maxsize = line.maxsize
        self.joinable = line.joinable
        # What takes a few microseconds is the line's own.
        self.put_one = line.put_one  # type: ignore[method-assign]
        self.take_one = line.taker.take_one  # type: ignore[method-assign]

    @classmethod
    def make(
        cls,
        *,
        maxsize: int = 0,
        joinable: bool = False,
        name: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        total_mem: int | None = None,
    ) -> Self:
        """Make a queue, or open the one of that name; see :func:`make_roomy_home`."""
        home = make_roomy_home(
            "queue",
            "Queue",
            name=name,
            directory=directory,
            total_mem=total_mem,
            settings={"maxsize": maxsize, "joinable": joinable},
        )
        return cls._over(home)

    @classmethod
    def open(cls, path: str, uid: str) -> Self:
        """Open what a handle names; see :func:`share_home`."""
        return cls._over(share_home(path, uid))

    @classmethod
    def _over(cls, home: Home) -> Self:
        try:
            return cls(home)
        except BaseException:
            home.release()
            raise

    def handle(self) -> tuple[Any, ...]:
        self._home.keep()
        return "embedded", self.place, self.id

    def put(self, messages: Sequence[Packed]) -> int:
        return self._line.put(messages)

    def take(self, limit: int) -> list[Packed]:
        return self._line.taker.take(limit)

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
        about = self._home.about
        return self._line.stats() | {
            "place": self.place,
            "id": self.id,
            "name": about.name or None,
            "made_by": about.creator[0],
        }

    def let_go(self) -> None:
        self._home.unkeep()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._home.unkeep()
            self._home.release()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self._is_closed = True
            self._home.release()

    def destroy(self) -> None:
        if not self._line.is_destroyed():
            self._line.destroy()
        self._home.destroy()
        self._home.unkeep()
