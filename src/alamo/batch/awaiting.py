"""Waiting in an event loop of asyncio: no thread waits, and a burst of ends wakes a loop once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from alamo.batch.endings import ending_of
from alamo.batch.waiting import left_until
from alamo.batch.waits import Watched, lending_slots

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task


async def outcome_of(task: Task) -> Any:
    """What ``run`` would return or raise, of a task that has been started."""
    from alamo.batch.array_task import _Array
    from alamo.batch.handles import HandlesByUid

    ending = ending_of(task)
    await settled(ending, (ending.client,))
    if not ending.has_come():
        raise ending.broken()
    if isinstance(task, _Array):
        return task.result.get()
    if task.index >= 0:
        return ending.program.value(task.index)
    task._warn_of_failures()
    return HandlesByUid(task)


async def settled(watched: Watched, clients: Iterable[Client]) -> None:
    """Wait until there is nothing more to wait for: what is watched may call too early."""
    while await _call_of(watched, clients, None) is not None:
        pass


async def released(
    watched: Watched, clients: Iterable[Client], deadline_s: float | None = None
) -> bool:
    """Wait until what is watched calls; ``False`` when the time is over."""
    return await _call_of(watched, clients, deadline_s) is not False


async def _call_of(
    watched: Watched, clients: Iterable[Client], deadline_s: float | None
) -> bool | None:
    """Wait for one call; ``None`` when there is nothing to wait for, ``False`` when it is late."""
    waiter = LoopWaiter(asyncio.get_running_loop())
    if not watched.watch(waiter):
        return None
    try:
        with lending_slots(clients):
            for client in clients:
                client.waits.run_here(lambda: waiter.is_released)
            await asyncio.wait_for(waiter.future, left_until(deadline_s))
    except TimeoutError:
        return False
    finally:
        if waiter.future.cancelled():
            watched.forget(waiter)
    return True


class LoopWaiter:
    """What waits in an event loop.

    Attributes:
        future: done when it has been released.
        is_released: whether it has been, although the loop may not know yet.
    """

    __slots__ = ("_bell", "_loop", "future", "is_released")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bell = _bell_of(loop)
        self.future: asyncio.Future[None] = loop.create_future()
        self.is_released = False

    def release(self) -> None:
        """Called in another thread."""
        self.is_released = True
        self._bell.ring(self._loop, self.future)


class _Bell:
    """Futures of one loop that are to be done, and whether the loop has been told."""

    def __init__(self) -> None:
        self._futures: deque[asyncio.Future[None]] = deque()
        self._rung = False

    def ring(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        """Have a future done in its loop."""
        self._futures.append(future)
        if not self._rung:
            self._rung = True
            try:
                loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # the loop is closed: nobody waits there
                self._futures.clear()
                self._rung = False

    def _answer(self) -> None:
        self._rung = False  # first: who comes behind this rings again
        while self._futures:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(None)


_bells: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bell] = WeakKeyDictionary()
_bells_lock = threading.Lock()


def _bell_of(loop: asyncio.AbstractEventLoop) -> _Bell:
    with _bells_lock:
        bell = _bells.get(loop)
        if bell is None:
            bell = _bells[loop] = _Bell()
        return bell
