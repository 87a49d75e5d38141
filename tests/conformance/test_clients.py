"""Many clients of one Batch: pickled, in other processes, forked; and who waits for whom."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _engines import MakeBatch

import _work as work
import alamo
from alamo import Batch, BatchBroken, SubmitAfterClose, UsageError

# -- a further client --------------------------------------------------------------------------


@pytest.mark.needs("clients")
def test_a_pickled_batch_is_another_client(batch: Batch) -> None:
    other = pickle.loads(pickle.dumps(batch))
    assert other.function(work.same, 5).run() == 5
    tasks = [other.function(work.add, i, 1) for i in range(100)]
    mine = batch.function(work.same, 1)
    other.compile(tasks).run()
    assert [t.result.get() for t in tasks] == list(range(1, 101))
    assert {t.uid for t in tasks}.isdisjoint({mine.uid})
    with pytest.raises(alamo.GraphError, match="another Batch"):
        other.compile([mine])
    assert "client" in repr(other)
    other.close()
    other.close()
    with pytest.raises(SubmitAfterClose):
        other.function(work.nothing)
    assert mine.run() == 1
    with copy.deepcopy({"a": batch})["a"] as third:
        task = third.function(np.arange, 50_000)
        array = task.run()
        unread = third.function(np.arange, 50_000)
        unread.start()
        unread.wait()
    others = [batch.function(np.zeros, 50_000) for _ in range(20)]
    batch.compile(others).run()
    assert (array == np.arange(50_000)).all()  # its block is not filled again
    assert (unread.result.get() == np.arange(50_000)).all()


@pytest.mark.needs("clients")
def test_a_client_that_leaves_ends_its_waits(batch: Batch, tmp_path: Path) -> None:
    other = pickle.loads(pickle.dumps(batch))
    gate = tmp_path / "gate"
    task = other.function(work.wait_for_file, str(gate))
    task.start()
    other.__exit__(None, None, None)
    with work.quick(), pytest.raises(BatchBroken, match="left"):
        task.result.get(timeout=work.PATIENCE_S)
    gate.touch()


def use_in_child(batch: Batch, results: Any) -> None:
    try:
        results.put(batch.function(work.same, os.getpid()).run(timeout=work.PATIENCE_S))
        tasks = [batch.function(work.add, i, 1) for i in range(50)]
        batch.compile(tasks).run(timeout=work.PATIENCE_S)
        results.put([t.result.get() for t in tasks])
        results.put(float(batch.function(np.sum, np.ones(100_000)).run()))
        batch.close()
        try:
            batch.function(work.nothing)
        except SubmitAfterClose:
            results.put("closed")
        try:
            batch.join()
        except UsageError:
            results.put("not joined")
    except BaseException as error:
        results.put(repr(error))


@pytest.mark.needs("clients")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_in_a_child_of_multiprocessing(
    batch: Batch, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The forkserver's directory is removed when this process ends, after the session's own.
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    array = batch.function(np.arange, 60_000).run()
    child = context.Process(target=use_in_child, args=(batch, results))
    child.start()
    assert results.get(timeout=work.PATIENCE_S) == child.pid
    assert results.get(timeout=work.PATIENCE_S) == list(range(1, 51))
    assert results.get(timeout=work.PATIENCE_S) == 100_000
    assert results.get(timeout=work.PATIENCE_S) == "closed"
    assert results.get(timeout=work.PATIENCE_S) == "not joined"
    child.join()
    assert child.exitcode == 0
    assert batch.function(work.same, 1).run() == 1
    assert (array == np.arange(60_000)).all()
    results.close()
    results.join_thread()
    child.close()


FOREIGN = """
import pickle, sys
sys.path.insert(0, sys.argv[2])
import _work as work
with open(sys.argv[1], "rb") as file:
    batch = pickle.load(file)
print(batch.function(work.add, 2, 3).run(timeout=60))
tasks = [batch.function(lambda i: i * i, i) for i in range(100)]
batch.compile(tasks).run()
print(sum(t.result.get() for t in tasks))
task = batch.function(work.say, "printed")
task.run()
print(task.stdout.get())
def mine(x):
    return Mine(x)
class Mine:
    def __init__(self, x): self.x = x
print(type(batch.function(mine, 1).run()) is Mine)
if len(sys.argv) > 3 and sys.argv[3] == "close":
    batch.close()
elif len(sys.argv) > 3 and sys.argv[3] == "die":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.needs("clients")
@pytest.mark.parametrize("end", ["close", "exit", "die"])
def test_in_an_unrelated_process(make_batch: MakeBatch, tmp_path: Path, end: str) -> None:
    with make_batch(num_workers=2) as one:
        (tmp_path / "batch").write_bytes(pickle.dumps(one))
        done = work.run_script(
            tmp_path,
            FOREIGN,
            str(tmp_path / "batch"),
            str(Path(work.__file__).parent),
            end,
            check=False,
        )
        assert end == "die" or done.stdout == "5\n328350\nprinted\nTrue\n", done.stderr
        assert done.returncode == (-signal.SIGKILL if end == "die" else 0)
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        one.close()
        one.join(timeout=work.PATIENCE_S)  # however it ended, it counts as closed


@pytest.mark.needs("clients")
def test_join_waits_for_all_clients(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    other, third = pickle.loads(pickle.dumps([one, one]))
    assert other is third  # one object pickled twice is one client
    third = pickle.loads(pickle.dumps(one))
    one.close()
    with pytest.raises(TimeoutError):
        one.join(timeout=0.1)
    other.close()
    with pytest.raises(TimeoutError):
        one.join(timeout=0.1)
    task = third.function(work.append_line, str(tmp_path / "f"), "late")
    task.start()
    third.close()
    one.join(timeout=work.PATIENCE_S)
    assert task.result.get(timeout=work.PATIENCE_S) is None
    assert (tmp_path / "f").read_text() == "late\n"


@pytest.mark.needs("clients")
def test_a_dropped_connection_counts_as_closed(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    other = pickle.loads(pickle.dumps(one))
    other.function(work.append_line, str(tmp_path / "f"), "started").start()
    whole = other.compile([other.function(work.append_line, str(tmp_path / "f"), "never")])
    one.close()
    del other, whole
    gc.collect()
    one.join(timeout=work.PATIENCE_S)
    assert (tmp_path / "f").read_text() == "started\n"


@pytest.mark.needs("clients")
def test_other_clients_are_told_of_the_end(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    other = pickle.loads(pickle.dumps(one))
    task = other.function(work.wait_for_file, str(tmp_path / "never"))
    task.start()
    one.terminate()
    with work.quick(), pytest.raises(BatchBroken, match="terminated"):
        task.result.get(timeout=work.PATIENCE_S)
    with pytest.raises(BatchBroken, match="terminated"):
        other.function(work.nothing).start()
    other.close()
    with pytest.raises(BatchBroken):
        pickle.loads(pickle.dumps(one))


# -- forks -------------------------------------------------------------------------------------


def run_in_fork(body: Any) -> str:
    """What the body returns in a forked child, which then ends as a process does."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = repr(body())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


@pytest.mark.needs("clients")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_uses_the_batch(batch: Batch) -> None:
    running = batch.function(work.same, "parent")
    array = batch.function(np.arange, 40_000)
    running.start()
    array.run()
    created = batch.function(work.same, "created")
    whole = batch.compile([batch.function(work.same, "compiled")])

    def child() -> Any:
        tasks = [batch.function(work.add, i, 1) for i in range(20)]
        batch.compile(tasks).run(timeout=work.PATIENCE_S)
        values = [t.result.get() for t in tasks][-1]
        created_too = created.run(timeout=work.PATIENCE_S)
        large = batch.function(np.sum, np.ones(50_000)).run()
        batch.close()
        return values, created_too, float(large)

    assert run_in_fork(child) == "(20, 'created', 50000.0)"
    assert "BatchBroken" in run_in_fork(whole.start)
    assert running.result.get() == "parent"
    assert (array.result.get() == np.arange(40_000)).all()
    assert created.run() == "created"
    whole.run()


@pytest.mark.needs("clients")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_results_in_a_forked_child_stay_what_they_are(batch: Batch) -> None:
    """The parent gives blocks back that the child still has mapped."""
    read, write = os.pipe()
    arrays = [batch.function(np.full, 40_000, i).run() for i in range(10)]
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        good = all((a == i).all() for i, a in enumerate(arrays))
        os._exit(0 if good else 1)
    del arrays
    gc.collect()
    for _ in range(3):
        batch.compile([batch.function(np.full, 40_000, -1) for _ in range(20)]).run()
    os.write(write, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(read)
    os.close(write)


@pytest.mark.needs("clients")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_other_threads_use_the_batch(batch: Batch) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def busy() -> None:
        try:
            while not stop.is_set():
                batch.function(work.same, 1).run(timeout=work.PATIENCE_S)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            text = run_in_fork(lambda: batch.function(work.same, 7).run(timeout=work.PATIENCE_S))
            assert text == "7"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
