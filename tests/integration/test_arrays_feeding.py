"""How arrays are fed, as far as no user can see it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import _work as work
from alamo import Batch
from alamo.batch import feeding


class Counted:
    """An endless iterator that knows how far it was taken; ``stop`` ends it."""

    def __init__(self) -> None:
        self.taken = 0
        self.stop = threading.Event()

    def __iter__(self) -> Iterator[int]:
        while not self.stop.is_set():
            self.taken += 1
            yield self.taken - 1


def wait_from_100(n: int, path: str) -> int:
    if n >= 100:
        work.wait_for_file(path)
    return n


def test_no_more_is_taken_than_may_be_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "WINDOW", 2000)
    monkeypatch.setattr(feeding, "BATCH", 500)
    gate = str(tmp_path / "gate")
    endless = Counted()
    with Batch(num_workers=2) as batch:
        result, *_ = batch.map(wait_from_100, endless, itertools.repeat(gate)).start()
        assert result[99] == 99
        work.wait_until(lambda: endless.taken > 2000)
        threading.Event().wait(0.1)  # it would go on meanwhile
        assert endless.taken < 100 + 2000 + 2 * 500 + 10
        Path(gate).touch()
        assert result[10_000] == 10_000
        endless.stop.set()


def test_arrays_that_are_never_started_are_forgotten() -> None:
    with Batch(num_workers=2) as batch:
        compiled = batch.compile([batch.map(abs, range(10)), batch.map(abs, Counted())])
        del compiled
        assert batch.map(abs, range(3)).run() == [0, 1, 2]
        assert not batch._client._programs


def say_last(batch: Batch, path: str) -> None:
    """Leaves the Batch while results are on their way to it."""
    feeding.WINDOW = 50
    batch.map(work.append_line, [path] * 300, [str(n) for n in range(300)]).start()


def test_what_a_client_said_last_is_heard(tmp_path: Path) -> None:
    """Also when it takes nothing any more, as the manager sees at the next result for it."""
    for k in range(6):
        path = tmp_path / str(k)
        with Batch(num_workers=2) as batch:
            batch.function(say_last, batch, str(path)).run(timeout=work.PATIENCE_S)
        assert sorted(map(int, path.read_text().split())) == list(range(300))
