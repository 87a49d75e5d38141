"""A DDict between processes: spawned, forked, unrelated, and those that run tasks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _ddict
import numpy as np
import pytest

import _servers
import _work as work
from alamo import Batch, DDict, DDictTimeoutError, SerializationError, TaskTimeout

SCRIPT = Path(_ddict.__file__)


@pytest.fixture(scope="module", params=["embedded", "valkey"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "embedded":
        yield None
    else:
        with _servers.server() as server:
            yield server.url


@pytest.fixture
def d(url: str | None) -> Iterator[DDict[Any, Any]]:
    with DDict(wait_for_keys=True, timeout=work.PATIENCE_S, url=url) as one:
        yield one
        if "destroyed" not in repr(one):
            one.destroy()


@contextmanager
def script(d: DDict[Any, Any], tmp_path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has nothing of this one but the handle; it has opened it."""
    path = tmp_path / "handle"
    path.write_bytes(pickle.dumps(d))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.wait(work.PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_of_multiprocessing(d: DDict[Any, Any], method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_ddict.meet_by, args=(d, "child", "parent"))
    process.start()
    assert d["child"] == process.pid
    d["parent"] = 1
    process.join(work.PATIENCE_S)
    assert process.exitcode == 0
    assert set(d) == {"parent", "child"}


def test_a_forked_child_goes_on_with_what_it_inherits(d: DDict[Any, Any]) -> None:
    """Also one that is forked while another thread writes."""
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            d["busy"] = b"x" * 100_000

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(20):
            pid = os.fork()
            if pid == 0:
                try:
                    d["child", i] = d["busy"][:5]
                finally:
                    os._exit(0)
            assert d["child", i] == b"xxxxx"
            assert os.waitpid(pid, 0) == (pid, 0)
    finally:
        done.set()
        writer.join()
    assert len(d) == 21


def test_an_unrelated_process(d: DDict[Any, Any], tmp_path: Path) -> None:
    d["a"] = 1
    with script(d, tmp_path, "describe") as process:
        assert said(process) == f"(None, True, {work.PATIENCE_S}, ['a'])\n"
    with script(d, tmp_path, "meet_by", "theirs", "ours") as process:
        assert d["theirs"] == process.pid
        d["ours"] = "hello"
        assert said(process) == "hello\n"


def test_no_addition_of_any_process_is_lost(d: DDict[Any, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_ddict.count_up, args=(d, 300)) for _ in range(3)]
    for process in processes:
        process.start()
    _ddict.count_up(d, 300)
    for process in processes:
        process.join(work.PATIENCE_S)
    assert d["n"] == 1200


def test_an_interrupt_ends_a_wait(d: DDict[Any, Any], tmp_path: Path) -> None:
    with script(d, tmp_path, "wait_for", "never") as process:
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert said(process).startswith("interrupted")
    with pytest.raises(KeyboardInterrupt):
        work.interrupted(lambda: d["never"])


def test_a_wait_takes_no_cpu(d: DDict[Any, Any]) -> None:
    began_s = time.process_time()
    with pytest.raises(DDictTimeoutError):
        d.wait_for("never", timeout=2)
    assert time.process_time() - began_s < 0.5


def test_a_class_that_only_the_writer_has(d: DDict[Any, Any], tmp_path: Path) -> None:
    """One of a module that is nowhere else: the reader is told which it is."""
    (tmp_path / "only_here.py").write_text("class Thing:\n    pass\n")
    path = tmp_path / "handle"
    path.write_bytes(pickle.dumps(d))
    code = (
        "import pickle, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "import only_here\n"
        "pickle.loads(Path(sys.argv[1]).read_bytes())['a'] = only_here.Thing()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path)], check=True, env=environment
    )
    with pytest.raises(SerializationError, match=r"key 'a'.*only_here\.Thing.*No module"):
        d["a"]


KILLED_WRITER = """
import os, pickle, signal, sys
from pathlib import Path
from alamo.data.lmdb.waiters import Waiters
Waiters.wake = lambda self, names: os.kill(os.getpid(), signal.SIGKILL)
d = pickle.loads(Path(sys.argv[1]).read_bytes())
d["late"] = 5
"""


def test_a_writer_killed_before_it_wakes_delays_little(
    d: DDict[Any, Any], url: str | None, tmp_path: Path
) -> None:
    if url is not None:
        pytest.skip("a server stores and wakes as one")
    path = tmp_path / "handle"
    path.write_bytes(pickle.dumps(d))

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    late_s: list[float] = []
    while not late_s or (late_s[-1] > 1.0 and len(late_s) < 5):
        d.pop("late", None)
        writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(path)], env=environment)
        killed_s: list[float] = []

        def see(writer: Any = writer, killed_s: Any = killed_s) -> None:
            assert writer.wait(work.PATIENCE_S) == -signal.SIGKILL
            killed_s.append(time.monotonic())

        thread = threading.Thread(target=see)
        thread.start()
        assert d["late"] == 5
        read_s = time.monotonic()
        thread.join()
        late_s.append(read_s - killed_s[0])
    assert late_s[-1] <= 1.0, f"read {late_s} s after the kill; half a second was promised"


# -- tasks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


def multiply(m: Any, d: DDict[Any, Any], i: int) -> None:
    d[i + 1] = m @ d[i]


def test_tasks_hand_arrays_on(d: DDict[Any, Any], batch: Batch) -> None:
    m = np.eye(100) * 2.0
    d[0] = np.eye(100)
    tasks = [
        batch.function(multiply, m, d, i, reads=batch.read(d, i), writes=batch.write(d, i + 1))
        for i in range(50)
    ]
    batch.compile(tasks).run(timeout=work.PATIENCE_S)
    assert np.array_equal(d[50], np.eye(100) * 2.0**50)


def test_tasks_that_wait_hold_nothing_up(d: DDict[Any, Any], batch: Batch) -> None:
    """More tasks wait than there are workers, and what they wait for comes behind them."""
    readers = [batch.function(_ddict.wait_for, d, i) for i in range(4)]
    writers = [batch.function(_ddict.put_after, d, i, i * i) for i in range(4)]
    program = batch.compile([*readers, *writers])
    program.start()
    program.wait(work.PATIENCE_S)
    assert [task.result.get() for task in readers] == [0, 1, 4, 9]


def test_a_wait_between_a_task_and_its_client(d: DDict[Any, Any], batch: Batch) -> None:
    task = batch.function(_ddict.meet_by, d, "task", "client")
    task.start()
    assert d["task"] != os.getpid()
    d["client"] = 7
    assert task.result.get(timeout=work.PATIENCE_S) == 7


def test_a_time_limit_ends_a_wait(d: DDict[Any, Any], batch: Batch) -> None:
    task = batch.function(_ddict.wait_for, d, "never", timeout=0.5)
    task.start()
    with pytest.raises(TaskTimeout):
        task.result.get(timeout=work.PATIENCE_S)
    d["after"] = 1
    assert d["after"] == 1


def test_a_cancel_ends_a_wait(d: DDict[Any, Any], batch: Batch) -> None:
    task = batch.function(_ddict.meet_by, d, "begun", "never")
    task.start()
    assert d["begun"]
    task.cancel()
    task.wait(work.PATIENCE_S)
    assert task.state == "cancelled"


def test_a_timeout_in_a_task_is_the_tasks_error(d: DDict[Any, Any], batch: Batch) -> None:
    task = batch.function(_ddict.wait_for, d, "never", 0.05)
    task.start()
    with pytest.raises(DDictTimeoutError, match="'never'"):
        task.result.get(timeout=work.PATIENCE_S)


def test_an_idle_worker_lets_go_of_what_its_tasks_had(d: DDict[Any, Any]) -> None:
    d[0] = np.ones(100_000)
    place = d.stats().get("place")
    if place is None:
        pytest.skip("this store maps no files")
    with Batch(num_workers=1) as one:
        pid = one.function(_ddict.pid_with, d, 0).run()
        maps = Path(f"/proc/{pid}/maps")
        d.destroy()
        work.wait_until(lambda: place not in maps.read_text())
        assert one.function(work.pid).run() == pid


def test_children_of_tasks(d: DDict[Any, Any], batch: Batch) -> None:
    tasks = [batch.function(_ddict.put_from_child, d, i) for i in range(10)]
    batch.compile(tasks).run(timeout=work.PATIENCE_S)
    assert [d[i] for i in range(10)] == [task.result.get() for task in tasks]


def test_a_dictionary_outlives_the_tasks_that_had_it(d: DDict[Any, Any]) -> None:
    for i in range(2):
        with Batch(num_workers=1) as one:
            one.function(_ddict.put_after, d, i, i).run()
    assert d == {0: 0, 1: 1}
