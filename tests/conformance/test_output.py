"""What tasks print is theirs, and what they change is put back before the next task."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import _work as work
import alamo
from alamo import Batch

#: The next task runs where the last one ran.
NUM_WORKERS = 1


def output_of(batch: Batch, function: object, *args: object) -> tuple[str, str]:
    task = batch.function(function, *args)  # type: ignore[arg-type]
    task.start()
    task.wait(work.PATIENCE_S)
    return task.stdout.get(), task.stderr.get()


def clean(batch: Batch) -> bool:
    """Whether a task that prints nothing has no output."""
    return output_of(batch, work.nothing) == ("", "")


# -- capture -----------------------------------------------------------------------------------


def test_prints(batch: Batch) -> None:
    assert output_of(batch, work.say, "out\n", "err") == ("out\n", "err")
    assert output_of(batch, print, "a", 1, None) == ("a 1 None\n", "")
    assert clean(batch)


def test_nothing_is_stripped(batch: Batch) -> None:
    for text in ("no newline", "one\n", "three\n\n\n", "\n", " ", "\t\r\n", "ü€🎉", "\0"):
        assert output_of(batch, work.say, text) == (text, "")
        assert output_of(batch, work.say, "", text) == ("", text)


@pytest.mark.needs("descriptors")
def test_descriptors_children_and_c_code(batch: Batch) -> None:
    assert output_of(batch, work.say_raw, b"one", b"two") == ("one", "two")
    child = batch.function(work.say_by_child)
    assert child.run() == "ran"
    assert (child.stdout.get(), child.stderr.get()) == ("to stdout\n", "to stderr\n")
    assert output_of(batch, work.say_by_c, "by C") == ("by C and a line\n", "")
    assert output_of(batch, work.say_by_all)[0] == "print\nwrite\nchild\nprintf\nbuffer\nend"
    assert clean(batch)


@pytest.mark.needs("descriptors")
def test_output_that_is_not_utf8(batch: Batch) -> None:
    assert output_of(batch, work.say_raw, b"\xff\xfe ok \xc3") == ("\\xff\\xfe ok \\xc3", "")
    assert output_of(batch, work.say, "\ud800") == ("\\ud800", "")


def test_output_and_result_together(batch: Batch) -> None:
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


@pytest.mark.needs("kills")
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


@pytest.mark.needs("descriptors")
def test_nothing_reaches_the_clients_own_output(
    batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    output_of(batch, work.say_by_all)
    output_of(batch, work.fail_loudly, "x")
    assert capfd.readouterr() == ("", "")


# -- surroundings ------------------------------------------------------------------------------


@pytest.mark.needs("processes")
def test_replaced_and_closed_streams_are_put_back(batch: Batch) -> None:
    for breaker in (work.break_stdout, work.close_stdout):
        output_of(batch, breaker)
        assert output_of(batch, work.say, "again") == ("again", "")
    tasks = [batch.function(f) for f in (work.break_stdout, work.nothing, work.close_stdout)]
    batch.compile(tasks).run()
    assert output_of(batch, work.say, "again") == ("again", "")


@pytest.mark.needs("processes")
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


@pytest.mark.needs("processes")
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


@pytest.mark.needs("processes")
def test_standard_input_is_empty(batch: Batch) -> None:
    def read_all() -> str:
        return sys.stdin.read()

    assert batch.function(read_all).run(timeout=work.PATIENCE_S) == ""
    assert batch.function(os.read, 0, 10).run() == b""
