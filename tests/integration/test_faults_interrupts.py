"""Ctrl-C at any moment: what was begun is undone or can be repeated, and nothing is mixed up."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import _faults as f
import pytest

import alamo
from alamo import Batch, BatchBroken, GraphError

SOURCE = str(Path(alamo.__file__).parent)


#: An interrupt in a constructor leaves objects whose finalizers complain, and sockets to them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def in_finalizer(frame: FrameType | None) -> bool:
    """Whether an exception would be lost."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class Interrupter:
    """Raises KeyboardInterrupt at the n-th place in alamo where Python would handle a signal.

    These are the beginnings of Python functions and the ends of C functions.
    """

    def __init__(self, n: int) -> None:
        self.left = n

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        here = event in ("call", "c_return") and frame.f_code.co_filename.startswith(SOURCE)
        if here and not in_finalizer(frame):
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def __call__(self, call: Callable[[], Any]) -> bool:
        """Call, and tell whether it was interrupted."""
        sys.setprofile(self.profile)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        assert self.left >= 0, "the interrupt was lost"
        return False


def every_place(call: Callable[[Interrupter], bool], step: int = 1) -> Iterator[int]:
    """Interrupt a call at each such place, until it comes to its end."""
    n = 0
    while call(Interrupter(n)):
        yield n
        n += step


@contextmanager
def batches() -> Iterator[Callable[[], Batch]]:
    """A Batch, and another one when that was broken by an interrupt in the middle of a message."""
    made: list[Batch] = []

    def get() -> Batch:
        if not made or made[-1]._client._outlet.why:
            made.append(Batch(num_workers=1, log_level="CRITICAL"))
        return made[-1]

    try:
        yield get
        with f.ended(get()):
            pass
    finally:
        for batch in made:
            batch.terminate()


@contextmanager
def unless_ended() -> Iterator[None]:
    """The Batch may have ended, if it says why."""
    try:
        yield
    except BatchBroken as error:
        if "interrupted" not in str(error):
            raise


def check(batch: Batch, n: int) -> None:
    """Two single tasks get their own results, unless the interrupt ended the Batch."""
    first, second = batch.function(f.double, n), batch.function(f.double, n + 1)
    with unless_ended():
        first.start()
        second.start()
        assert first.result.get(timeout=f.PATIENCE_S) == 2 * n
        assert second.result.get(timeout=f.PATIENCE_S) == 2 * n + 2


@pytest.mark.parametrize("new", [False, True])
def test_start_of_a_single_task(new: bool) -> None:
    """Also of the first one, which opens a program."""
    with batches() as get:

        def start(interrupter: Interrupter) -> bool:
            nonlocal task
            batch = get()
            if new:
                batch._singles._program = None
            task = batch.function(f.double, 21)
            return interrupter(task.start)

        task: Any = None
        for n in every_place(start):
            check(get(), n)
            if task.program is None:
                with unless_ended():
                    assert task.run(timeout=f.PATIENCE_S) == 42


def test_start_of_a_compiled_task() -> None:
    with batches() as get:

        def start(interrupter: Interrupter) -> bool:
            nonlocal tasks, program
            batch = get()
            tasks = [batch.function(f.double, n) for n in range(3)]
            program = batch.compile(tasks)
            return interrupter(program.start)

        tasks: Any = None
        program: Any = None
        for _ in every_place(start):
            with unless_ended():
                if not program.program.started:
                    program.start()
                assert [task.result.get(timeout=f.PATIENCE_S) for task in tasks] == [0, 2, 4]


def test_compile() -> None:
    """Its tasks can be compiled again, or say that they cannot."""
    with batches() as get:

        def make(interrupter: Interrupter) -> bool:
            nonlocal tasks
            batch = get()
            tasks = [batch.function(f.double, 0)]
            tasks += [batch.function(f.double, t.result) for t in tasks]
            return interrupter(lambda: batch.compile(tasks))

        tasks: Any = None
        again = refused = 0
        for n in every_place(make, step=3):
            check(get(), n)
            try:
                with unless_ended():
                    tasks[0].batch.compile(tasks).run(timeout=f.PATIENCE_S)
                    assert [task.result.get() for task in tasks] == [0, 0]
                    again += 1
            except GraphError as error:
                refused += "already" in str(error)
        assert again > 10 * refused
        # Those that were interrupted before somebody owned them stay to the end of the Batch.
        assert len(get()._client._programs) <= 10


@pytest.mark.parametrize(("joining", "step"), [(False, 3), (True, 7)])
def test_close_and_join(joining: bool, step: int) -> None:
    """Whatever was interrupted can be called again."""

    def end(interrupter: Interrupter) -> bool:
        with Batch(num_workers=1, log_level="CRITICAL") as batch:
            if joining:
                batch.close()
            interrupted = interrupter(batch.join if joining else batch.close)
            with unless_ended():
                batch.close()
                batch.join(timeout=f.PATIENCE_S)
            batch.terminate()
        return interrupted

    assert len(list(every_place(end, step))) > 3


def test_making_a_batch() -> None:
    """Nothing runs on without an owner."""
    batch: Any = None

    def make() -> None:
        nonlocal batch
        batch = Batch(num_workers=1, log_level="CRITICAL")

    before = set(f.descendants(os.getpid()))
    for _ in every_place(lambda interrupter: interrupter(make), step=17):
        f.until(lambda: set(f.descendants(os.getpid())) <= before, "as few processes as before")
    batch.terminate()


def test_a_further_client() -> None:
    """The manager does not wait for one that nobody has got."""
    other: Any = None
    with f.ended(Batch(num_workers=1)) as batch:
        data = pickle.dumps(batch)

        def load() -> None:
            nonlocal other
            other = pickle.loads(data)

        for _ in every_place(lambda interrupter: interrupter(load), step=5):
            pass
        other.close()


LONG = """
import atexit, os, signal, sys, threading, time
import _faults as f
from alamo import Batch
def interrupt():
    f.wait_note(sys.argv[1])
    f.until(lambda: waits_in_join())
    os.kill(os.getpid(), signal.SIGINT)
def waits_in_join():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code.co_name != "join":
        frame = frame.f_back
    return frame
if __name__ == "__main__":
    threading.Thread(target=interrupt, daemon=True).start()
"""


def test_ctrl_c_at_the_end_of_a_with_block(tmp_path: Path) -> None:
    """The task is not waited for again when the program exits."""
    code = (
        LONG
        + """
    try:
        with Batch(num_workers=1, log_level="CRITICAL") as batch:
            print(f.manager_of(batch))
            batch.function(f.noted_pid_then_sleep, sys.argv[1]).start()
    except KeyboardInterrupt:
        print("interrupted")
"""
    )
    with f.Script(code, tmp_path / "log") as client:
        manager = int(client.line())
        assert client.line() == "interrupted"
        assert not f.alive(manager)
        assert client.wait(f.WAIT_S) == 0


def test_ctrl_c_at_exit(tmp_path: Path) -> None:
    """No other Batch is waited for then."""
    code = (
        LONG
        + """
    batches = [Batch(num_workers=1, log_level="CRITICAL") for _ in range(3)]
    for batch in batches:
        print(f.manager_of(batch))
        batch.function(f.noted_pid_then_sleep, sys.argv[1]).start()
"""
    )
    with f.Script(code, tmp_path / "log") as client:
        managers = [int(client.line()) for _ in range(3)]
        client.wait()
        assert not any(map(f.alive, managers))
        assert "KeyboardInterrupt" in "".join(client.err)
