"""The stores that the tests of DDict and Queue run over, and what each of them can do.

A store that joins gets an entry in ``STORES`` here and nothing anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _servers
from alamo import DDict, Queue
from alamo.testing import memory_ddict, memory_queue
from alamo.testing.stores import MemoryDictStore

MakeDDict = Callable[..., DDict[Any, Any]]
MakeQueue = Callable[..., Queue[Any]]

#: What a test may need beyond what every store does, and what it means when a store has it.
STORE_CAPABILITIES = {
    "handles": "a handle opens in other processes",
    "names": "a dictionary or a queue can be opened by its name",
    "one shard": "all keys are of one shard, so a transaction may name any of them",
}


@dataclass(frozen=True)
class Store:
    """Where a DDict or a Queue may lie.

    Attributes:
        name: in the ids of the tests.
        make: makes a DDict there; takes the options of ``DDict``.
        make_queue: makes a Queue there; takes the options of ``Queue``.
        capabilities: keys of ``STORE_CAPABILITIES``.
        around: entered before the first of them and left after the last: the place for a server,
            or for ``pytest.importorskip``.
    """

    name: str
    make: MakeDDict
    make_queue: MakeQueue
    capabilities: frozenset[str]
    around: Callable[[], AbstractContextManager[object]] = nullcontext


class InMemory(DDict[Any, Any]):
    """One in this process, made as a dict is."""

    def __init__(self, *data: Any) -> None:
        self._start(MemoryDictStore.make(), None, False, None)
        self.update(*data)


def fill_from(d: DDict[Any, Any], path: Path) -> None:
    """What ``DDict.restore`` does, for a dictionary that is there."""
    d._store.restore(str(path))


class Remote:
    """Over servers that run while tests need them."""

    def __init__(self, run: Callable[[], AbstractContextManager[Any]]) -> None:
        self._run = run
        self._url = ""

    @contextmanager
    def around(self) -> Iterator[None]:
        with self._run() as servers:
            self._url = servers.url
            yield

    def ddict(self, *data: Any, **options: Any) -> DDict[Any, Any]:
        return DDict(*data, url=self._url, **options)

    def queue(self, **options: Any) -> Queue[Any]:
        return Queue(url=self._url, **options)


_server = Remote(_servers.server)
_cluster = Remote(_servers.cluster)
_ALL = frozenset(STORE_CAPABILITIES)
_CLUSTER = _ALL - {"one shard"}
STORES = [
    Store("memory", memory_ddict, memory_queue, frozenset({"one shard"})),
    Store("embedded", DDict, Queue, _ALL),
    Store("valkey", _server.ddict, _server.queue, _ALL, _server.around),
    Store("valkey-cluster", _cluster.ddict, _cluster.queue, _CLUSTER, _cluster.around),
]
