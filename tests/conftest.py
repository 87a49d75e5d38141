"""What every test of running Batches is held to: it leaves nothing behind.

Each test under tests/conformance and tests/integration is followed by a look for processes and
directories that were not there before it. The session gets a temporary directory of its
own, so that other users of the machine do not appear in the picture, and a mark in the environment,
which finds orphans too.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: scripts that the tests interrupt would inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A machine under load is no property of the code; and what fails must fail for whoever changed it,
# so the examples are the same each time. `make soak` looks for others.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
settings.register_profile(
    "search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("any machine")

WATCHED = {Path(__file__).parent / name for name in ("conformance", "integration")}
GRACE_S = 60.0
MARK = "ALAMO_TEST_SESSION"
RUNTIME = "ALAMO_RUNTIME_DIR"
DATA = "ALAMO_DATA_DIR"
#: In memory, where there is such a place, as DDicts and Queues of users are.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

# Helpers of multiprocessing that live as long as the process that used it.
LASTING = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def pytest_collection_finish() -> None:
    """What there is now stays: collections after each test, and in tests, need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_mark() -> Iterator[str]:
    """A temporary directory (short: socket paths end at 108 bytes), one for shared data, a mark for
    the children."""
    saved = {name: os.environ.get(name) for name in ("TMPDIR", MARK, RUNTIME, DATA)}
    directory = tempfile.mkdtemp(prefix="at-")
    data = os.environ[DATA] = tempfile.mkdtemp(prefix="at-", dir=MEMORY)
    mark = uuid.uuid4().hex
    os.environ["TMPDIR"] = directory
    os.environ[MARK] = mark
    os.environ.pop(RUNTIME, None)
    tempfile.tempdir = None
    yield mark
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    tempfile.tempdir = None
    shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test after which something is left; what is left is then ended."""
    if WATCHED.isdisjoint(request.path.parents):
        yield
        return
    mark = request.getfixturevalue("session_mark")
    old_processes = processes(mark)
    old_entries = entries()
    yield
    gc.collect()
    left = wait_gone(mark, old_processes)
    described = [describe(process) for process in left]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(left, timeout=GRACE_S)
    described += wait_removed(old_entries)
    if described and not request.node.stash.get(FAILED, False):
        pytest.fail("left behind: " + "; ".join(described), pytrace=False)


def processes(mark: str) -> set[psutil.Process]:
    """Descendants of this process, and orphans that carry the mark."""
    found = set(psutil.Process().children(recursive=True))
    own = os.getpid()
    wanted = f"{MARK}={mark}".encode()
    for pid in psutil.pids():
        try:
            if pid != own and wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(psutil.Process(pid))
        except (OSError, psutil.NoSuchProcess):
            continue
    return {process for process in found if not lasting(process)}


def lasting(process: psutil.Process) -> bool:
    try:
        return any(name in " ".join(process.cmdline()) for name in LASTING)
    except psutil.Error:
        return False


def wait_gone(mark: str, old: set[psutil.Process]) -> list[psutil.Process]:
    """What is new and not gone in time. Descendants of an old process are that one's affair."""
    deadline = time.monotonic() + GRACE_S
    while True:
        new = processes(mark) - old
        new = {process for process in new if not descends(process, old)}
        if not new:
            return []
        psutil.wait_procs(list(new), timeout=0.05)
        if time.monotonic() > deadline:
            return [process for process in new if process.is_running()]


def descends(process: psutil.Process, old: set[psutil.Process]) -> bool:
    try:
        return any(parent in old for parent in process.parents())
    except psutil.Error:
        return False


def describe(process: psutil.Process) -> str:
    try:
        return f"process {process.pid} ({process.status()}) {' '.join(process.cmdline())[:120]!r}"
    except psutil.Error:
        return f"process {process.pid}"


def entries() -> set[Path]:
    """The runtime directories, <temporary directory>/alamo-<uid>/<owner>, and those of DDicts and
    Queues, <data directory>/alamo-<uid>/<kind>-<id>.

    Other shared memory is not looked for: what alamo uses has no name, and names there say nothing
    of who made them, which may be other users of the machine.
    """
    found = set(Path(tempfile.gettempdir()).glob("alamo-*/*"))
    return found | set(Path(os.environ[DATA]).glob("alamo-*/*"))


def wait_removed(old: set[Path]) -> list[str]:
    deadline = time.monotonic() + GRACE_S
    while (new := entries() - old) and time.monotonic() < deadline:
        time.sleep(0.02)
    return sorted(str(path) for path in new)
