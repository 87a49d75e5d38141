"""A queue over Valkey or Redis."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alamo.data.store import Packed, QueueStore
from alamo.data.valkey.address import Address
from alamo.data.valkey.functions import function
from alamo.data.valkey.life import Life, refuse_limit
from alamo.data.valkey.records import is_plain, joined
from alamo.data.valkey.requests import Requests
from alamo.data.valkey.servers import Servers
from alamo.data.valkey.values import Values, inline_max_bytes
from alamo.data.valkey.watches import EventWatch, LineWatch, subscribed
from alamo.errors import QueueFullError

__all__ = ["ValkeyQueueStore"]

_PUT = function("put_messages")
_TAKE = function("take_messages")
_COUNT = function("count_messages")
_DONE = function("done_messages")
_AWAIT = function("await")
_LEAVE = function("leave")
_USAGE = function("usage")


class ValkeyQueueStore(QueueStore):
    """A list in one slot, so a queue lies on one server.

    What is taken is gone from the server: a consumer that is killed loses what it was just taking,
    one message by ``get``, all of them by ``get_many``; so does one whose connection breaks then,
    which gets an error.
    """

    def __init__(self, servers: Servers, life: Life) -> None:
        self.id = life.id
        self.place = servers.address.place
        self.maxsize = int(life.facts["maxsize"])
        self.joinable = bool(life.facts["joinable"])
        self._servers = servers
        self._life = life
        buckets = life.buckets
        [self._names] = buckets.names
        self._requests = Requests(buckets, f"the queue {self.id}", QueueFullError)
        self._values = Values(self._requests)
        self._finalizer = weakref.finalize(self, life.close)

    @classmethod
    def make(
        cls,
        url: str,
        maxsize: int = 0,
        joinable: bool = False,
        name: str | None = None,
        total_mem: int | None = None,
    ) -> ValkeyQueueStore:
        """Make a queue, or open the one of that name.

        Raises:
            UsageError: the URL is none, or ``total_mem`` is given.
            DataStoreError: no server can be reached there.
        """
        refuse_limit(total_mem)
        servers = Servers.of(Address.parse(url))
        facts = {"buckets": "1", "maxsize": str(maxsize), "joinable": "1" if joinable else ""}
        return cls(servers, Life.make(servers, "queue", name, facts))

    @classmethod
    def open(cls, url: str, id: str) -> ValkeyQueueStore:
        """Open the queue of a handle.

        Raises:
            DataStoreError: it is no more, or no server can be reached.
        """
        servers = Servers.of(Address.parse(url))
        return cls(servers, Life(servers, id, "queue"))

    # -- messages --

    def put(self, messages: Sequence[Packed]) -> int:
        base = self._names[0]
        limit = inline_max_bytes(messages)
        written = [self._values.write(base, message, False, limit) for message in messages]
        arguments: list[Any] = []
        for one in written:
            arguments += (one.parts, one.record)
        arguments[:-1] = [joined(argument) for argument in arguments[:-1]]
        try:
            count = self._put(arguments)
        except QueueFullError:
            self._values.discard((base, one) for one in written)
            raise
        self._values.discard((base, one) for one in written[count:])
        return count

    def put_one(self, head: bytes, buffers: Sequence[Any]) -> bool:
        if is_plain(head, buffers):
            return self._put(["", head]) == 1
        return self.put([(head, buffers)]) == 1

    def _put(self, arguments: list[Any]) -> int:
        count: int = self._requests.change(
            self._names, _PUT, self.maxsize, "1" if self.joinable else "", *arguments
        )
        return count

    def take(self, limit: int) -> list[Packed]:
        records = self._requests.change(self._names, _TAKE, limit, self.maxsize)
        return [self._values.taken(self._names[0], record) for record in records or ()]

    def size(self) -> int:
        count: int = self._requests.call(self._names, _COUNT, "messages")
        return count

    def unfinished(self) -> int:
        count: int = self._requests.call(self._names, _COUNT, "unfinished")
        return count

    def done(self, count: int) -> bool:
        return bool(self._requests.change(self._names, _DONE, count))

    # -- waiting --

    @contextmanager
    def watch_messages(self) -> Iterator[LineWatch]:
        with self._in_line(0) as watch:
            yield watch

    @contextmanager
    def watch_room(self) -> Iterator[LineWatch]:
        with self._in_line(self.maxsize) as watch:
            yield watch

    @contextmanager
    def _in_line(self, maxsize: int) -> Iterator[LineWatch]:
        waiter = secrets.token_bytes(8)
        base = self._names[0]
        with subscribed(self._servers, base, base + b":" + waiter) as subscription:
            try:
                yield LineWatch(
                    subscription, lambda: self._requests.call(self._names, _AWAIT, waiter, maxsize)
                )
            finally:
                self._requests.call(self._names, _LEAVE, waiter)

    @contextmanager
    def watch_finished(self) -> Iterator[EventWatch]:
        base = self._names[0]
        with subscribed(self._servers, base, base + b":finished") as subscription:
            yield EventWatch(subscription)

    # -- the whole --

    def stats(self) -> dict[str, Any]:
        [used] = self._requests.call_all(_USAGE)
        return {"messages": self.size(), "bytes_used": used, "place": self.place}

    def handle(self) -> tuple[Any, ...]:
        return "valkey", self._servers.address.url, self.id

    def close(self) -> None:
        self._finalizer()

    def destroy(self) -> None:
        self._life.destroy()
