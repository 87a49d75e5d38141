"""A queue's store in the memory of one process: for tests, and to tell what a store owes."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alamo.data.queue import Queue
from alamo.data.store import Packed, QueueStore, Watch
from alamo.deadlines import left_until
from alamo.errors import DataStoreError

__all__ = ["MemoryQueueStore", "memory_queue"]


def memory_queue(maxsize: int = 0, *, joinable: bool = False) -> Queue[Any]:
    """A ``Queue`` that lives in this process: no files, and as fast for one message as for many.

    For tests of programs that use queues, under ``InlineBatch`` for example.  Threads share it;
    its handle can be pickled within this process.

    Example:
        >>> from alamo.testing import memory_queue
        >>> q = memory_queue(maxsize=2)
        >>> q.put("work")
        >>> q.get()
        'work'
    """
    return Queue.over(MemoryQueueStore.make(maxsize=maxsize, joinable=joinable))


class _Line:
    """The messages of one queue, for all of its store objects."""

    def __init__(self, maxsize: int, joinable: bool) -> None:
        self.id = secrets.token_hex(8)
        self.maxsize = maxsize
        self.joinable = joinable
        self.messages: deque[Packed] = deque()
        self.unfinished = 0
        self.is_destroyed = False
        self.changed = threading.Condition()


_lines: weakref.WeakValueDictionary[str, _Line] = weakref.WeakValueDictionary()


class _Watch:
    """Woken by every change."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._seen = self._state()

    def wait(self, deadline_s: float | None) -> None:
        with self._line.changed:
            if self._state() == self._seen:
                self._line.changed.wait(left_until(deadline_s))
            self._seen = self._state()

    def _state(self) -> tuple[int, int, bool]:
        line = self._line
        return len(line.messages), line.unfinished, line.is_destroyed


class MemoryQueueStore(QueueStore):
    """A queue that threads of one process share.  Buffers are copied once, when put."""

    place = "memory of this process"

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.id = line.id
        self.maxsize = line.maxsize
        self.joinable = line.joinable

    @classmethod
    def make(cls, *, maxsize: int = 0, joinable: bool = False) -> MemoryQueueStore:
        line = _Line(max(maxsize, 0), joinable)
        _lines[line.id] = line
        return cls(line)

    @classmethod
    def open(cls, id: str) -> MemoryQueueStore:
        line = _lines.get(id)
        if line is None:
            raise DataStoreError(
                f"the queue {id} lies in the memory of another process, or is gone: "
                "alamo.testing.memory_queue() is for the threads of one process, use alamo.Queue()"
            )
        return cls(line)

    def put(self, messages: Sequence[Packed]) -> int:
        line = self._line
        copied = [(head, [bytearray(buffer) for buffer in buffers]) for head, buffers in messages]
        with self._used():
            room = line.maxsize - len(line.messages) if line.maxsize else len(copied)
            line.messages.extend(copied[:room])
            line.unfinished += min(room, len(copied))
            return min(room, len(copied))

    def take(self, limit: int) -> list[Packed]:
        line = self._line
        with self._used():
            return [line.messages.popleft() for _ in range(min(limit, len(line.messages)))]

    def size(self) -> int:
        with self._used():
            return len(self._line.messages)

    @contextmanager
    def watch_messages(self) -> Iterator[Watch]:
        yield _Watch(self._line)

    watch_room = watch_finished = watch_messages

    def unfinished(self) -> int:
        with self._used():
            return self._line.unfinished

    def done(self, count: int) -> bool:
        with self._used():
            if count > self._line.unfinished:
                return False
            self._line.unfinished -= count
            return True

    def stats(self) -> dict[str, Any]:
        with self._used():
            messages = list(self._line.messages)
        used = sum(len(head) + sum(map(len, buffers)) for head, buffers in messages)
        return {"messages": len(messages), "bytes_used": used}

    def handle(self) -> Any:
        return "memory", self.id

    def close(self) -> None:
        """There is nothing to let go of."""

    def destroy(self) -> None:
        with self._line.changed:
            self._line.is_destroyed = True
            self._line.messages.clear()
            self._line.changed.notify_all()

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Under the lock; whoever waits looks again afterwards."""
        with self._line.changed:
            if self._line.is_destroyed:
                raise DataStoreError(f"the queue {self.id} has been destroyed")
            yield
            self._line.changed.notify_all()
