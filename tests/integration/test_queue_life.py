"""How long an embedded Queue lives, and what is left of it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import _work as work
from alamo import DataStoreError, Queue, UsageError


def place(q: Queue[int]) -> Path:
    return Path(q.stats()["place"])


def test_many_come_and_go() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for i in range(200):
        q: Queue[int] = Queue()
        q.put(i)
        assert q.get() == i
    where = place(q)
    del q
    assert not where.exists()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_the_maker_keeps_what_was_pickled() -> None:
    q: Queue[int] = Queue()
    q.put(1)
    handle, where = pickle.dumps(q), place(q)
    del q
    again = pickle.loads(handle)
    assert again.get() == 1
    again.close()
    del again
    assert not where.exists()
    with pytest.raises(DataStoreError, match="is gone"):
        pickle.loads(handle)


def test_a_closed_queue_is_there_for_those_who_have_it() -> None:
    q: Queue[int] = Queue()
    other = pickle.loads(pickle.dumps(q))
    q.put(1)
    q.close()
    del q
    assert other.get() == 1
    other.put(2)
    assert other.get() == 2


def test_what_a_killed_maker_leaves() -> None:
    """Others go on with the queue; it goes with the last of them."""
    script = """
        import os, pickle, sys, time
        from alamo import Queue
        q = Queue()
        q.put_many(range(5))
        sys.stdout.buffer.write(pickle.dumps(q))
        sys.stdout.flush()
        os.close(1)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE
    ) as maker:
        assert maker.stdout is not None
        q: Queue[int] = pickle.loads(maker.stdout.read())
        maker.send_signal(signal.SIGKILL)
        maker.wait(work.PATIENCE_S)
    assert [q.get() for _ in range(5)] == list(range(5))
    q.put(5)
    assert q.get() == 5
    where = place(q)
    del q
    assert not where.exists()


def test_what_nobody_has_is_swept(tmp_path: Path) -> None:
    script = """
        import os, sys
        from alamo import Queue
        q = Queue(directory=sys.argv[1])
        q.put(1)
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), tmp_path], check=False)
    left = list(tmp_path.glob("alamo-*/queue-*"))
    assert len(left) == 1
    with Queue(directory=str(tmp_path)):
        assert not left[0].exists()


def test_a_process_that_ends_by_itself_leaves_nothing(tmp_path: Path) -> None:
    script = """
        import pickle, sys
        from alamo import Queue
        q = Queue(directory=sys.argv[1], name="named")
        q.put_many(range(100))
        print(q.get(), q.get(), len(pickle.dumps(q)) > 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("0 1 True\n", "")
    assert not list(tmp_path.glob("alamo-*/*"))


def test_names_are_told_apart(tmp_path: Path) -> None:
    one: Queue[int] = Queue(directory=str(tmp_path), name="one", joinable=True)
    two: Queue[int] = Queue(directory=str(tmp_path), name="two")
    one.put(1)
    assert two.empty()
    assert Queue(directory=str(tmp_path), name="one", joinable=True).get() == 1
    with pytest.raises(UsageError, match="joinable=True"):
        Queue(directory=str(tmp_path), name="one")
    one.destroy()
    two.destroy()


def test_too_little() -> None:
    with pytest.raises(UsageError, match="total_mem=1000 is too small for a Queue"):
        Queue(total_mem=1000)
    with pytest.raises(UsageError, match="give one"):
        Queue(directory="/dev/shm", url="valkey://localhost")
