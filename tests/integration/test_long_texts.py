"""Long strings among the arguments: shipped once when they recur, and never many in one message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import _work as work
from alamo import Batch
from alamo.batch import outlet

KIB = 1 << 10


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as one:
        yield one


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of messages to the manager, several in one piece taken as one."""
    sizes: list[int] = []
    original = outlet.send_all

    def noting(sock: Any, data: bytes, fds: Any = ()) -> None:
        sizes.append(len(data))
        original(sock, data, fds)

    monkeypatch.setattr(outlet, "send_all", noting)
    return sizes


def run(batch: Batch, tasks: list[Any]) -> list[Any]:
    batch.compile(tasks).run()
    return [task.get() for task in tasks]


def test_a_string_that_recurs_is_sent_once(batch: Batch, sent: list[int]) -> None:
    text = "x" * 10_000
    for others in ((), ([1, 2],)):
        sent.clear()
        tasks = [batch.function(work.everything, i, text, "short", *others) for i in range(3000)]
        assert run(batch, tasks) == [(i, text, "short", *others) for i in range(3000)]
        assert sum(sent) < 400 * KIB


def test_very_long_strings_do_not_share_a_message(batch: Batch, sent: list[int]) -> None:
    texts = [chr(97 + i % 26) * 1000 * KIB for i in range(100)]
    tasks = [batch.function(len, text) for text in texts]
    assert run(batch, tasks) == [1000 * KIB] * 100
    assert sum(sent) >= 100 * 1000 * KIB
    assert max(sent) < 2000 * KIB


def test_others_stay_inside(batch: Batch, sent: list[int]) -> None:
    texts = [f"{i}" + "x" * 5000 for i in range(500)]
    assert run(batch, [batch.function(work.same, t) for t in texts]) == texts
    assert len(sent) < 10
    same = "y" * 500
    assert run(batch, [batch.function(work.same, same) for _ in range(500)]) == [same] * 500


def test_identity_and_single_tasks(batch: Batch) -> None:
    text = "z" * 100_000
    tasks = [batch.function(work.everything, text, [text]) for _ in range(4)]
    assert run(batch, tasks) == [(text, [text])] * 4
    assert batch.function(work.same, text).run() == text
