"""Functions and classes that tasks of the tests use; importable by workers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alamo.blocking import while_blocked

#: How long a wait may take that is expected to end; longer is a hang.
PATIENCE_S = 60.0


# -- plain ---------------------------------------------------------------------------------


def nothing() -> None:
    return None


def same(value: Any = None) -> Any:
    return value


def everything(*args: Any) -> tuple[Any, ...]:
    return args


def add(a: Any, b: Any) -> Any:
    return a + b


def call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def identity_of(value: Any) -> int:
    return id(value)


def pid() -> int:
    return os.getpid()


def change(values: list[Any], value: Any) -> list[Any]:
    """Changes its argument in place; another task must not see that."""
    values.append(value)
    return values


def wait_for_file(path: str, limit_s: float = PATIENCE_S) -> str:
    """Stands in for a long task: runs until the test makes the file."""
    end = time.monotonic() + limit_s
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.002)
    return path


def await_mail(path: str, timeout_s: float | None = None) -> str:
    """Stands in for a reader of shared data: it is told when they come, and looks now and then."""
    end = time.monotonic() + (PATIENCE_S if timeout_s is None else timeout_s)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(f"{path}.bell")
        with while_blocked(timeout_s):
            while not os.path.exists(path):
                left_s = end - time.monotonic()
                if left_s < 0:
                    raise TimeoutError(path)
                select.select([bell], [], [], min(0.5, left_s))
    return read_text(path)


def send_mail(path: str, text: str) -> None:
    """Stands in for a writer of shared data; the reader may come later."""
    write_text(f"{path}.part", text)
    os.rename(f"{path}.part", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(b"", f"{path}.bell")  # where nobody waits yet, nobody needs it


def append_line(path: str, line: str) -> None:
    with open(path, "a") as file:
        file.write(f"{line}\n")


def write_text(path: str | Path, text: str) -> None:
    Path(path).write_text(text)


def read_text(path: str | Path) -> str:
    return Path(path).read_text()


def meet(directory: str, name: str, other: str) -> str:
    """Ends only when the other is running at the same time."""
    Path(directory, name).touch()
    return wait_for_file(os.path.join(directory, other))


def alone(path: str, seconds: float = 0.002) -> bool:
    """Whether nobody else was in here meanwhile."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    time.sleep(seconds)
    os.unlink(path)
    return True


class Adder:
    """A callable instance, with a method."""

    def __init__(self, base: int) -> None:
        self.base = base

    def __call__(self, value: int) -> int:
        return self.base + value

    def times(self, value: int) -> int:
        return self.base * value

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    @staticmethod
    def double(value: int) -> int:
        return 2 * value


plus_three = functools.partial(add, 3)


@dataclass
class Bag:
    """A container of the user's own."""

    content: Any
    others: list[Any] = field(default_factory=list)


class CountsLoads:
    """Says how often it was pickled."""

    pickled = 0

    def __init__(self, size: int) -> None:
        self.data = "x" * size

    def __getstate__(self) -> dict[str, Any]:
        type(self).pickled += 1
        return self.__dict__


# -- failures ------------------------------------------------------------------------------


class Awkward(Exception):
    """Its constructor takes something else than its args."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}: {detail}")
        self.code = code
        self.detail = detail


class NoArgs(Exception):
    def __init__(self) -> None:
        super().__init__("made", "inside")
        self.extra = {"a": [1, 2]}


class OsAwkward(OSError):
    """A subclass of OSError that takes one argument and sets errno itself."""

    def __init__(self, path: str) -> None:
        super().__init__(2, "not there", path)
        self.path = path


class Slotted(Exception):
    __slots__ = ("level",)

    def __init__(self, level: int) -> None:
        super().__init__("slotted")
        self.level = level


class Holds(Exception):
    """Holds something that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.size = 5


class NeverLoads(Exception):
    """Its class cannot be loaded from its pickle."""

    def __reduce__(self) -> Any:
        return _refuse, ("exception",)


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def _refuse(what: str) -> Any:
    raise LookupError(f"this {what} does not load")


def _refuse_outside(pid: int) -> Any:
    if os.getpid() != pid:
        raise LookupError("this result does not load here")
    return "loaded"


class LoadsOnlyThere:
    """Unpickles only in the process that pickled it."""

    def __reduce__(self) -> Any:
        return _refuse_outside, (os.getpid(),)


class NeverPickles:
    def __reduce__(self) -> Any:
        raise TypeError("a heart of stone")


def never_pickles() -> NeverPickles:
    return NeverPickles()


def lock() -> Any:
    return threading.Lock()


def loads_only_there(size: int = 0) -> Any:
    return [LoadsOnlyThere(), bytes(size)]


def array_that_loads_only_there(size: int) -> Any:
    import numpy as np

    return [np.zeros(size), LoadsOnlyThere()]


def fail(error: BaseException | type[BaseException]) -> None:
    raise error


def fail_awkwardly(code: int) -> None:
    raise Awkward(code, detail="bad luck")


def fail_by(maker: Callable[..., BaseException], *args: Any) -> None:
    raise maker(*args)


def fail_with_cause() -> None:
    try:
        int("x")
    except ValueError as error:
        again = KeyError("outer")
        again.add_note("a note of the user's")
        raise again from error


def fail_in_context() -> None:
    try:
        int("x")
    except ValueError:
        raise Awkward(3, detail="while handling") from None


def fail_as_group() -> None:
    raise ExceptionGroup(
        "two",
        [ValueError("one"), Awkward(2, detail="inner"), ExceptionGroup("deep", [OSError(5, "io")])],
    )


def exit_with(code: Any) -> None:
    sys.exit(code)


def interrupt() -> None:
    raise KeyboardInterrupt


def fail_loudly(text: str) -> None:
    print(text)
    print(text.upper(), file=sys.stderr)
    raise ValueError(text)


def fail_holding(text: str) -> None:
    raise ValueError(NeverPickles(), text)


def unpicklable_error() -> None:
    raise Holds("locked")


# -- output --------------------------------------------------------------------------------


def say(out: str = "", err: str = "") -> None:
    sys.stdout.write(out)
    sys.stderr.write(err)


def say_raw(out: bytes, err: bytes = b"") -> None:
    os.write(1, out)
    os.write(2, err)


def say_by_child() -> str:
    subprocess.run("echo to stdout; echo to stderr >&2", shell=True, check=True)
    return "ran"


def say_by_c(text: str) -> None:
    libc = ctypes.CDLL(None)
    libc.printf(b"%s", text.encode())
    libc.puts(b" and a line")


def say_by_all() -> None:
    print("print")
    os.write(1, b"write\n")
    subprocess.run(["echo", "child"], check=True)
    ctypes.CDLL(None).puts(b"printf")
    sys.stdout.buffer.write(b"buffer\n")
    print("end", end="")


def say_much(size: int) -> int:
    for start in range(0, size, 1000):
        print(f"{start:09d}".ljust(999, "."))
    return size


def break_stdout() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def close_stdout() -> None:
    sys.stdout.close()


# -- what a task may change in its process ---------------------------------------------------


def disturb(directory: str) -> None:
    os.chdir(directory)
    os.environ["ALAMO_TEST_LEFT"] = "yes"
    os.environ.pop("HOME", None)
    os.umask(0o077)


def surroundings() -> tuple[str, str | None, bool, int]:
    mask = os.umask(0)
    os.umask(mask)
    return os.getcwd(), os.environ.get("ALAMO_TEST_LEFT"), "HOME" in os.environ, mask


def leave_child(seconds: int = 60, session: bool = False) -> int:
    child = subprocess.Popen(["sleep", str(seconds)], start_new_session=session)
    child.returncode = 0  # nobody will wait for it
    return child.pid


def leave_orphan() -> int:
    """A grandchild in a session of its own, whose parent ends."""
    text = subprocess.run(
        ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return int(text)


def leave_writer() -> None:
    """A child that goes on writing after the task has ended."""
    child = subprocess.Popen("while true; do echo stray; done", shell=True)
    child.returncode = 0
    time.sleep(0.01)


def fork_and_return() -> int:
    return os.fork()


def set_alarm() -> None:
    signal.alarm(1)


# -- nested ----------------------------------------------------------------------------------


def submit_one(batch: Any, value: Any) -> Any:
    """A task that submits to the Batch that runs it."""
    return batch.function(same, value).run(timeout=PATIENCE_S)


def nest(batch: Any, depth: int) -> int:
    if depth == 0:
        return 0
    return 1 + int(batch.function(nest, batch, depth - 1).run(timeout=60))


def nest_compiled(batch: Any, depth: int, width: int) -> int:
    if depth == 0:
        return 1
    tasks = [batch.function(nest_compiled, batch, depth - 1, width) for _ in range(width)]
    batch.compile(tasks).run(timeout=60)
    return sum(t.result.get() for t in tasks)


def submit_and_forget(batch: Any, path: str) -> None:
    batch.function(append_line, path, "child").start()


# -- files -----------------------------------------------------------------------------------


def stir(label: str, reads: list[str], writes: list[str]) -> str:
    """Reads files and directories, writes files from what it read: the order shows in the text."""
    import hashlib

    digest = hashlib.sha256(label.encode())
    for path in reads:
        digest.update(_content(Path(path)))
    text = digest.hexdigest()
    for path in writes:
        target = Path(path)
        if target.is_dir():
            for file in sorted(p for p in target.rglob("*") if p.is_file()):
                file.write_text(f"{text} {file.read_text()[:8]}")
        else:
            target.write_text(text)
    return text


def _content(path: Path) -> bytes:
    if path.is_dir():
        return b"".join(_content(p) for p in sorted(path.iterdir()))
    return path.read_bytes() if path.exists() else b"-"


# -- in the tests themselves -------------------------------------------------------------------


@contextlib.contextmanager
def quick(limit_s: float = PATIENCE_S * 2 / 3) -> Iterator[None]:
    """What happens inside waits for nothing: not for a task that goes on for ``PATIENCE_S``."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < limit_s, f"took {took:.2f} s, more than {limit_s} s"


@contextlib.contextmanager
def cheap(limit_s: float) -> Iterator[None]:
    """What happens inside must not take this thread more processor time, whoever else is busy."""
    begun = time.thread_time()
    yield
    took = time.thread_time() - begun
    assert took < limit_s, f"took {took:.2f} s of processor time, more than {limit_s} s"


def interrupted(call: Callable[[], Any], after_s: float = 0.05) -> None:
    """Make a call in the main thread, and get Ctrl-C meanwhile."""
    main = threading.main_thread().ident or 0
    timer = threading.Timer(after_s, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    try:
        call()
    finally:
        timer.join()


def in_time(limit_s: float, call: Callable[[], Any], tries: int = 5) -> None:
    """Make a call until it has once taken no longer than that.

    A loaded machine may hold up some calls, a limit that is not kept all of them.
    """
    times: list[float] = []
    while not times or (times[-1] >= limit_s and len(times) < tries):
        begun = time.monotonic()
        call()
        times.append(time.monotonic() - begun)
    assert times[-1] < limit_s, f"took {times} s, more than {limit_s} s each time"


def run_script(
    directory: Path,
    source: str,
    *args: str,
    check: bool = True,
    name: str = "script.py",
    **kwargs: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a user's script in a process of its own; warnings of leaks are errors there."""
    path = directory / name
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(path), *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        cwd=directory,
        **kwargs,
    )
    if check:
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        assert "Warning" not in done.stderr, done.stderr
    return done


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
