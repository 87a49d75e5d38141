"""An event loop of one thread: epoll, timers, and output gathered a round.

asyncio would do; its streams cost 25 us a hop more, of which one ``run()`` has five, and
it has no way to pass descriptors.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable


class Loop:
    """Calls handlers of ready descriptors and due timers until it is stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()
        self._at_round_end: list[Callable[[], None]] = []
        self._running = True

    def add(self, fd: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call ``handler(events)`` when the descriptor is ready."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Change what a descriptor waits for."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor; before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:
        """Call once when ``time.monotonic()`` has reached ``at_s``."""
        heapq.heappush(self._timers, (at_s, next(self._ids), callback))

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call once after a delay."""
        self.call_at(time.monotonic() + delay_s, callback)

    def at_round_end(self, callback: Callable[[], None]) -> None:
        """Call once after the handlers of this round."""
        self._at_round_end.append(callback)

    def stop(self) -> None:
        """End ``run`` after this round."""
        self._running = False

    def begin_anew(self) -> None:
        """Forget all descriptors, timers and calls."""
        for fd in self._handlers:  # what they hold is let go after that
            self._epoll.unregister(fd)
        self._handlers.clear()
        self._timers.clear()
        self._at_round_end.clear()

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until ``stop``, or instead until ``until()`` is true at the end of a round."""
        poll, handlers, timers = self._epoll.poll, self._handlers, self._timers
        self._finish_round()
        while self._running if until is None else not until():
            timeout = -1.0
            if timers:
                timeout = max(0.0, timers[0][0] - time.monotonic())
            for fd, events in poll(timeout):
                handler = handlers.get(fd)
                if handler is not None:
                    handler(events)
            while timers and timers[0][0] <= time.monotonic():
                heapq.heappop(timers)[2]()
            self._finish_round()

    def _finish_round(self) -> None:
        while self._at_round_end:
            callbacks, self._at_round_end = self._at_round_end, []
            for callback in callbacks:
                callback()
