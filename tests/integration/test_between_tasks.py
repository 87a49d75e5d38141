"""What one task leaves in its worker's process does not reach the next one."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator

import pytest

import _work as work
from alamo import Batch


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=1) as one:  # one worker: the next task runs in the same process
        yield one


def output_of(batch: Batch, function: object, *args: object) -> tuple[str, str]:
    task = batch.function(function, *args)  # type: ignore[arg-type]
    task.start()
    task.wait(work.PATIENCE_S)
    return task.stdout.get(), task.stderr.get()


def clean(batch: Batch) -> bool:
    """Whether a task that prints nothing has no output."""
    return output_of(batch, work.nothing) == ("", "")


def test_stray_children_are_ended(batch: Batch) -> None:
    for maker in (
        work.leave_child,
        lambda: work.leave_child(session=True),
        work.leave_orphan,
    ):
        pid = batch.function(maker).run()
        batch.function(work.nothing).run()
        work.wait_until(lambda pid=pid: not work.alive(pid))  # type: ignore[misc]
    assert clean(batch)


def test_a_stray_that_writes_does_not_reach_the_next_task(batch: Batch) -> None:
    for _ in range(3):
        output_of(batch, work.leave_writer)
        assert clean(batch)
        tasks = [
            batch.function(work.leave_writer),
            *(batch.function(work.nothing) for _ in range(5)),
        ]
        batch.compile(tasks).run()
        assert {t.stdout.get() for t in tasks[1:]} == {""}


def test_a_task_that_forks_and_returns_twice(batch: Batch) -> None:
    pid = batch.function(work.fork_and_return).run()
    assert pid > 0
    assert [batch.function(work.same, i).run() for i in range(5)] == list(range(5))
    work.wait_until(lambda: not work.alive(pid))


def test_an_alarm_does_not_hit_a_later_task(batch: Batch) -> None:
    batch.function(work.set_alarm).run()

    def remaining() -> float:

        return signal.getitimer(signal.ITIMER_REAL)[0]

    assert batch.function(remaining).run() == 0


def test_multiprocessing_inside_tasks(batch: Batch) -> None:
    def pool(method: str) -> list[int]:

        with multiprocessing.get_context(method).Pool(2) as workers:
            return workers.map(abs, [-1, -2])

    for method in ("fork", "spawn", "forkserver", "forkserver"):
        assert batch.function(pool, method).run(timeout=work.PATIENCE_S) == [1, 2]


def test_signals_find_an_ordinary_process(batch: Batch) -> None:
    def state() -> tuple[object, ...]:

        return (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
            signal.pthread_sigmask(signal.SIG_BLOCK, []),
        )

    assert batch.function(state).run() == (True, True, True, set())
