"""What the fault tests share: tasks that go wrong, and a look at the processes from outside.

Workers import this module, so it imports neither pytest nor psutil.
"""

from __future__ import annotations

import ast
import ctypes
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: The issue allows 5 s after a kill, on a machine that has time; here others may keep it busy.
WAIT_S = 25.0
#: For what has no limit of its own: when it has passed, something hangs.
PATIENCE_S = 60.0


def until(condition: Callable[[], Any], what: str = "", timeout_s: float = PATIENCE_S) -> Any:
    """Poll until the condition is true; returns what it gave."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.003)


# -- looking at processes ------------------------------------------------------------------


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return -1


def alive(pid: int) -> bool:
    """Whether the process runs: it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (
            b"Z",
            b"X",
        )
    except OSError:
        return False


def stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except OSError:
        return False


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for other in all_pids():
        children.setdefault(parent(other), []).append(other)
    found, pending = [], [pid]
    while pending:
        some = children.get(pending.pop(), [])
        found += some
        pending += some
    return found


def kill(*pids: int, number: int = signal.SIGKILL) -> int:
    """Send a signal to those that are still there; returns how many."""
    sent = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            sent += 1
        except ProcessLookupError:
            pass
    return sent


def kill_at_once(*pids: int) -> None:
    """In one moment: none can do anything about the end of another."""
    kill(*pids, number=signal.SIGSTOP)
    kill(*pids)


def manager_of(batch: Any) -> int:
    return int(batch._client.manager_pid)


def nursery_of(batch: Any, timeout_s: float = PATIENCE_S) -> int:
    def look() -> int:
        manager = manager_of(batch)
        for pid in all_pids():
            if parent(pid) == manager and comm(pid) == "alamo-nursery":
                return pid
        return 0

    return int(until(look, "a nursery", timeout_s))


def workers_of(batch: Any) -> list[int]:
    return [p for p in descendants(manager_of(batch)) if comm(p).startswith("alamo-worker")]


def wait_sends(thread: int | None) -> None:
    """Until a thread is held up in the middle of a message."""

    def look() -> bool:
        places = set()
        for _ in range(100):
            frame = sys._current_frames().get(thread or 0)
            places.add(frame and (frame.f_code.co_name, frame.f_lasti))
            time.sleep(0.002)
        place = places.pop()
        return not places and place is not None and place[0] == "send_all"

    until(look, f"thread {thread} in a send")


def wait_gone(pids: Iterable[int], timeout_s: float = WAIT_S) -> None:
    pids = list(pids)
    until(lambda: not any(map(alive, pids)), f"end of {pids}", timeout_s)


@contextmanager
def ended(batch: Any) -> Iterator[Any]:
    """The Batch, which must be able to end in good order afterwards."""
    try:
        yield batch
        batch.close()
        batch.join(timeout=PATIENCE_S)
    finally:
        batch.terminate()


def check_targets(code: str) -> None:
    """Assert that every attribute that the code sets is there: to set another changes nothing."""
    names: dict[str, Any] = {}
    statements = ast.parse(code).body
    imports = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
    exec(ast.unparse(ast.Module(imports, [])), names)
    assigned = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    for target in assigned:
        if isinstance(target, ast.Attribute):
            owner = ast.unparse(target.value)
            assert hasattr(eval(owner, names), target.attr), f"{owner} has no {target.attr}"


def changed_batch(code: str, log_level: str = "CRITICAL", enable_telem: bool = False) -> Any:
    """A Batch of two workers whose manager runs this code first, which sets what is there."""
    from alamo import Batch

    check_targets(code)
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        path, call = command[3].split("; ", 1)
        command[3] = f"{path}; {code}; {call}"
        return real(command, **options)

    subprocess.Popen = popen  # type: ignore[misc, assignment]
    try:
        return Batch(num_workers=2, log_level=log_level, enable_telem=enable_telem)
    finally:
        subprocess.Popen = real  # type: ignore[misc]


# -- files as evidence ---------------------------------------------------------------------


def note(path: str, text: object) -> None:
    """Append one line, in one piece however many do it at once."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def notes(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []


def repeated(path: str | Path) -> list[str]:
    """Lines that were noted more than once."""
    return [line for line, n in Counter(notes(path)).items() if n > 1]


def wait_note(path: str | Path, timeout_s: float = PATIENCE_S) -> str:
    """The first line, as soon as there is one."""
    until(lambda: notes(path), f"a line in {path}", timeout_s)
    return notes(path)[0]


# -- tasks ---------------------------------------------------------------------------------


def double(x: int) -> int:
    return 2 * x


def pid_of_worker(*_: Any) -> int:
    return os.getpid()


def noted(path: str, n: int, sleep_s: float = 0.0) -> int:
    note(path, n)
    if sleep_s:
        time.sleep(sleep_s)
    return n


def noted_then_wait(path: str, gate: str, n: int) -> int:
    note(path, n)
    until(lambda: os.path.exists(gate))
    return n


def noted_bytes(path: str, size: int, sleep_s: float) -> bytes:
    time.sleep(sleep_s)
    note(path, size)
    return b"x" * size


def busy(path: str, n: int, seconds: float) -> int:
    note(path, n)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return n


def noted_pid_then_sleep(path: str, sleep_s: float = 600.0) -> None:
    note(path, os.getpid())
    time.sleep(sleep_s)


def die(how: str) -> None:
    """End the worker: ``exit:3``, ``SIGKILL``, ``segfault``, ``abort``."""
    if how.startswith("exit:"):
        os._exit(int(how[5:]))
    if how == "segfault":
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(600)


def noted_then_die(path: str, n: int, how: str = "SIGKILL") -> None:
    note(path, n)
    die(how)


def print_then_die(out: str, err: str, how: str = "SIGKILL") -> None:
    print(out)
    print(err, file=sys.stderr)
    die(how)


def much_data(batch: Any) -> Any:
    """A program of some ten megabytes, all of which goes through the socket."""
    return batch.compile([batch.function(len, b"%d" % i * 200) for i in range(20_000)])


# -- clients that are processes of their own --------------------------------------------------


class Script:
    """A Python program in a process of its own, watched through the lines that it prints."""

    def __init__(self, code: str, *args: object, **options: Any) -> None:
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
        env.update(options.pop("env", {}))
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            **options,
        )
        self.pid = self.process.pid
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.err: list[str] = []
        self._threads = [
            threading.Thread(target=self._read_out, daemon=True),
            threading.Thread(target=self._read_err, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        self.err.extend(self.process.stderr)

    def line(self, timeout_s: float = PATIENCE_S) -> str:
        """The next line that it prints."""
        try:
            line = self.lines.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"the script says nothing; {self.errors()}") from None
        if line is None:
            raise AssertionError(f"the script ended; {self.errors()}")
        return line

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        return f"status {self.process.poll()}, stderr: " + "".join(self.err)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the script goes on; {self.errors()}") from None

    def rest(self, timeout_s: float = PATIENCE_S) -> list[str]:
        """All further lines, until it ends."""
        found = []
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the script goes on; {self.errors()}") from None
            if line is None:
                return found
            found.append(line)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGCONT, signal.SIGKILL):
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
