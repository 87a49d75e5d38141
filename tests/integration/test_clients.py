"""Many clients of one Batch, and its life: pickling, forks, nested tasks, close, join, exits."""

from __future__ import annotations

import contextlib
import copy
import gc
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import _work as work
import alamo
from alamo import Batch, BatchBroken, SubmitAfterClose, UsageError, WaitTimeout


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


def manager_of(batch: Batch) -> int:
    return int(batch._client.manager_pid)


# -- the life of a Batch -----------------------------------------------------------------------


def test_context_manager_closes_and_joins(tmp_path: Path) -> None:
    with Batch(num_workers=1) as one:
        assert isinstance(one, Batch)
        task = one.function(work.append_line, str(tmp_path / "f"), "ran")
        task.start()
    assert (tmp_path / "f").read_text() == "ran\n"  # all work was done
    assert not work.alive(manager_of(one))
    assert task.result.get() is None  # results stay
    with pytest.raises(SubmitAfterClose):
        one.function(work.nothing)
    assert "closed" in repr(one)


def test_context_manager_terminates_at_an_exception(tmp_path: Path) -> None:
    with work.quick(5), contextlib.suppress(KeyError), Batch(num_workers=1) as one:
        task = one.function(work.wait_for_file, str(tmp_path / "never"))
        task.start()
        raise KeyError("mine")
    assert not work.alive(manager_of(one))
    with pytest.raises(BatchBroken, match=f"task {task.uid}"):
        task.result.get()


def test_explicit_end_inside_the_context() -> None:
    with Batch(num_workers=1) as one:
        one.close()
        one.join()
    with Batch(num_workers=1) as one:
        one.terminate()
    with Batch(num_workers=1) as one:
        one.close()
    assert not work.alive(manager_of(one))


def test_close_join_and_terminate_again_do_nothing() -> None:
    one = Batch(num_workers=1)
    one.close()
    one.close()
    one.join()
    one.join()
    one.terminate()
    one.close()
    other = Batch(num_workers=1)
    other.terminate()
    other.terminate()
    other.close()
    other.join()


def test_join_with_a_timeout(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = Batch(num_workers=1)
    task = one.function(work.wait_for_file, str(gate))
    task.start()
    one.close()
    before = threading.active_count()
    for timeout in (0.2, 0, -1):
        with work.quick(0.4), pytest.raises(TimeoutError) as error:
            one.join(timeout=timeout)
        assert isinstance(error.value, WaitTimeout)
    assert threading.active_count() == before
    gate.touch()
    one.join(timeout=1e9)
    assert task.result.get() == str(gate)


def test_terminate_ends_waits_and_running_tasks(tmp_path: Path) -> None:
    one = Batch(num_workers=2)
    tasks = [one.function(work.wait_for_file, str(tmp_path / "never")) for _ in range(4)]
    handles = [t.start()[0] for t in tasks]
    whole = one.compile([one.function(work.wait_for_file, str(tmp_path / "never"))])
    whole.start()
    errors: queue.Queue[BaseException] = queue.Queue()

    def wait(call: Any) -> None:
        try:
            call()
        except BaseException as error:
            errors.put(error)

    calls = [h.get for h in handles] + [whole.wait, tasks[0].wait, whole.result.get]
    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    with work.quick(3):
        one.terminate()
        for thread in threads:
            thread.join(work.PATIENCE_S)
    found = [errors.get(timeout=1) for _ in calls]
    assert {type(e) for e in found} == {BatchBroken}
    assert all("terminated" in str(e) and "task" in str(e) for e in found)
    for call in (lambda: one.function(work.nothing), one.compile, handles[0].get):
        with pytest.raises((BatchBroken, SubmitAfterClose, TypeError)):
            call()


def test_a_dropped_batch_terminates(tmp_path: Path) -> None:
    one = Batch(num_workers=1)
    one.function(work.wait_for_file, str(tmp_path / "never")).start()
    pid = manager_of(one)
    seen = weakref.ref(one)
    del one
    gc.collect()
    assert seen() is None
    work.wait_until(lambda: not work.alive(pid), 3)


def test_handles_keep_the_batch(tmp_path: Path) -> None:
    result = Batch(num_workers=1).function(work.same, 5).start()[0]
    gc.collect()
    assert result.get() == 5
    del result
    gc.collect()


def test_many_batches_one_after_the_other_leave_nothing() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use() -> None:
        with Batch(num_workers=1) as one:
            task = one.function(np.ones, 50_000)
            assert task.run().sum() == 50_000
            one.compile([one.function(np.sum, np.ones(50_000))]).run()

    use()
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for _ in range(5):
        use()
    gc.collect()
    work.wait_until(lambda: threading.active_count() <= threads)
    assert descriptors() <= before


def test_results_stay_after_the_end() -> None:
    with Batch(num_workers=1) as one:
        tasks = [one.function(np.full, 30_000, i) for i in range(5)]
        one.compile(tasks).run()
        small = one.function(work.say, "x")
        small.start()
    assert [t.result.get()[0] for t in tasks] == list(range(5))
    assert small.stdout.get() == "x"


# -- a further client --------------------------------------------------------------------------


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


def test_a_client_that_leaves_ends_its_waits(batch: Batch, tmp_path: Path) -> None:
    other = pickle.loads(pickle.dumps(batch))
    gate = tmp_path / "gate"
    task = other.function(work.wait_for_file, str(gate))
    task.start()
    other.__exit__(None, None, None)
    with work.quick(2), pytest.raises(BatchBroken, match="left"):
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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_in_a_child_of_multiprocessing(
    batch: Batch, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The forkserver's directory is removed when this process ends, after the session's own.
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    context = multiprocessing.get_context(method)
    results = context.Queue()
    with batch_of_its_own(batch):
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
    results.close()
    results.join_thread()
    child.close()


def batch_of_its_own(batch: Batch) -> Any:
    """Nothing: a place to hold results over the life of a child."""
    array = batch.function(np.arange, 60_000).run()

    class Check:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            assert (array == np.arange(60_000)).all()

    return Check()


FOREIGN = """
import pickle, sys
sys.path.insert(0, sys.argv[2])
import _work as work
with open(sys.argv[1], "rb") as file:
    batch = pickle.load(file)
print(batch.function(work.add, 2, 3).run(timeout=20))
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


@pytest.mark.parametrize("end", ["close", "exit", "die"])
def test_in_an_unrelated_process(tmp_path: Path, end: str) -> None:
    with Batch(num_workers=2) as one:
        (tmp_path / "batch").write_bytes(pickle.dumps(one))
        done = work.run_script(
            tmp_path, FOREIGN, str(tmp_path / "batch"), str(Path(__file__).parent), end, check=False
        )
        assert end == "die" or done.stdout == "5\n328350\nprinted\nTrue\n", done.stderr
        assert done.returncode == (-signal.SIGKILL if end == "die" else 0)
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        one.close()
        with work.quick(3):
            one.join(timeout=3)  # however it ended, it counts as closed


def test_join_waits_for_all_clients(tmp_path: Path) -> None:
    one = Batch(num_workers=1)
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
    one.join(timeout=5)
    assert task.result.get(timeout=1) is None
    assert (tmp_path / "f").read_text() == "late\n"


def test_a_dropped_connection_counts_as_closed(tmp_path: Path) -> None:
    one = Batch(num_workers=1)
    other = pickle.loads(pickle.dumps(one))
    other.function(work.append_line, str(tmp_path / "f"), "started").start()
    whole = other.compile([other.function(work.append_line, str(tmp_path / "f"), "never")])
    one.close()
    del other, whole
    gc.collect()
    one.join(timeout=5)
    assert (tmp_path / "f").read_text() == "started\n"


def test_other_clients_are_told_of_the_end(tmp_path: Path) -> None:
    one = Batch(num_workers=1)
    other = pickle.loads(pickle.dumps(one))
    task = other.function(work.wait_for_file, str(tmp_path / "never"))
    task.start()
    one.terminate()
    with work.quick(3), pytest.raises(BatchBroken, match="terminated"):
        task.result.get(timeout=work.PATIENCE_S)
    with pytest.raises(BatchBroken, match="terminated"):
        other.function(work.nothing).start()
    other.close()
    with pytest.raises(BatchBroken, match="no manager answers"):
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
        return values, created_too, float(large), batch._client.is_primary

    assert run_in_fork(child) == "(20, 'created', 50000.0, False)"
    assert "BatchBroken" in run_in_fork(whole.start)
    assert running.result.get() == "parent"
    assert (array.result.get() == np.arange(40_000)).all()
    assert created.run() == "created"
    whole.run()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_end_the_parents_batch(batch: Batch) -> None:
    def drop() -> str:
        client = batch._client
        assert run_in_fork(batch.close) == "None"  # a grandchild
        batch.__del__()
        with pytest.raises(UsageError):
            batch.terminate()
        with pytest.raises(UsageError):
            batch.join()
        return f"{client.closed}"

    def unused() -> None:
        with batch:
            pass

    assert run_in_fork(drop) == "'True'"
    assert run_in_fork(unused) == "None"
    assert batch.function(work.same, 1).run() == 1
    assert work.alive(manager_of(batch))


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


# -- nested ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_nested_to_depth_30(workers: int) -> None:
    with Batch(num_workers=workers) as one:
        assert one.function(work.nest, one, 30).run(timeout=60) == 30


def test_nested_compiles(batch: Batch) -> None:
    assert batch.function(work.nest_compiled, batch, 3, 3).run(timeout=60) == 27
    tasks = [batch.function(work.nest_compiled, batch, 2, 2) for _ in range(8)]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks] == [4] * 8


def test_many_parents_wait_at_once(batch: Batch) -> None:
    tasks = [batch.function(work.submit_one, batch, i) for i in range(60)]
    batch.compile(tasks).run(timeout=60)
    assert [t.result.get() for t in tasks] == list(range(60))


def test_parents_that_do_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "children"
    with Batch(num_workers=2) as one:
        one.compile([one.function(work.submit_and_forget, one, str(path)) for _ in range(20)]).run()
    assert path.read_text() == "child\n" * 20


def test_a_function_that_holds_the_batch(batch: Batch) -> None:
    """Its worker loads it once; the Batch in it serves one task after the other."""

    def parent(i: int) -> int:
        return int(batch.function(work.add, i, 1).run(timeout=work.PATIENCE_S))

    def closes(i: int) -> int:
        with batch:
            return int(batch.function(work.add, i, 1).run(timeout=work.PATIENCE_S))

    for function in (parent, closes):
        assert [batch.function(function, i).run() for i in range(5)] == [1, 2, 3, 4, 5]
        tasks = [batch.function(function, i) for i in range(50)]
        batch.compile(tasks).run(timeout=60)
        assert [t.result.get() for t in tasks] == list(range(1, 51))


def test_nested_failures_and_large_values(batch: Batch) -> None:
    def failing() -> None:
        batch.function(work.fail_awkwardly, 9).run()

    with pytest.raises(work.Awkward) as caught:
        batch.function(failing).run()
    assert caught.value.code == 9

    def large() -> Any:
        return batch.function(work.add, np.ones(60_000), 1).run()

    results = [batch.function(large).run() for _ in range(5)]
    assert all((r == 2).all() for r in results)
    tasks = [batch.function(large) for _ in range(10)]
    batch.compile(tasks).run(timeout=60)
    assert all((t.result.get() == 2).all() for t in tasks)


def test_a_batch_made_inside_a_task(batch: Batch) -> None:
    def own() -> int:
        with Batch(num_workers=1) as inner:
            return int(inner.function(work.add, 1, 2).run())

    def forgotten() -> int:
        inner = Batch(num_workers=1)
        globals()["kept"] = inner
        inner.function(work.same, 1).start()
        return int(inner._client.manager_pid)

    assert batch.function(own).run(timeout=work.PATIENCE_S) == 3
    pid = batch.function(forgotten).run(timeout=work.PATIENCE_S)
    work.wait_until(lambda: not work.alive(pid), 6)


def test_another_batch_inside_a_task(batch: Batch) -> None:
    with Batch(num_workers=1) as other:
        for _ in range(3):
            assert batch.function(work.submit_one, other, 5).run(timeout=work.PATIENCE_S) == 5


# -- exits -------------------------------------------------------------------------------------


def test_a_script_that_forgets_to_close(tmp_path: Path) -> None:
    work.run_script(
        tmp_path,
        "import sys, time\n"
        "from alamo import Batch\n"
        "def f(path):\n"
        "    time.sleep(0.2)\n"
        "    open(path, 'w').close()\n"
        "batch = Batch(num_workers=1)\n"
        "batch.function(f, 'done').start()\n",
    )
    assert (tmp_path / "done").exists()


def test_a_script_that_crashes(tmp_path: Path) -> None:
    with work.quick(10):
        done = work.run_script(
            tmp_path,
            "import time\n"
            "from alamo import Batch\n"
            "batch = Batch(num_workers=1)\n"
            "batch.function(time.sleep, 60).start()\n"
            "print(batch._client.manager_pid, flush=True)\n"
            "raise ValueError('my crash')\n",
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: my crash")
    assert not work.alive(int(done.stdout))


def test_sys_exit_is_a_clean_exit(tmp_path: Path) -> None:
    done = work.run_script(
        tmp_path,
        "import sys\nfrom alamo import Batch\n"
        "batch = Batch(num_workers=1)\n"
        "batch.function(lambda: open('done', 'w').close()).start()\n"
        "sys.exit(3)\n",
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert (tmp_path / "done").exists()


def test_a_process_that_dies_without_a_word(tmp_path: Path) -> None:
    done = work.run_script(
        tmp_path,
        "import os, time\nfrom alamo import Batch\n"
        "batch = Batch(num_workers=2)\n"
        "pids = [batch.function(os.getpid).run(), batch._client.manager_pid]\n"
        "batch.function(time.sleep, 60).start()\n"
        "print(*pids, flush=True)\n"
        "os._exit(0)\n",
        check=False,
    )
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 2
    work.wait_until(lambda: not any(map(work.alive, pids)), 5)


WAITING = """
import sys, time
from alamo import Batch
def main():
    with Batch(num_workers=2) as batch:
        tasks = [batch.function(time.sleep, 60) for _ in range(4)]
        whole = batch.compile(tasks)
        whole.start()
        single = batch.function(time.sleep, 60)
        single.start()
        print("waiting", flush=True)
        {wait}
main()
"""


@pytest.mark.parametrize(
    "wait",
    ["whole.wait()", "whole.wait(1e9)", "single.result.get()", "batch.close(); batch.join()"],
)
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, wait: str) -> None:
    """As a terminal does it: the whole process group gets SIGINT."""
    script = tmp_path / "script.py"
    script.write_text(WAITING.format(wait=wait))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    parent = psutil.Process(process.pid)
    work.wait_until(lambda: len(parent.children(recursive=True)) >= 4)
    family = parent.children(recursive=True)
    with work.quick(5):
        os.killpg(process.pid, signal.SIGINT)
        _, text = process.communicate(timeout=work.PATIENCE_S)
    assert process.returncode in (1, -signal.SIGINT)
    assert "KeyboardInterrupt" in text
    assert text.count("Traceback") == 1, text
    work.wait_until(lambda: not any(work.alive(p.pid) for p in family), 3)


def test_interrupted_waits_can_be_taken_up_again(batch: Batch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    timer = threading.Timer(
        0.1, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    )
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        task.wait()
    timer.join()
    gate.touch()
    assert task.result.get() == str(gate)


def test_a_thread_may_hold_the_only_reference(tmp_path: Path) -> None:
    done = work.run_script(
        tmp_path,
        "import threading\nfrom alamo import Batch\n"
        "def use():\n"
        "    with Batch(num_workers=1) as batch:\n"
        "        print(batch.function(len, 'abc').run())\n"
        "threads = [threading.Thread(target=use) for _ in range(3)]\n"
        "[t.start() for t in threads]\n"
        "[t.join() for t in threads]\n",
    )
    assert done.stdout == "3\n3\n3\n"


def test_start_up_does_not_need_the_scripts_directory(tmp_path: Path) -> None:
    """Modules of the user's that shadow Python's own do not reach manager and nursery."""
    for name in ("random", "selectors", "token", "heapq"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadow')\n")
    code = (
        "import sys\nfrom alamo import Batch\nsys.path.insert(0, '.')\n"
        "with Batch(num_workers=1) as b: print(b.function(len, 'ab').run())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "2\n", done.stderr


def test_time_of_start_and_end() -> None:
    begun = time.monotonic()
    with Batch(num_workers=1) as one:
        assert one.function(work.same, 1).run() == 1
    assert time.monotonic() - begun < 3
