"""``Queue``: a first-in first-out line of messages between any processes of one user."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from alamo.data.packing import pack, type_name, unpack
from alamo.data.store import Packed, QueueStore
from alamo.data.stores import make_queue_store, open_queue_store
from alamo.data.waiting import deadline_of, wait_until
from alamo.errors import SerializationError, UsageError, WaitTimeout

__all__ = ["Queue"]

T = TypeVar("T")
_Taken = TypeVar("_Taken")


class SomeFull(queue.Full):
    """``put_many`` found no room for all; raised as ``queue.Full``.

    Attributes:
        count: how many messages were put, the first ones.
    """

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message, count)
        self.count = count

    def __str__(self) -> str:
        return str(self.args[0])


class Queue(Generic[T]):
    """A queue that any process of this user can use, similar to ``multiprocessing.Queue``.

    Its handle may be pickled, also into tasks, other queues and dictionaries, and inherited by
    fork.  Messages come out in the order in which they were put, each exactly once, whoever puts
    and gets.  ``put`` stores the message before it returns, so there is no feeder thread, and what
    cannot be pickled raises there.  Nothing is lost when a process is killed, but for the message
    that a killed consumer was just taking.

    A queue goes when nobody has it any more.  Once its handle was pickled, the process that made
    it keeps it until it ends or closes it: the handle may travel while nobody has it open.

    Args:
        maxsize: how many messages it holds; 0 and below: any number.
        joinable: count unfinished messages, for ``task_done`` and ``join``.
        name: open the queue of this name, or make it.
        directory: where its files lie; by default ``ALAMO_DATA_DIR``, else ``/dev/shm``.
        url: a server or cluster to keep it in instead, such as ``valkey://host:6379``.
        total_mem: the most memory that its messages take, in bytes or as ``"2 GiB"``.

    Raises:
        UsageError: the queue of that name has another ``maxsize`` or ``joinable``.
        DataStoreError: the store cannot be made or reached.

    Cost: a put of 100 B takes 4 us, a get 2 us; 10 MB are copied once in and once out.

    Example:
        >>> from alamo import Queue
        >>> with Queue() as q:
        ...     q.put({"step": 1})
        ...     q.put_many(range(3))
        ...     q.get(), q.get_many(10)
        ({'step': 1}, [0, 1, 2])
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        joinable: bool = False,
        name: str | None = None,
        directory: str | None = None,
        url: str | None = None,
        total_mem: int | str | None = None,
    ) -> None:
        maxsize = max(maxsize, 0)
        store = make_queue_store(
            maxsize=maxsize,
            joinable=joinable,
            name=name,
            directory=directory,
            url=url,
            total_mem=total_mem,
        )
        if (store.maxsize, store.joinable) != (maxsize, joinable):
            raise UsageError(
                f"the queue {name!r} exists with maxsize={store.maxsize}, "
                f"joinable={store.joinable}; open it with these, or make one of another name"
            )
        self._use(store)

    @classmethod
    def over(cls, store: QueueStore) -> Queue[Any]:
        """A handle of the queue in a store that is there already."""
        one: Queue[Any] = cls.__new__(cls)
        one._use(store)
        return one

    def _use(self, store: QueueStore) -> None:
        self._store = store
        self._closed = False
        # Looked up once: put and get take a few microseconds.
        self._put_one = store.put_one
        self._take_one = store.take_one

    # -- putting --

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Append a message; it is there for everybody when this returns.

        Args:
            block: when the queue is full, wait until there is room.
            timeout: for so many seconds at most; ``None``: as long as it takes.

        Raises:
            queue.Full: there was no room.
            ValueError: this handle is closed.
            SerializationError: the message cannot be pickled.
            QueueFullError: memory has run out.
        """
        if self._closed:
            raise self._is_closed()
        head, buffers = pack(obj)
        if not self._put_one(head, buffers):
            self._put_when_room([(head, buffers)], block, timeout)

    def put_nowait(self, obj: T) -> None:
        """``put(obj, block=False)``."""
        self.put(obj, False)

    def put_many(self, objs: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Append messages in order; where there is room for all, with none of others between.

        A twentieth of the cost of as many puts.

        Raises:
            queue.Full: there was no room for all; its ``count`` says how many were put, the first.
            ValueError, SerializationError, QueueFullError: as ``put``.
        """
        if self._closed:
            raise self._is_closed()
        messages = [pack(obj) for obj in objs]
        count = self._store.put(messages)
        if count < len(messages):
            self._put_when_room(messages, block, timeout, count)

    def _put_when_room(
        self, messages: list[Packed], block: bool, timeout: float | None, count: int = 0
    ) -> None:
        """Put what is left of the messages behind the first ``count``."""
        store = self._store

        def put_more() -> bool | None:
            nonlocal count
            count += store.put(messages[count:])
            return True if count == len(messages) else None

        if block:
            with store.watch_room() as watch:
                if wait_until(watch, put_more, deadline_of(timeout)):
                    return
        text = f"{self!r} is full"
        if block:
            text += f" and was for {_seconds(timeout)}"
        if len(messages) > 1:
            text += f"; {count} of {len(messages)} messages were put"
        raise SomeFull(text, count)

    # -- getting --

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the oldest message.

        Args:
            block: when there is none, wait until one comes.
            timeout: for so many seconds at most; ``None``: as long as it takes.

        Raises:
            queue.Empty: there was none.
            ValueError: there was none, and this handle is closed.
            SerializationError: the message cannot be unpickled here; it is taken all the same.
        """
        message = self._take_one()
        if message is None:
            message = self._take_when_there(self._take_one, block, timeout)
        head, buffers = message
        try:
            return unpack(head, buffers)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._is_unreadable(head, buffers, error) from error

    def get_nowait(self) -> T:
        """``get(block=False)``."""
        return self.get(False)

    def get_many(self, limit: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take the oldest messages, at least one and at most ``limit``, as they are there.

        They are all taken at once: a consumer that is killed meanwhile loses all of them.

        Raises:
            queue.Empty, ValueError: as ``get``.
            SerializationError: one of them cannot be unpickled here; the others are in the
                error's ``messages``.
        """
        if limit < 1:
            raise ValueError(f"get_many takes at least one message, not {limit}")
        store = self._store
        taken = store.take(limit) or self._take_when_there(
            lambda: store.take(limit) or None, block, timeout
        )
        found: list[T] = []
        unreadable: SerializationError | None = None
        for head, buffers in taken:
            try:
                found.append(unpack(head, buffers))
            except Exception as error:
                unreadable = self._is_unreadable(head, buffers, error)
                unreadable.__cause__ = error
        if unreadable is not None:
            unreadable.messages = found  # type: ignore[attr-defined]
            raise unreadable
        return found

    def _take_when_there(
        self, take: Callable[[], _Taken | None], block: bool, timeout: float | None
    ) -> _Taken:
        if self._closed:
            raise self._is_closed()
        if not block:
            raise queue.Empty
        with self._store.watch_messages() as watch:
            taken = wait_until(watch, take, deadline_of(timeout))
        if taken is None:
            raise queue.Empty(f"no message came to {self!r} within {_seconds(timeout)}")
        return taken

    # -- looking --

    def qsize(self) -> int:
        """How many messages are there that nobody has got; exact when it is looked at."""
        return self._store.size()

    def empty(self) -> bool:
        """Whether there is no message."""
        return self._store.size() == 0

    def full(self) -> bool:
        """Whether there are ``maxsize`` messages."""
        return 0 < self._store.maxsize <= self._store.size()

    @property
    def maxsize(self) -> int:
        """How many messages the queue holds at most; 0: any number."""
        return self._store.maxsize

    @property
    def joinable(self) -> bool:
        """Whether unfinished messages are counted."""
        return self._store.joinable

    def stats(self) -> dict[str, Any]:
        """Figures about the queue's store by name, among them ``messages`` and ``bytes_used``."""
        return self._store.stats()

    # -- unfinished messages --

    def task_done(self) -> None:
        """Say that a message that was got has been dealt with; once a message.

        Raises:
            ValueError: said more often than there were messages.
            UsageError: the queue is not joinable.
        """
        self._check_joinable("task_done")
        if not self._store.done(1):
            raise ValueError(
                f"task_done() called too often: every message put into {self!r} is done"
            )

    def join(self, timeout: float | None = None) -> None:
        """Wait until ``task_done`` was called for every message that was put.

        Raises:
            WaitTimeout: it was not, within ``timeout`` seconds.
            UsageError: the queue is not joinable.
        """
        self._check_joinable("join")
        store = self._store

        def is_done() -> bool | None:
            return store.unfinished() == 0 or None

        if is_done():
            return
        with store.watch_finished() as watch:
            if wait_until(watch, is_done, deadline_of(timeout)):
                return
        raise WaitTimeout(
            f"{store.unfinished()} messages of {self!r} were still unfinished "
            f"after {_seconds(timeout)}"
        )

    def _check_joinable(self, method: str) -> None:
        if not self._store.joinable:
            raise UsageError(
                f"{method}() needs a queue that counts unfinished messages: "
                "make it by Queue(joinable=True)"
            )

    # -- the end --

    def close(self) -> None:
        """Put no more from this handle, as with ``multiprocessing``: others may go on.

        ``get`` still gives what is there; when there is nothing, it raises ValueError instead of
        waiting.  The process that made the queue keeps it from now on no longer than this object
        is there; others that have it open go on.
        """
        if not self._closed:
            self._closed = True
            self._store.let_go()

    def join_thread(self) -> None:
        """Nothing is left to wait for: a message is stored when ``put`` returns."""

    def cancel_join_thread(self) -> None:
        """Nothing to cancel: ``put`` has stored the message, and no thread holds up the end."""

    def destroy(self) -> None:
        """Remove the queue and its messages for everybody.

        Those who use it then get a ``DataStoreError``.
        """
        self._closed = True
        self._store.destroy()

    def __enter__(self) -> Queue[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it is --

    def __alamo_datum__(self) -> str:
        """As a communication object a queue is the same through all of its handles."""
        return self._store.id

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self._store.handle(),)

    def __repr__(self) -> str:
        store = self._store
        facts = [store.id]
        if store.maxsize:
            facts.append(f"maxsize={store.maxsize}")
        if store.joinable:
            facts.append("joinable")
        if self._closed:
            facts.append("closed")
        return f"<Queue {' '.join(facts)} at {store.place}>"

    def _is_closed(self) -> ValueError:
        return ValueError(
            f"{self!r} is closed: this handle puts no more, and gets what is there and no more"
        )

    def _is_unreadable(self, head: bytes, buffers: Any, error: BaseException) -> SerializationError:
        return SerializationError(
            f"a message of {self!r} of type {type_name(head, buffers)} cannot be unpickled here "
            f"({type(error).__name__}: {error}); it has been taken out of the queue. Is the "
            "module that defines it importable in this process, in the same version?"
        )


def _seconds(timeout: float | None) -> str:
    return f"{max(float(timeout or 0.0), 0.0):.4g} s"


def _opened(handle: Any) -> Queue[Any]:
    """A handle as it comes out of a pickle."""
    return Queue.over(open_queue_store(handle))
