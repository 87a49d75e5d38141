"""One server or a cluster: sends commands to where their bucket lies, and again when that moves."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from alamo.data.valkey.address import Address
from alamo.data.valkey.failures import (
    CLIENT_ERRORS,
    failure,
    is_missing_function,
    refusal_of,
    was_not_executed,
)
from alamo.data.valkey.nodes import FRESH_S, Node, is_open
from alamo.errors import DataStoreError, UsageError

__all__ = ["PATIENCE_S", "Servers"]

#: How long a command is tried while servers are away or change places.  A replica takes over some
#: seconds after cluster-node-timeout, which is 15 s unless told.
PATIENCE_S = 30.0
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
#: How long a change waits for its replicas.
_REPLICAS_MS = 10_000
_OLDEST_VERSION = 7
_RENEW_S = 3600.0


class Servers:
    """The servers behind a URL; one object a process and URL, made by :meth:`of`.

    All methods may be called by any thread, and in a forked child, which connects anew.

    Attributes:
        is_cluster: whether keys of several buckets may lie on different servers.
        renewed: what has a ``renew()``, called once an hour when the servers are used, and before
            the first command of a forked child.
    """

    @classmethod
    def of(cls, address: Address) -> Servers:
        """The servers at an address, connected.

        Raises:
            DataStoreError: none of them can be reached, or they are too old.
            UsageError: the password file is open to others.
        """
        with _opening:
            servers = _opened.get(address.url)
            if servers is None:
                servers = cls(address)
                _opened[address.url] = servers
            return servers

    def __init__(self, address: Address) -> None:
        self.address = address
        self.is_cluster = False
        self._lock = threading.RLock()
        self._cluster: Any = None
        self._nodes: dict[str, Node] = {}
        self._primaries: list[Node] = []
        self._routes: dict[bytes, Node] = {}
        self.renewed: weakref.WeakSet[Any] = weakref.WeakSet()
        self._renew_s = time.monotonic() + _RENEW_S
        self._given_up_s = -math.inf
        try:
            self._connect()
        except CLIENT_ERRORS as error:
            raise failure(error, address.place) from error

    # -- commands --

    def call(self, base: bytes, *command: Any, again: bool = True) -> Any:
        """Send a command and return its reply.

        Args:
            base: the key that says where; it is in the command too.
            command: its name and arguments, or all of it packed already.
            again: it may be sent again when the connection is lost before its reply has come, as
                it does no harm when it is executed twice.

        Raises:
            Refusal: a function says no, or memory is full.
            DataStoreError: no server answers within 30 s, or one refuses; for a command that may
                not be sent again also when its connection is lost: whether it was executed is
                not known.

        Cost: a round trip, and 17 us of this process.
        """
        try:
            node = self._routes[base]
            connection, used_s = node.idle.pop()
        except (KeyError, IndexError):
            return self.exchange(base, [command], again)[0]
        now_s = time.monotonic()
        # A connection that was closed in the meantime must not make a change one of which nobody
        # knows whether it was done.
        if now_s - used_s > FRESH_S or now_s > self._renew_s or not (again or is_open(connection)):
            node.idle.append((connection, used_s))
            return self.exchange(base, [command], again)[0]
        try:
            if len(command) == 1:
                connection.send_packed_command(command)
            else:
                connection.send_command(*command)
            reply = connection.read_response()
        except CLIENT_ERRORS as error:
            if not isinstance(error, redis.ResponseError):
                connection.disconnect()
            node.give(connection)
            return self.exchange(base, [command], again, error)[0]
        except BaseException:  # an interrupt: a reply may be on its way that nobody reads
            connection.disconnect()
            node.give(connection)
            raise
        node.idle.append((connection, time.monotonic()))
        return reply

    def change(self, base: bytes, *command: Any, again: bool = False) -> Any:
        """Send a command that changes something, as :meth:`call` does.

        With ``wait_replicas`` of the address it returns when so many replicas have the change,
        and so it outlives the primary if one of these becomes its successor; otherwise a change
        may be lost that the primary had not passed on when it died.

        Raises:
            DataStoreError: also when it was done but too few replicas have it after 10 s.
        """
        wanted = self.address.wait_replicas
        if not wanted:
            if type(command[-1]) is list:
                return self.exchange(base, [command], again)[0]
            return self.call(base, *command, again=again)
        reply, confirmed = self.exchange(base, [command, ("WAIT", wanted, _REPLICAS_MS)], again)
        if confirmed < wanted:
            raise DataStoreError(
                f"{self.address.place}: the change is done, but {confirmed} of the {wanted} "
                f"replicas that wait_replicas asks for have it after {_REPLICAS_MS / 1000:g} s"
            )
        return reply

    def call_each(self, commands: list[tuple[bytes, tuple[Any, ...]]]) -> list[Any]:
        """Send many commands, each with its base, and return their replies in order.

        Those of one server go together, so it costs little more than a round trip a server.  They
        must be such as may be sent again.
        """
        replies: list[Any] = [None] * len(commands)
        groups: dict[Node, list[int]] = {}
        with contextlib.suppress(*CLIENT_ERRORS):  # those left are sent one by one below
            for number, (base, _) in enumerate(commands):
                groups.setdefault(self._route(base), []).append(number)
        done = [False] * len(commands)
        for node, numbers in groups.items():
            with contextlib.suppress(*CLIENT_ERRORS):
                answers = node.exchange(node.take(), [commands[number][1] for number in numbers])
                for number, answer in zip(numbers, answers):
                    done[number] = not isinstance(answer, Exception)
                    replies[number] = answer
        for number, (base, command) in enumerate(commands):
            if not done[number]:
                replies[number] = self.exchange(base, [command], True)[0]
        return replies

    def exchange(
        self,
        base: bytes,
        commands: list[tuple[Any, ...]],
        again: bool,
        error: Exception | None = None,
        patience_s: float = PATIENCE_S,
    ) -> list[Any]:
        """Send commands at once and return their replies; the long way, which looks for servers.

        Args:
            error: how the first attempt has ended.
            patience_s: how long it is tried; once, when that was in vain a moment ago.

        Raises:
            Refusal, DataStoreError: as :meth:`call`.
        """
        if time.monotonic() > self._renew_s:
            self._renew()
        sent = error is not None
        until_s = time.monotonic() + patience_s
        if time.monotonic() < self._given_up_s + patience_s:
            until_s = -math.inf
        pause_s = _FIRST_PAUSE_S
        while True:
            if error is None:
                sent = False
                try:
                    node = self._route(base)
                    connection = node.take()
                    sent = True
                    replies = node.exchange(connection, commands)
                except CLIENT_ERRORS as lost:
                    error = lost
                else:
                    error = next((r for r in replies if isinstance(r, Exception)), None)
                    if error is None:
                        self._given_up_s = -math.inf
                        return replies
            self._mend(base, error, again or not sent, time.monotonic() >= until_s)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            error = None

    def _mend(self, base: bytes, error: Exception, again: bool, is_late: bool) -> None:
        """Do what lets the next attempt succeed, or raise."""
        place = self.address.place
        refusal = refusal_of(error)
        if refusal is not None:
            raise refusal from None
        if is_missing_function(error):
            try:
                self._route(base).load_functions()
            except redis.ConnectionError:
                pass  # the next attempt finds out
            except CLIENT_ERRORS as refused:
                raise failure(refused, place) from refused
            return
        if is_late and not isinstance(error, redis.ResponseError):
            self._given_up_s = time.monotonic()
        if is_late or isinstance(error, redis.AuthenticationError):
            raise failure(error, place) from error
        if was_not_executed(error):
            self.look_around()
        elif isinstance(error, redis.ResponseError):
            raise failure(error, place) from error
        elif again:
            self.look_around()
        else:
            raise DataStoreError(
                f"{place}: the connection was lost while a change was under way ({error}); it is "
                "done or not, so look before you try again"
            ) from error

    # -- where things are --

    def node_of(self, base: bytes) -> Node:
        """The server on which a key lies.

        Raises:
            DataStoreError: none of them can be reached.
        """
        try:
            return self._route(base)
        except CLIENT_ERRORS as error:
            raise failure(error, self.address.place) from error

    def nodes(self) -> list[Node]:
        """The servers that hold keys, in the order of their slots."""
        first = self.node_of(b"")
        if self._cluster is None:
            return [first]
        with self._lock:
            if not self._primaries:
                slots = self._cluster.nodes_manager.slots_cache
                primaries = {slots[slot][0].name: slots[slot][0] for slot in sorted(slots)}
                self._primaries = [self._node(primary) for primary in primaries.values()]
            return self._primaries

    def _route(self, base: bytes) -> Node:
        node = self._routes.get(base)
        if node is None:
            with self._lock:
                if not self._nodes and self._cluster is None:
                    self._connect()
                if self._cluster is None:
                    [node] = self._nodes.values()
                else:
                    node = self._node(self._cluster.get_node_from_key(base))
                self._routes[base] = node
        return node

    def _node(self, found: Any) -> Node:
        """Ours for one of redis-py's."""
        node = self._nodes.get(found.name)
        if node is None:
            node = Node(self._cluster.get_redis_connection(found).connection_pool)
            self._nodes[found.name] = node
        return node

    def look_around(self) -> None:
        """Have it looked up anew where things are: slots have moved, a replica has taken over."""
        with self._lock:
            self._routes = {}
            self._primaries = []
            if self._cluster is not None:
                with contextlib.suppress(*CLIENT_ERRORS):  # nobody knows yet
                    self._cluster.nodes_manager.initialize()

    def _connect(self) -> None:
        """Connect to the first host that answers, and to the others if it is one of a cluster."""
        arguments = self.address.connection()
        arguments["retry"] = Retry(NoBackoff(), 0)  # how often is decided here
        lost: redis.RedisError | None = None
        for host, port in self.address.hosts or [("", 0)]:
            where = {"host": host, "port": port} if host else {}
            client = redis.Redis(**where, **arguments)
            try:
                facts = client.info()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                lost = error
                continue
            finally:
                client.close()
            self._check(facts)
            if self.is_cluster:
                hosts = [ClusterNode(*host) for host in self.address.hosts]
                self._cluster = RedisCluster(startup_nodes=hosts, **arguments)
            else:
                client = redis.Redis(**where, db=self.address.db, **arguments)
                node = Node(client.connection_pool)
                self._nodes = {node.name: node}
            return
        assert lost is not None
        raise lost

    def _check(self, facts: dict[str, Any]) -> None:
        """Look what it is that answers.

        Raises:
            DataStoreError: a server too old for functions and sharded publish and subscribe.
            UsageError: the URL wants what it has not got.
        """
        address = self.address
        version = str(facts.get("redis_version", "0"))  # Valkey tells what Redis it is like
        if int(version.partition(".")[0]) < _OLDEST_VERSION:
            raise DataStoreError(
                f"{address.place} is Redis {version}: Valkey, or Redis {_OLDEST_VERSION} or later, "
                "is needed"
            )
        is_cluster = bool(facts.get("cluster_enabled"))
        if address.cluster is not None and address.cluster != is_cluster:
            raise UsageError(
                f"the URL says cluster={int(address.cluster)}, but {address.place} "
                + ("is one" if is_cluster else "is none")
            )
        if is_cluster and (address.db or address.socket_path):
            raise UsageError(
                f"{address.place} is a cluster: it is reached by host and port, as database 0"
            )
        self.is_cluster = is_cluster

    # -- forks and the end --

    def forget_connections(self) -> None:
        """In a forked child: those of the parent are none of ours."""
        self._lock = threading.RLock()
        self._cluster = None
        self._nodes = {}
        self._primaries = []
        self._routes = {}
        self._renew_s = -math.inf

    def _renew(self) -> None:
        self._renew_s = time.monotonic() + _RENEW_S
        for one in list(self.renewed):
            with contextlib.suppress(DataStoreError):  # its next command finds out
                one.renew()

    def close(self) -> None:
        """Close all connections; they come back when they are needed."""
        with self._lock:
            self._routes = {}
            for node in self._nodes.values():
                node.close()


_opened: weakref.WeakValueDictionary[str, Servers] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _forget_in_child() -> None:
    global _opening
    _opening = threading.Lock()
    for servers in list(_opened.values()):
        servers.forget_connections()


os.register_at_fork(after_in_child=_forget_in_child)
