"""Accesses: the forms they are given in, and that they order tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

import _work as work
import alamo
from alamo import Batch, Task


def test_accesses_of_every_form_order_tasks(batch: Batch, tmp_path: Path) -> None:
    """The writer is slow to come: a reader that did not wait would find nothing."""
    d = tmp_path
    forms: tuple[Callable[..., Task], ...] = (
        lambda f, *a: batch.function(f, *a[:-1], writes=a[-1]),
        lambda f, *a: batch.function(f, *a[:-1], writes=[a[-1]]),
        lambda f, *a: batch.function(f, a[:-1], a[-1]),
        lambda f, *a: batch.function(f, a[:-1], [a[-1]]),
    )
    for k, form in enumerate(forms):
        target = str(d / f"file{k}")
        writer = form(work.write_text, target, "written", batch.write(d, f"file{k}"))
        reader = batch.function(work.read_text, target, reads=batch.read(target))
        slow = batch.function(time.sleep, 0.01, writes=batch.write(d, f"file{k}"))
        batch.compile([slow, writer, reader]).run()
        assert reader.result.get() == "written"


def test_task_read_and_write(batch: Batch, tmp_path: Path) -> None:
    target = tmp_path / "data"
    slow, writer, reader = (
        batch.function(time.sleep, 0.02),
        batch.function(work.write_text, target, "by task"),
        batch.function(work.read_text, target),
    )
    slow.write(tmp_path, "data")
    assert writer.read(tmp_path, "data") is None  # type: ignore[func-returns-value]
    assert writer.write(tmp_path, PurePosixPath("data")) is None  # type: ignore[func-returns-value]
    reader.read(target)
    batch.compile([slow, writer, reader]).run()
    assert reader.result.get() == "by task"


def test_accesses_on_objects_of_any_kind(batch: Batch) -> None:
    """Hashable by equality, unhashable by identity, domains with hazards switched off."""
    unhashable = [1]
    loose = alamo.CommunicationObject(alamo.CommunicationDomain(raw=False), "10.0.0.1")
    tasks = [
        batch.function(
            time.sleep, 0.01, writes=[batch.write(("a", 1), 7), batch.write(unhashable)]
        ),
        batch.function(work.same, 1, reads=batch.read(("a", 1), 7)),
        batch.function(work.same, 2, reads=batch.read(unhashable, "any channel", 3)),
        batch.function(
            work.same, 3, reads=batch.read(loose, 80), writes=batch.write(loose, 80, 443)
        ),
    ]
    batch.compile(tasks).run()
    assert [t.result.get() for t in tasks] == [None, 1, 2, 3]


@pytest.mark.needs("parallel")
def test_domains_switch_hazards_off(batch: Batch, tmp_path: Path) -> None:
    """Without RAW a reader may meet its writer: both run at once."""
    loose = alamo.CommunicationObject(
        alamo.CommunicationDomain(raw=False, war=False, waw=False), "x"
    )
    pair = [
        batch.function(work.meet, str(tmp_path), "w", "r", writes=batch.write(loose)),
        batch.function(work.meet, str(tmp_path), "r", "w", reads=batch.read(loose)),
    ]
    batch.compile(pair).run(timeout=work.PATIENCE_S)
