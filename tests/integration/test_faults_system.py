"""A system that has not what is needed: a clear error at the earliest moment, never a hang."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import _faults as f
import pytest

from alamo import Batch, BatchBroken, UsageError, WorkerLost

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")

START = """
import sys
import _faults as f
from alamo import Batch
if __name__ == "__main__":
    try:
        workers = int(sys.argv[1]) if sys.argv[1] else None
        with Batch(num_workers=workers, log_level="CRITICAL") as batch:
            tasks = [batch.function(f.double, i) for i in range(50)]
            batch.compile(tasks).run(timeout=60)
            print("sum", sum(t.result.get() for t in tasks), batch._client.address)
    except Exception as error:
        print(type(error).__name__, " ".join(str(error).split()))
"""


def start(
    env: dict[str, str] | None = None,
    limit: Callable[[], None] | None = None,
    workers: str = "2",
) -> str:
    """What a script says that makes a Batch in such an environment."""
    begin = time.monotonic()
    with f.Script(START, workers, env=env or {}, preexec_fn=limit) as client:
        line = client.line()
        client.wait()
        assert not client.err, client.err
    assert time.monotonic() - begin < 3 * f.WAIT_S
    return line


# -- the runtime directory -----------------------------------------------------------------------


def test_root_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALAMO_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="ALAMO_RUNTIME_DIR"):
        Batch(num_workers=1)


def test_root_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALAMO_RUNTIME_DIR", "/proc/alamo")
    with pytest.raises(UsageError, match="ALAMO_RUNTIME_DIR"):
        Batch(num_workers=1)


@pytest.mark.parametrize("length", [30, 50, 60, 70, 108])
def test_long_temporary_directory(length: int) -> None:
    """A socket path ends at 108 bytes; where it does not fit, ``/tmp`` does."""
    with tempfile.TemporaryDirectory(prefix="al-", dir="/tmp") as root:
        path = (root + "/" + "x" * length)[:length].rstrip("/")
        os.makedirs(path, exist_ok=True)
        line = start({"TMPDIR": path})
        assert line.startswith("sum 2450 ")
        assert line.split()[2].startswith(path if length <= 60 else "/tmp/")


def test_long_runtime_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALAMO_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(UsageError, match="too long"):
        Batch(num_workers=1)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of some pages, as /tmp."""
    with tempfile.TemporaryDirectory(prefix="al-", dir="/tmp") as root:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20,mode=1777", "tmpfs", root],
            check=True,
        )
        try:
            yield Path(root)
        finally:
            subprocess.run(["umount", "-l", root], check=True)


@root_only
@pytest.mark.parametrize("room", range(0, 6))
def test_full_disk(small_disk: Path, room: int) -> None:
    """Whichever of the things that a Batch makes there is the first that does not fit."""
    made = []
    try:
        while True:
            made.append(small_disk / f"inode{len(made)}")
            made[-1].touch()
    except OSError:
        made.pop()
    for path in made[:room]:
        path.unlink()
    line = start({"ALAMO_RUNTIME_DIR": str(small_disk)})
    if not line.startswith("sum 2450 "):
        assert line.split()[0] in ("UsageError", "BatchBroken")
        assert "No space left on device" in line
    assert not list(small_disk.glob("alamo-*/*"))


@root_only
def test_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = start({"ALAMO_RUNTIME_DIR": str(small_disk)})
    assert line.startswith("UsageError")
    assert "Read-only file system" in line
    assert start({"TMPDIR": str(small_disk)}).startswith("sum 2450")  # Python takes /tmp


# -- descriptors and processes --------------------------------------------------------------------


@pytest.mark.parametrize("files", [10, 30, 64, 90])
@pytest.mark.parametrize("workers", ["2", ""])
def test_few_descriptors(files: int, workers: str) -> None:
    """Either it works, or it is said what is missing."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    line = start(limit=limit, workers=workers)
    if not line.startswith("sum 2450 "):
        assert files < 90
        assert line.split()[0] in ("UsageError", "BatchBroken", "OSError"), line
        assert "open files" in line or "num_workers" in line, line


def test_limit_of_the_client_is_that_of_tasks(tmp_path: Path) -> None:
    """The manager raises its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Batch(num_workers=1) as batch:
        task = batch.function(resource.getrlimit, resource.RLIMIT_NOFILE)
        assert task.run(timeout=60) == (soft, hard)


def test_too_many_clients() -> None:
    """The manager runs out of descriptors: the one client too many is told so."""
    code = """
    import pickle, resource, sys
    import _faults as f
    from alamo import Batch, BatchBroken
    if __name__ == "__main__":
        batch = Batch(num_workers=1, log_level="CRITICAL")
        resource.prlimit(batch._client.manager_pid, resource.RLIMIT_NOFILE, (40, 40))
        data = pickle.dumps(batch)
        clients = []
        try:
            while len(clients) < 60:
                clients.append(pickle.loads(data))
        except BatchBroken as error:
            print(len(clients) > 3, error)
        print(batch.function(pow, 2, 3).run(timeout=60))
        for client in clients[2:]:
            client._leave()
        def once_more():
            try:
                return pickle.loads(data)
            except BatchBroken:  # it has not seen yet that the others have left
                return None
        print(f.until(once_more).function(pow, 2, 4).run(timeout=60))
        batch.terminate()
    """
    with f.Script(code) as client:
        line = client.line()
        assert line.startswith("True ")
        assert "too many open files" in line
        assert client.line() == "8"
        assert client.line() == "16"
        assert client.wait() == 0


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A memory control group of 100 MB."""
    group = Path(f"/sys/fs/cgroup/memory/alamo-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("100M")
    except OSError as error:
        pytest.skip(f"no memory control group can be made: {error}")
    try:
        yield group
    finally:
        f.until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def eat(megabytes: int) -> int:
    return len(bytes(megabytes) * 1_000_000)


def test_out_of_memory(small_memory: Path) -> None:
    """The kernel kills the worker: the error says for what; the others go on."""
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        workers = f.until(lambda: len(found := f.workers_of(batch)) == 2 and found)
        for pid in workers:
            (small_memory / "cgroup.procs").write_text(str(pid))
        task = batch.function(eat, 500)
        tasks = [batch.function(f.double, i) for i in range(50)]
        batch.compile([task, *tasks]).start()
        assert [t.result.get(timeout=60) for t in tasks] == [2 * i for i in range(50)]
        with pytest.raises(WorkerLost, match="out-of-memory killer: the system"):
            task.result.get(timeout=60)
        fatal = batch.function(f.die, "SIGKILL")
        with pytest.raises(WorkerLost, match="kill -9"):
            fatal.run(timeout=60)
        f.kill(*workers)


FORKS = """#!{python}
import os, sys
nursery, count, real = os.getpid(), 0, os.fork
def fork():
    global count
    if os.getpid() == nursery:
        count += 1
        if count > 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
    return real()
os.fork = fork
code = sys.argv[3]
sys.argv[:] = sys.argv[3:]
exec(code)
"""


def test_no_more_processes(tmp_path: Path) -> None:
    """The workers that there are go on; when there is none left, the error says why."""
    script = tmp_path / "python"
    script.write_text(FORKS.format(python=sys.executable))
    script.chmod(0o700)
    batch = f.changed_batch(f"import alamo.manager.pool as p; p.sys.executable = {str(script)!r}")
    f.until(lambda: len(f.workers_of(batch)) == 2)
    nursery = f.nursery_of(batch)
    tasks = [batch.function(f.double, i) for i in range(50)]
    fatal = batch.function(f.die, "SIGKILL")
    batch.compile([fatal, *tasks]).start()
    assert [t.result.get(timeout=60) for t in tasks] == [2 * i for i in range(50)]
    with pytest.raises(WorkerLost):
        fatal.result.get(timeout=60)
    assert f.nursery_of(batch) == nursery
    batch.function(f.die, "SIGKILL").start()
    with pytest.raises(BatchBroken, match="Resource temporarily unavailable"):
        batch.function(f.double, 3).run(timeout=60)
    batch.terminate()


def test_a_nursery_that_cannot_start() -> None:
    """It is tried some times, then the Batch says why it ends."""
    batch = f.changed_batch("import alamo.manager.pool as p; p.sys.executable = '/bin/false'")
    begin = time.monotonic()
    with pytest.raises(BatchBroken, match="starts workers died"):
        batch.function(f.double, 3).run()
    assert time.monotonic() - begin < f.WAIT_S
    batch.terminate()


def test_a_manager_that_fails(tmp_path: Path) -> None:
    """A bug in it ends the Batch in good order: every wait gets the reason, nothing is left."""
    code = "import alamo.manager.forwarding as m; m.Forwarder.skipped = lambda *_: 1 / 0"
    batch = f.changed_batch(code)
    log = str(tmp_path / "log")
    running = batch.function(f.noted_pid_then_sleep, log)
    running.start()
    worker = int(f.wait_note(log))
    path = batch.write(str(tmp_path))
    bad = batch.function(f.double, None, writes=path)
    after = batch.function(f.double, 2, reads=batch.read(str(tmp_path)))
    program = batch.compile([bad, after])
    program.start()
    for wait in (running.result.get, after.result.get, program.wait):
        with pytest.raises(BatchBroken, match="ZeroDivisionError"):
            wait(timeout=f.WAIT_S)
    f.wait_gone([worker, f.manager_of(batch)])
    batch.terminate()
