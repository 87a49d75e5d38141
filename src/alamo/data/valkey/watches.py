"""Waiting for a key to be put: a subscription to the bucket's shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from alamo.data.valkey.failures import CLIENT_ERRORS
from alamo.data.valkey.nodes import Node
from alamo.data.valkey.servers import Servers

__all__ = ["KeyWatch", "Subscription", "subscribed"]

#: What is published just before a server dies is lost, so nobody relies on it for longer.
_RECHECK_S = 0.5
#: How often it is said that somebody waits: before ``WAITS_MS`` of lua/common.lua are over.
_ANNOUNCE_S = 1.0


class Subscription:
    """A channel that this thread listens to, on a connection of its own.

    It is lost with its server; then it is made again where the bucket lies by now.
    """

    def __init__(self, servers: Servers, base: bytes, channel: bytes) -> None:
        self._servers = servers
        self._base = base
        self._channel = channel
        self._node: Node | None = None
        self._connection: Any = None

    def subscribe(self) -> None:
        """Listen from now on; does nothing when it does already."""
        if self._connection is not None:
            return
        node = self._servers.node_of(self._base)
        try:
            connection = node.take()
            try:
                connection.send_command("SSUBSCRIBE", self._channel)
                connection.read_response()
            except BaseException:
                connection.disconnect()
                node.give(connection)
                raise
        except CLIENT_ERRORS:  # servers are changing places: looking again is all there is
            self._servers.look_around()
            return
        self._node, self._connection = node, connection

    def wait(self, deadline_s: float | None) -> bool:
        """Wait for something to be published, half a second at most; whether it was."""
        now_s = time.monotonic()
        left_s = _RECHECK_S if deadline_s is None else min(deadline_s - now_s, _RECHECK_S)
        connection = self._connection
        if connection is None:
            time.sleep(max(min(left_s, 0.05), 0))
            self.subscribe()
            return False
        try:
            if not connection.can_read(timeout=max(left_s, 0)):
                return False
            kinds = {connection.read_response()[0]}
            while connection.can_read(timeout=0):  # all that has come counts once
                kinds.add(connection.read_response()[0])
        except CLIENT_ERRORS:
            kinds = {b"sunsubscribe"}
        if b"sunsubscribe" in kinds:  # the server is gone, or the slot has moved
            self.end()
            self._servers.look_around()
            self.subscribe()
        return True

    def end(self) -> None:
        """Listen no more."""
        connection, node = self._connection, self._node
        self._connection = self._node = None
        if connection is None or node is None:
            return
        try:
            connection.send_command("SUNSUBSCRIBE", self._channel)
            while connection.read_response()[0] != b"sunsubscribe":
                pass
        except CLIENT_ERRORS:
            connection.disconnect()
        except BaseException:
            connection.disconnect()
            node.give(connection)
            raise
        node.give(connection)


@contextmanager
def subscribed(servers: Servers, base: bytes, channel: bytes) -> Iterator[Subscription]:
    """Listen to a channel of a bucket inside the block."""
    subscription = Subscription(servers, base, channel)
    subscription.subscribe()
    try:
        yield subscription
    finally:
        subscription.end()


class KeyWatch:
    """Waits for one key of a dictionary to be put.

    Args:
        announce: tells the bucket for some seconds that somebody waits; raises when the
            dictionary is gone.
    """

    def __init__(self, subscription: Subscription, announce: Callable[[], Any]) -> None:
        self._subscription = subscription
        self._announce = announce
        self._announced_s = time.monotonic()
        announce()

    def wait(self, deadline_s: float | None) -> None:
        """As ``Watch.wait``."""
        self._subscription.wait(deadline_s)
        now_s = time.monotonic()
        if now_s > self._announced_s + _ANNOUNCE_S:
            self._announced_s = now_s
            self._announce()


class LineWatch:
    """Waits in a line of waiters for a message, or for room: of those who wait as many get word
    as there are messages, or places.

    Args:
        stand: stands in the line, or tells that there is no need to wait.
    """

    def __init__(self, subscription: Subscription, stand: Callable[[], Any]) -> None:
        self._subscription = subscription
        self._stand = stand

    def wait(self, deadline_s: float | None) -> None:
        """As ``Watch.wait``."""
        if not self._stand():
            self._subscription.wait(deadline_s)


class EventWatch:
    """Waits for what is published to all who wait."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def wait(self, deadline_s: float | None) -> None:
        """As ``Watch.wait``."""
        self._subscription.wait(deadline_s)
