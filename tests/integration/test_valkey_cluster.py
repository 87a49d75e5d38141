"""DDict and Queue over a cluster: keys together and apart, slots that move, primaries that die."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import _servers
import _work as work
from alamo import CrossShardError, DataStoreError, DDict, DDictConflictError, Queue, UsageError
from alamo.testing.valkey import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with _servers.cluster() as one:
        yield one


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + work.PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def slot_of(cluster: Cluster, name: bytes) -> int:
    with cluster.servers[0].client() as client:
        return int(client.execute_command("CLUSTER KEYSLOT", name))


def bucket_of(d: DDict[Any, Any], key: str) -> bytes:
    """The hash in which a key lies."""
    return d._store._buckets.of(b"s" + key.encode())[0]  # type: ignore[attr-defined, no-any-return]


# -- together and apart --------------------------------------------------------------------


def test_keys_spread_over_all_servers(cluster: Cluster) -> None:
    with DDict(dict.fromkeys(range(1000), 0), url=cluster.url) as d:
        shards = [d.which_shard(key) for key in range(1000)]
        assert set(shards) == {0, 1, 2}
        assert min(shards.count(shard) for shard in range(3)) > 150
        assert d.stats()["shards"] == 3
        assert d.local_len() == len(d) == 1000
        assert sorted(d) == list(range(1000))
        held = []
        for server in cluster.servers:
            with server.client() as client:
                held.append(sum(client.hlen(k) for k in client.keys("alamo:{*/*}")))
        assert sum(held) == 1000
        assert min(held) > 150


def test_one_server_of_a_cluster_is_enough_to_find_the_others(cluster: Cluster) -> None:
    url = cluster.servers[1].url
    with DDict({i: i for i in range(100)}, url=url) as d:
        assert d == {i: i for i in range(100)}
        assert pickle.loads(pickle.dumps(d)) == d
    with pytest.raises(UsageError, match="is one"):
        DDict(url=url + "?cluster=0")
    with pytest.raises(UsageError, match="database 0"):
        DDict(url=url + "/1")


def test_what_is_done_as_one_must_lie_together(cluster: Cluster) -> None:
    with DDict(url=cluster.url) as d:
        keys = [f"k{i}" for i in range(10)]
        with pytest.raises(CrossShardError, match=r"in\s+braces"):
            d.update(dict.fromkeys(keys, 1))
        assert len(d) == 0
        with pytest.raises(CrossShardError, match="'k0' and 'k1'"), d.transaction():  # noqa: PT012
            d["k0"] = 1
            d["k1"] = 2
        assert len(d) == 0
        d.update({f"{{mesh}}{key}": 1 for key in keys})
        with d.transaction():
            d["{mesh}k0"], d["{mesh}k1"] = d["{mesh}k1"] + 1, 7
            assert d["{mesh}k1"] == 7
        assert (len(d), d["{mesh}k0"], d["{mesh}k1"]) == (10, 2, 7)
        assert len({d.which_shard(key) for key in d}) == 1


def test_a_transaction_that_was_overtaken_changes_nothing(cluster: Cluster) -> None:
    with DDict({"{t}a": 1}, url=cluster.url) as d:
        other = pickle.loads(pickle.dumps(d))
        with pytest.raises(DDictConflictError, match="again"), d.transaction():  # noqa: PT012
            d["{t}b"] = d["{t}a"] + 1
            other["{t}a"] = 5
            assert "{t}b" not in other
        assert dict(d) == {"{t}a": 5}


def test_a_frozen_one_is_frozen_on_all_servers(cluster: Cluster) -> None:
    with DDict(dict.fromkeys(range(50), 0), url=cluster.url) as d:
        d.freeze()
        for key in range(50):
            with pytest.raises(DataStoreError, match="frozen"):
                d[key] = 1
        assert d.is_frozen()
        d.unfreeze()
        d[0] = 1


# -- slots that move -----------------------------------------------------------------------


def move(cluster: Cluster, slot: int) -> None:
    """Move a slot to the next server, key by key, as resharding tools do."""
    source = cluster.primary_of(slot)
    target = cluster.servers[(cluster.servers.index(source) + 1) % len(cluster.servers)]
    with source.client() as from_, target.client() as to:
        source_id, target_id = (c.execute_command("CLUSTER", "MYID").decode() for c in (from_, to))
        to.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        from_.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := from_.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                from_.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 60_000)
        for client in (to, from_):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def test_slots_move_while_they_are_used(cluster: Cluster) -> None:
    with DDict(url=cluster.url) as d, Queue[int](url=cluster.url) as q:
        stop = threading.Event()
        counts = [0, 0]
        errors: list[Exception] = []

        def write() -> None:
            try:
                for n in itertools.count(1):
                    d["a"] = n
                    assert d.fetch_add("n") == n - 1
                    q.put(n)
                    assert q.get() == n
                    counts[0] = n
                    if stop.is_set():
                        return
            except Exception as error:
                errors.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(3):
            for name in (bucket_of(d, "a"), bucket_of(d, "n"), q._store._names[0]):  # type: ignore[attr-defined]
                move(cluster, slot_of(cluster, name))
            before = counts[0]
            until(lambda before=before: counts[0] > before or errors)
        stop.set()
        writer.join(work.PATIENCE_S)
        assert not errors
        assert (d["a"], d["n"], q.qsize()) == (counts[0], counts[0], 0)


# -- primaries that die --------------------------------------------------------------------


def test_no_change_that_a_replica_had_is_lost_with_its_primary() -> None:
    """With wait_replicas, what was acknowledged outlives a primary whose replica takes over."""
    with _servers.cluster(replicas=1) as cluster:
        d = DDict(url=cluster.url + "?wait_replicas=1", name="survives", timeout=work.PATIENCE_S)
        q = Queue[int](url=cluster.url + "?wait_replicas=1", name="survives")
        q.put_many(range(100))
        acknowledged: dict[int, int] = {}
        unsure: set[int] = set()
        stop = threading.Event()

        def write() -> None:
            for n in itertools.count():
                key = n % 500
                try:
                    d[key] = n
                except DataStoreError:  # it has a new primary, which has no replica
                    unsure.add(key)
                else:
                    acknowledged[key] = n
                if stop.is_set():
                    return

        waited: list[Any] = []
        threads = [
            threading.Thread(target=write),
            threading.Thread(target=lambda: waited.append(d.wait_for("late"))),
        ]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) == 500)
        slot = slot_of(cluster, q._store._names[0])  # type: ignore[attr-defined]
        victim = cluster.primary_of(slot)
        victim.kill()
        until(lambda: cluster.primary_of(slot) is not victim)
        stop.set()
        other = DDict(url=cluster.url, name="survives")  # which waits for no replicas
        other["late"] = 1
        for thread in threads:
            thread.join(work.PATIENCE_S)
            assert not thread.is_alive()
        assert waited == [1]
        for key, value in acknowledged.items():
            assert other[key] == value or key in unsure
        assert len(unsure) <= 2
        assert Queue[int](url=cluster.url, name="survives").get_many(1000) == list(range(100))


def test_replicas_that_are_not_there_are_told_of() -> None:
    with (
        _servers.server() as server,
        pytest.raises(DataStoreError, match="0 of the 1 replicas"),
    ):
        DDict(url=server.url + "?wait_replicas=1")


def test_a_server_that_was_stopped_is_waited_for() -> None:
    with _servers.server() as server:
        d = DDict({"a": 1}, url=server.url, name="comes back")
        os.kill(server.pid, signal.SIGSTOP)
        timer = threading.Timer(1.0, os.kill, (server.pid, signal.SIGCONT))
        timer.start()
        assert d.fetch_add("n") == 0
        timer.join()
        assert d == {"a": 1, "n": 1}
