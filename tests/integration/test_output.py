"""What tasks print, caught at descriptor level, and what they must not leave to the next task."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import _work as work
import alamo
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


# -- capture -------------------------------------------------------------------------------------


def test_prints(batch: Batch) -> None:
    assert output_of(batch, work.say, "out\n", "err") == ("out\n", "err")
    assert output_of(batch, print, "a", 1, None) == ("a 1 None\n", "")
    assert clean(batch)


def test_nothing_is_stripped(batch: Batch) -> None:
    for text in ("no newline", "one\n", "three\n\n\n", "\n", " ", "\t\r\n", "ü€🎉", "\0"):
        assert output_of(batch, work.say, text) == (text, "")
        assert output_of(batch, work.say, "", text) == ("", text)


def test_descriptors_children_and_c_code(batch: Batch) -> None:
    assert output_of(batch, work.say_raw, b"one", b"two") == ("one", "two")
    assert output_of(batch, work.say_by_child) == ("to stdout\n", "to stderr\n")
    assert output_of(batch, work.say_by_c, "by C") == ("by C and a line\n", "")
    assert output_of(batch, work.say_by_all)[0] == "print\nwrite\nchild\nprintf\nbuffer\nend"
    assert clean(batch)


def test_output_that_is_not_utf8(batch: Batch) -> None:
    assert output_of(batch, work.say_raw, b"\xff\xfe ok \xc3") == ("\\xff\\xfe ok \\xc3", "")
    assert output_of(batch, work.say, "\ud800") == ("\\ud800", "")


def test_output_and_result_together(batch: Batch) -> None:
    task = batch.function(work.say_by_child)
    assert task.run() == "ran"
    assert task.stdout.get() == "to stdout\n"
    large = batch.function(work.say_much, 5000)
    assert large.run() == 5000
    assert len(large.stdout.get()) == 5000


def test_output_of_failing_tasks(batch: Batch) -> None:
    task = batch.function(work.fail_loudly, "why")
    task.start()
    assert task.stdout.get() == "why\n"
    assert task.stderr.get() == "WHY\n"
    with pytest.raises(ValueError, match="why"):
        task.result.get()
    assert clean(batch)


def test_output_of_a_task_that_kills_its_worker(batch: Batch) -> None:
    def die() -> None:
        print("last words")
        print("of", "stderr", file=sys.stderr)
        os._exit(3)

    task = batch.function(die)
    task.start()
    assert task.stdout.get(timeout=work.PATIENCE_S) == "last words\n"
    assert task.stderr.get() == "of stderr\n"
    with pytest.raises(alamo.WorkerLost, match="of stderr") as lost:
        task.result.get()
    assert lost.value.exit_status == 3


def test_large_output_keeps_head_and_tail(batch: Batch) -> None:
    task = batch.function(work.say_much, 5_000_000)
    assert task.run() == 5_000_000
    text = task.stdout.get()
    assert 500_000 < len(text) < 1_200_000
    assert text.startswith("000000000...")
    assert text.endswith("004999000".ljust(999, ".") + "\n")
    assert "bytes left out" in text
    assert clean(batch)
    exact = batch.function(work.say_much, 1_000_000)
    exact.run()
    assert len(exact.stdout.get()) == 1_000_000


def test_each_task_has_its_own_output(batch: Batch) -> None:
    """Of many in one chunk."""
    tasks = [
        batch.function(work.say, f"<{i}>" if i % 3 else "", f"({i})" if i % 2 else "")
        for i in range(500)
    ]
    whole = batch.compile(tasks)
    whole.run()
    for i, task in enumerate(tasks):
        assert task.stdout.get() == (f"<{i}>" if i % 3 else "")
        assert whole.stderr.get(task.uid) == (f"({i})" if i % 2 else "")


def test_handles_of_output_pass_it_on(batch: Batch) -> None:
    source = batch.function(work.say, "out", "err")
    silent = batch.function(work.nothing)
    both = batch.function(
        work.everything, source.stdout, source.stderr, silent.stdout, source.result
    )
    batch.compile([source, silent, both]).run()
    assert both.result.get() == ("out", "err", "", None)


def test_nothing_reaches_the_clients_own_output(
    batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    output_of(batch, work.say_by_all)
    output_of(batch, work.fail_loudly, "x")
    assert capfd.readouterr() == ("", "")


# -- what one task must not leave to the next ------------------------------------------------------


def test_replaced_and_closed_streams_are_put_back(batch: Batch) -> None:
    for breaker in (work.break_stdout, work.close_stdout):
        output_of(batch, breaker)
        assert output_of(batch, work.say, "again") == ("again", "")
    tasks = [batch.function(f) for f in (work.break_stdout, work.nothing, work.close_stdout)]
    batch.compile(tasks).run()
    assert output_of(batch, work.say, "again") == ("again", "")


def test_surroundings_are_put_back(batch: Batch, tmp_path: Path) -> None:
    before = batch.function(work.surroundings).run()
    assert before[0] == os.getcwd()
    batch.function(work.disturb, str(tmp_path)).run()
    assert batch.function(work.surroundings).run() == before
    tasks = []
    for _ in range(50):  # in one chunk
        tasks += [batch.function(work.disturb, str(tmp_path)), batch.function(work.surroundings)]
    batch.compile(tasks).run()
    assert {t.result.get() for t in tasks[1::2]} == {before}


def test_a_removed_directory_does_not_hurt(batch: Batch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def go() -> None:
        os.chdir(gone)
        os.rmdir(gone)

    batch.function(go).run()
    assert batch.function(os.getcwd).run() == os.getcwd()


def test_tasks_run_where_the_client_is(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getcwd()
    task = batch.function(os.getcwd)
    whole = batch.compile([task])
    monkeypatch.chdir(tmp_path)
    single = batch.function(os.getcwd)
    assert single.run() == str(tmp_path)
    whole.run()
    assert task.result.get() == here
    monkeypatch.chdir(here)
    assert batch.function(os.getcwd).run() == here


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
        import signal

        return signal.getitimer(signal.ITIMER_REAL)[0]

    assert batch.function(remaining).run() == 0


def test_multiprocessing_inside_tasks(batch: Batch) -> None:
    def pool(method: str) -> list[int]:
        import multiprocessing

        with multiprocessing.get_context(method).Pool(2) as workers:
            return workers.map(abs, [-1, -2])

    for method in ("fork", "spawn", "forkserver", "forkserver"):
        assert batch.function(pool, method).run(timeout=work.PATIENCE_S) == [1, 2]


def test_standard_input_is_empty(batch: Batch) -> None:
    def read_all() -> str:
        return sys.stdin.read()

    assert batch.function(read_all).run(timeout=work.PATIENCE_S) == ""
    assert batch.function(os.read, 0, 10).run() == b""


def test_signals_find_an_ordinary_process(batch: Batch) -> None:
    def state() -> tuple[object, ...]:
        import signal

        return (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
            signal.pthread_sigmask(signal.SIG_BLOCK, []),
        )

    assert batch.function(state).run() == (True, True, True, set())
