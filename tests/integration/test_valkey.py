"""DDict and Queue over one server: who may in, what is left, what a full or lost server means."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import _servers
import _work as work
from alamo import DataStoreError, DDict, DDictFullError, Queue, UsageError
from alamo.errors import QueueFullError

PASSWORD = "p@ss word/1"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with _servers.server() as one:
        yield one


@pytest.fixture(scope="module")
def guarded() -> Iterator[Any]:
    with _servers.server(password=PASSWORD) as one:
        yield one


def keys_of(server: Any) -> set[bytes]:
    with server.client() as client:
        return set(client.keys("*"))


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + work.PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def run(script: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        env=environment,
        timeout=work.PATIENCE_S,
    ).stdout


# -- who may in ----------------------------------------------------------------------------


def test_the_password_opens_and_does_not_show(guarded: Any) -> None:
    with DDict(url=guarded.url) as d:
        d["a"] = 1
        assert pickle.loads(pickle.dumps(d))["a"] == 1
        shown = repr(d) + d._repr_html_() + str(d.stats()) + d._store.place
        d.freeze()
        with pytest.raises(DataStoreError) as caught:
            d["a"] = 2
        d.destroy()
    assert "p%40ss" in guarded.url
    for text in (shown, str(caught.value)):
        assert "p@ss" not in text
        assert "p%40ss" not in text


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
def test_without_the_password_nobody_gets_in(guarded: Any, login: str) -> None:
    with pytest.raises(DataStoreError, match="password_file=") as caught:
        DDict(url=f"valkey://{login}127.0.0.1:{guarded.port}")
    assert "wrong" not in str(caught.value)


def test_a_handle_carries_the_path_of_a_password_file(guarded: Any, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    url = f"valkey://127.0.0.1:{guarded.port}?password_file={path}"
    with DDict({"a": 1}, url=url) as d:
        pickled = pickle.dumps(d)
        assert b"p@ss" not in pickled
        assert pickle.loads(pickled)["a"] == 1
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        DDict(url=url + "&socket_timeout=9")


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(DataStoreError, match="cannot be reached"):
        DDict(url="valkey://127.0.0.1:1")


def test_limits_of_this_machine_are_none_of_a_server(server: Any) -> None:
    for make in (DDict, Queue):
        with pytest.raises(UsageError, match="maxmemory"):
            make(url=server.url, total_mem="1 GiB")
        with pytest.raises(UsageError, match="directory"):
            make(url=server.url, directory="/dev/shm")


def test_a_server_that_is_no_cluster(server: Any) -> None:
    with pytest.raises(UsageError, match="is none"):
        DDict(url=server.url + "?cluster=1")


# -- what is left --------------------------------------------------------------------------


def test_an_unnamed_one_goes_with_its_last_handle(server: Any) -> None:
    before = keys_of(server)
    d = DDict({"a": 1, True: b"x" * 100_000}, url=server.url)
    d.put("b", 1, ttl=1000)
    q: Queue[int] = Queue(url=server.url, joinable=True)
    q.put(1)
    other, other_q = pickle.loads(pickle.dumps((d, q)))
    d.close()
    del q
    assert other["a"] == 1
    assert other_q.get() == 1
    del other, other_q
    assert keys_of(server) == before


def test_a_named_one_stays_until_it_is_destroyed(server: Any) -> None:
    before = keys_of(server)
    with DDict({"a": 1}, url=server.url, name="{stays} ü") as d:
        first = d._store.id
    with DDict(url=server.url, name="{stays} ü") as d:
        assert d["a"] == 1
        assert d._store.id == first
        d.destroy()
    with DDict(url=server.url, name="{stays} ü") as d:
        assert len(d) == 0
        assert d._store.id != first
        d.destroy()
    left = keys_of(server) - before
    assert all(key.endswith(b":state") for key in left), left  # for those who have it open


def test_what_the_killed_leave_is_swept(server: Any) -> None:
    script = (
        "import os, signal, sys; from alamo import DDict\n"
        "d = DDict({i: i for i in range(100)}, url=sys.argv[1])\n"
        "print(d._store.id, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = run(script, server.url).strip().encode()
    assert any(killed in key for key in keys_of(server))

    def is_swept() -> bool:
        DDict(url=server.url).close()
        return not any(killed in key for key in keys_of(server))

    until(is_swept)


def test_what_somebody_has_open_is_not_swept(server: Any) -> None:
    script = (
        "import pickle, sys; from alamo import DDict\n"
        "d = DDict({'a': 1}, url=sys.argv[1])\n"
        "sys.stdout.buffer.write(pickle.dumps(d)); sys.stdout.flush(); sys.stdin.read()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    maker = subprocess.Popen(
        [sys.executable, "-c", script, server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        d = pickle.load(maker.stdout)  # type: ignore[arg-type]
        maker.kill()
        maker.wait()
        time.sleep(1.1)  # it is looked at once a second at most
        DDict(url=server.url).close()
        assert d["a"] == 1
        id = d._store.id.encode()
        d.close()
        assert not any(id in key for key in keys_of(server))
    finally:
        maker.kill()
        maker.communicate()


# -- large values --------------------------------------------------------------------------


def test_values_in_parts(server: Any) -> None:
    before = keys_of(server)
    large, other = b"1" * (130 << 20), b"2" * (65 << 20)
    with DDict(url=server.url) as d:
        d["a"] = large
        assert d["a"] == large
        assert d.stats()["bytes_used"] > len(large)
        d["a"] = other
        assert d.setdefault("a", large) == other
        assert d.compare_and_swap("a", other, large)
        d["b"] = other
        assert d.pop("b") == other
        assert len([key for key in keys_of(server) if key.count(b":") == 3]) == 3
        with server.client() as client:
            ttls = {client.ttl(key) for key in keys_of(server) - before if key.count(b":") == 3}
        assert ttls == {-1}, "parts that are referred to stay"
        del d["a"]
        assert not [key for key in keys_of(server) if key.count(b":") == 3]
        d["c"] = other
    assert keys_of(server) == before


def test_what_a_killed_writer_of_a_large_value_leaves_goes_by_itself(server: Any) -> None:
    with DDict(url=server.url) as d, server.client() as client:
        store: Any = d._store
        names = store._buckets.of(b"sa")
        written = store._values.write(names[0], (b"\x02", (b"x" * (65 << 20),)), False)
        # Here it is killed.
        written_parts = [key for key in keys_of(server) if key.count(b":") == 3]
        assert len(written_parts) == 2
        assert all(0 < client.ttl(key) <= 3600 for key in written_parts)
        store._values.discard([(names[0], written)])


def test_large_messages(server: Any) -> None:
    before = keys_of(server)
    large = b"1" * (70 << 20)
    with Queue(maxsize=2, url=server.url) as q:
        q.put_many([large, b"small"])
        with pytest.raises(Exception, match="full"):
            q.put_nowait(large)
        assert q.get() == large
        q.put(large)
        assert q.get_many(5) == [b"small", large]
        assert not [key for key in keys_of(server) if key.count(b":") == 3]
        q.put(large)
    del q
    assert keys_of(server) == before


# -- full, lost ----------------------------------------------------------------------------


def fill(put: Callable[[int], None]) -> None:
    for i in range(1000):
        put(i)


def test_a_full_server_loses_nothing_and_is_usable_after_deletes() -> None:
    with _servers.server("maxmemory 30mb", "maxmemory-policy noeviction") as server:
        d, q = DDict(url=server.url), Queue[Any](url=server.url)
        with pytest.raises(QueueFullError, match="maxmemory"):
            fill(lambda i: q.put(b"x" * 100_000))
        assert set(q.get_many(1000)) == {b"x" * 100_000}
        with pytest.raises(DDictFullError, match="maxmemory"):
            fill(lambda i: d.__setitem__(i, b"%d" % i * 500_000))
        stored = len(d)
        assert 5 < stored < 100
        assert all(d[i] == b"%d" % i * 500_000 for i in range(stored))
        assert d.pop(0) == b"0" * 500_000
        for i in range(1, stored):
            del d[i]
        d["again"] = 1
        q.put(1)
        assert (d["again"], q.get()) == (1, 1)
        d.destroy()
        q.destroy()


def test_connections_that_are_cut_come_back(server: Any) -> None:
    with DDict(url=server.url) as d, server.client() as client:
        for i in range(20):
            d[i] = i
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert d[i] == i
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert d.fetch_add("n") == i


def test_a_wait_outlives_its_connection(server: Any) -> None:
    with DDict(url=server.url, timeout=work.PATIENCE_S) as d, server.client() as client:
        found: list[Any] = []
        waiter = threading.Thread(target=lambda: found.append(d.wait_for("a")))
        waiter.start()
        until(lambda: client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))
        d["a"] = 1
        waiter.join(work.PATIENCE_S)
        assert found == [1]


def test_a_wait_ends_when_the_dictionary_is_destroyed(server: Any) -> None:
    d = DDict(url=server.url, timeout=work.PATIENCE_S)
    other = pickle.loads(pickle.dumps(d))
    errors: list[Exception] = []

    def wait() -> None:
        try:
            other.wait_for("a")
        except DataStoreError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    d.destroy()
    waiter.join(work.PATIENCE_S)
    assert "destroyed" in str(errors[0])


def test_a_dead_consumer_in_line_takes_no_message_along(server: Any) -> None:
    script = (
        "import pickle, sys; q = pickle.load(sys.stdin.buffer); print('ready', flush=True)\nq.get()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with Queue[int](url=server.url) as q, server.client() as client:
        dead = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        assert dead.stdin is not None
        dead.stdin.write(pickle.dumps(q))
        dead.stdin.close()
        takers = q._store._names[3]  # type: ignore[attr-defined]
        until(lambda: client.llen(takers) == 1)
        found: list[int] = []
        living = threading.Thread(target=lambda: found.append(q.get(timeout=work.PATIENCE_S)))
        living.start()
        until(lambda: client.llen(takers) == 2)
        os.kill(dead.pid, signal.SIGKILL)
        dead.wait()
        q.put(1)
        living.join(work.PATIENCE_S)
        assert found == [1]
        assert client.llen(takers) == 0


# -- servers for tests ---------------------------------------------------------------------


def test_a_server_ends_with_the_process_that_runs_it(tmp_path: Path) -> None:
    _servers.need_server()
    script = (
        "import os, signal\n"
        "from alamo.testing import valkey_server\n"
        "with valkey_server() as server:\n"
        "    print(server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    pid = int(run(script))

    def has_ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(has_ended)
    with _servers.server():  # sweeps what is left in the runtime directory
        pass
