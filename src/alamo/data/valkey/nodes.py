"""One server of possibly several, and the connections to it that are idle."""

from __future__ import annotations

import functools
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

from alamo.data.valkey.failures import CLIENT_ERRORS
from alamo.data.valkey.functions import LIBRARY

__all__ = ["FRESH_S", "Node", "is_here", "is_open", "packed", "packed_start"]

#: A connection that was idle for longer may have been closed by the server or a router meanwhile.
FRESH_S = 5.0


class Node:
    """A server.

    redis-py's pool makes the connections; this keeps them at hand in a deque, which any number of
    threads may use, as looking after them costs the pool more than the command.

    Args:
        pool: a redis-py connection pool of this server.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        arguments = pool.connection_kwargs
        self.host: str = arguments.get("host", "")  # none: a Unix socket, so this machine
        self.name = f"{self.host}:{arguments['port']}" if self.host else arguments["path"]
        #: (connection, when it was last used), the last used one last.
        self.idle: deque[tuple[Any, float]] = deque()

    def take(self) -> Any:
        """A connection on which nothing is under way.

        Raises:
            redis.ConnectionError, redis.TimeoutError: there is none to be had.
        """
        try:
            connection, _ = self.idle.pop()
        except IndexError:
            return self.pool.get_connection()
        if not is_open(connection):
            connection.disconnect()
        connection.connect()  # does nothing when it is
        return connection

    def give(self, connection: Any) -> None:
        """A connection is idle again, or disconnected."""
        self.idle.append((connection, time.monotonic()))

    def exchange(self, connection: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once; their replies in order, errors among them as exceptions.

        Raises:
            redis.ConnectionError, redis.TimeoutError: the connection is lost; which of the
                commands were executed is not known.
        """
        try:
            connection.send_packed_command(pack(connection, commands))
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
        except BaseException:  # an interrupt too: a reply may be on its way that nobody reads
            connection.disconnect()
            raise
        finally:
            self.give(connection)
        return replies

    def load_functions(self) -> None:
        """Give the server its functions.

        Raises:
            redis.RedisError: it does not take them.
        """
        connection = self.take()
        [reply] = self.exchange(connection, [("FUNCTION", "LOAD", "REPLACE", LIBRARY)])
        if isinstance(reply, Exception):
            raise reply

    def close(self) -> None:
        """Close all connections."""
        self.idle.clear()
        self.pool.disconnect()


def pack(connection: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Commands as they go over the wire.

    One of a single argument is packed already.  A last argument that is a list is the pieces of
    one large argument, which are sent from where they lie.
    """
    pieces: list[Any] = []
    for command in commands:
        if len(command) == 1:
            pieces.append(command[0])
        elif type(command[-1]) is not list:
            pieces += connection.pack_command(*command)
        else:
            *arguments, large = command
            size = sum(len(piece) for piece in large)
            start = packed_start(arguments, 1) + b"$%d\r\n" % size
            pieces += [start, *large, b"\r\n"]
    return pieces


def packed_start(arguments: Sequence[Any], more: int) -> bytes:
    """The beginning of a command that ``more`` packed arguments follow."""
    return b"*%d\r\n" % (len(arguments) + more) + b"".join(map(packed, arguments))


def packed(argument: Any) -> bytes:
    """One argument of a command."""
    text = argument if isinstance(argument, bytes) else str(argument).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


def is_open(connection: Any) -> bool:
    """Whether the server has not closed it, nor said what nobody asked.  Cost: 3 us."""
    try:
        return not connection.can_read(timeout=0)
    except CLIENT_ERRORS:
        return False


@functools.cache
def is_here(host: str) -> bool:
    """Whether a server is on this machine; an empty host is a Unix socket."""
    if not host:
        return True
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, where) for family, _, _, _, where in found)


def _can_bind(family: int, where: Any) -> bool:
    """Whether an address is one of this machine's."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(where)
        except OSError:
            return False
        return True
