"""What Batches, tasks and handles look like, in a line and in a notebook."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch

VOID = {"br", "hr", "img"}


class Checked(HTMLParser):
    """Collects the text of HTML; fails where it is not well-formed or asks for something else."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "span", "b", "code"}
        for name, value in attrs:
            assert name == "style"
            assert "url" not in (value or "")
            assert "background:#fff" not in (value or "")  # it takes the colours of the page
        self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(thing: Any) -> str:
    """The line, after a look that the HTML says the same."""
    line = repr(thing)
    assert "\n" not in line
    assert len(line) < 600
    Checked(thing._repr_html_())
    return line


def html_of(thing: Any) -> str:
    """The text of the HTML."""
    return Checked(thing._repr_html_()).text


def test_a_single_task(batch: Batch) -> None:
    task = batch.function(work.same, 1, name="one")
    assert seen(task) == f"<Function task {task.uid} (one): not started>"
    assert seen(task.result) == f"<result of task {task.uid} (one): not started>"
    task.run()
    assert seen(task).startswith(f"<Function task {task.uid} (one): done, ")
    assert seen(task).endswith(" s>")
    assert seen(task) == seen(task)  # its time does not go on
    assert seen(task.stdout).startswith(f"<stdout of task {task.uid} (one): done")


def test_a_failure_shows_its_first_line(batch: Batch) -> None:
    task = batch.function(work.fail, ValueError("<b>first</b> & more\nsecond line"))
    task.start()
    task.wait()
    assert "failed, ValueError: <b>first</b> & more" in seen(task)
    assert "second" not in seen(task)
    assert "ValueError: <b>first</b> & more" in html_of(task)


def test_a_compiled_task(batch: Batch) -> None:
    bad = [batch.function(work.fail, ValueError(f"number {i}")) for i in range(8)]
    needs = batch.function(work.same, bad[0].result)
    good = batch.function(work.same, 1)
    whole = batch.compile([*bad, needs, good], name="whole")
    assert seen(whole) == f"<Compiled task {whole.uid} (whole): not started, 10 waiting>"
    assert seen(good) == f"<Function task {good.uid}: not started>"
    with pytest.warns(RuntimeWarning):
        handles = whole.run()
    assert "ended, 1 done, 8 failed, 1 skipped, first failure: task " in seen(whole)
    assert ": ValueError: number " in seen(whole)
    assert seen(needs) == f"<Function task {needs.uid}: skipped>"
    assert seen(good) == f"<Function task {good.uid}: done>"
    assert "failed, ValueError: number 3>" in seen(bad[3])
    assert "handles of the 10 subtasks of task" in seen(handles)
    assert "1 done, 8 failed" in seen(handles)
    assert "failed" in seen(handles[bad[3].uid][0])
    assert html_of(whole).count("ValueError") == 5
    assert "and 3 more" in html_of(whole)


def test_arrays(batch: Batch) -> None:
    task = batch.map(work.same, range(30), name="many")
    assert "not started" in seen(task)
    task.run()
    assert f"<Array task {task.uid} (many): ended, 30 done, " in seen(task)
    assert f"<result of task {task.uid} (many): ended, 30 done, " in seen(task.result)
    bad = batch.map(work.fail, [KeyError(i) for i in range(3)])
    bad.start()
    bad.wait()
    assert "3 failed, first failure: element " in seen(bad)
    assert html_of(bad).count("KeyError") == 3


def test_arrays_in_a_compiled_task(batch: Batch) -> None:
    plain = batch.map(work.same, range(5))
    own = batch.map(work.same, range(6), writes=lambda i: batch.write("/nowhere", str(i)))
    whole = batch.compile([plain, own])
    for task in (whole, plain, own):
        assert "not started" in seen(task)
    handles = whole.run()
    assert "ended, 11 done" in seen(whole)
    assert "ended, 5 done" in seen(plain)
    assert "ended, 6 done" in seen(own)
    assert "6 done" in seen(handles[own.uid][0])


def test_an_array_whose_arguments_break_off(batch: Batch) -> None:
    def some() -> Any:
        yield 1
        raise OSError("no <more>")

    task = batch.map(work.same, some())
    task.start()
    task.wait()
    assert "the arguments of task" in seen(task)
    assert "OSError: no <more>" in html_of(task)


@pytest.mark.needs("background")
def test_what_goes_on(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=2)
    assert "open" in seen(one)
    gate = tmp_path / "gate"
    single = one.function(work.wait_for_file, str(gate))
    single.start()
    whole = one.compile([one.function(work.wait_for_file, str(gate)), one.function(work.nothing)])
    whole.start()
    assert ": waiting, " in seen(single)
    assert "under way, " in seen(whole)
    assert "waiting" in seen(one)
    gate.touch()
    whole.wait(work.PATIENCE_S)
    single.wait(work.PATIENCE_S)
    one.close()
    assert "closed" in seen(one)


def test_the_end(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    done = one.function(work.nothing)
    done.run()
    whole = one.compile([one.function(work.nothing)])
    one.terminate()
    assert "closed" in seen(one)
    assert "done" in seen(done)
    assert "not started" in seen(whole)


@pytest.mark.needs("background", "kills")
def test_tasks_of_a_terminated_batch(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    single = one.function(work.wait_for_file, str(tmp_path / "never"))
    single.start()
    whole = one.compile([one.function(work.wait_for_file, str(tmp_path / "never"))])
    whole.start()
    array = one.map(work.wait_for_file, [str(tmp_path / "never")])
    array.start()
    one.terminate()
    assert "will get no result" in seen(single)
    for task in (whole, array):
        assert "broken off, 1 waiting" in seen(task)


@pytest.mark.needs("kills")
def test_a_lost_worker(batch: Batch) -> None:
    task = batch.function(os._exit, 3)
    task.start()
    task.wait(work.PATIENCE_S)
    assert "failed, WorkerLost: " in seen(task)


@pytest.mark.needs("clients", "background")
def test_in_a_forked_child(make_batch: MakeBatch, tmp_path: Path) -> None:
    one = make_batch(num_workers=1)
    task = one.function(work.wait_for_file, str(tmp_path / "gate"))
    task.start()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, (seen(one) + seen(task)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert "not used here" in told
    assert "will get no result" in told
    (tmp_path / "gate").touch()
    task.wait(work.PATIENCE_S)


def test_a_result_is_not_unpickled(batch: Batch) -> None:
    task = batch.function(work.loads_only_there)
    task.start()
    task.wait()
    assert ": done" in seen(task)
    assert ": done" in seen(task.result)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("not me")

    __repr__ = __str__
    __format__ = __str__  # type: ignore[assignment]


def test_nothing_is_raised(batch: Batch) -> None:
    odd = batch.function(work.nothing, name=Unprintable())  # type: ignore[arg-type]
    assert seen(odd).startswith("<_Function at 0x")
    long = batch.function(work.nothing, name="x" * 100_000 + "\n<script>")
    assert len(seen(long)) < 300
    assert "<script>" in html_of(batch.function(work.nothing, name="<script>"))
    assert seen(Batch.__new__(Batch)).startswith("<Batch at 0x")
