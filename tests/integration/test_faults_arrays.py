"""Kills while an array of many elements runs: each element runs at most once, and only those that
ran in a killed worker fail."""

from __future__ import annotations

import os
import random
import threading
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _faults as f
import pytest
from _victims import victim

import alamo
from alamo import Batch

N = 80_000

_files: dict[str, int] = {}


def noted(n: int, directory: str) -> int:
    """Leaves a note, in a file of the worker's own."""
    fd = _files.get(directory)
    if fd is None:
        path = os.path.join(directory, str(os.getpid()))
        fd = _files[directory] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, n.to_bytes(4, "little"))
    return n


def noted_or_held(n: int, directory: str) -> int:
    """The last ones do not end before they may: who is to be killed meanwhile is killed in time."""
    if n >= N - 1000:
        f.until(lambda: os.path.exists(f"{directory}.go"))
    return noted(n, directory)


def notes(directory: Path) -> Counter[int]:
    found: Counter[int] = Counter()
    for path in directory.iterdir():
        data = path.read_bytes()
        found.update(array("I", data[: len(data) // 4 * 4]))
    return found


def until_noted(directory: Path, count: int) -> None:
    f.until(
        lambda: sum(path.stat().st_size for path in directory.iterdir()) >= 4 * count,
        f"{count} elements",
    )


def where_noted(directory: Path) -> list[int]:
    """Workers that have noted something."""
    return [int(path.name) for path in directory.iterdir()]


def given(kind: str) -> Any:
    if kind == "range":
        return range(N)
    return list(range(N)) if kind == "list" else iter(range(N))


def feeders() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("alamo-feed", "alamo-pull"))]


def check(task: Any, directory: Path, kills: int) -> None:
    """Exactly once, but for those that were running when their worker was killed."""
    outcomes = task.result.get(timeout=60, partial=True)
    assert len(outcomes) == N
    failed = [i for i, outcome in enumerate(outcomes) if not outcome.ok]
    assert len(failed) <= kills
    for index in failed:
        assert isinstance(outcomes[index].error, alamo.WorkerLost)
        assert f"element {index} of" in str(outcomes[index].error)
    assert all(outcome.value == i for i, outcome in enumerate(outcomes) if outcome.ok)
    found = notes(directory)
    assert max(found.values()) == 1
    assert set(range(N)) - found.keys() <= set(failed)
    seen = Counter(index for index, _ in task.result.as_completed())
    assert len(seen) == N
    assert max(seen.values()) == 1


@pytest.mark.parametrize(("kind", "seed"), [("range", 1), ("iterator", 2)])
def test_kills_of_workers(tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    with f.ended(Batch(num_workers=3, log_level="CRITICAL")) as batch:
        task = batch.map(noted, given(kind), [str(tmp_path)] * N)
        task.start()
        times = sorted(rng.randrange(N) for _ in range(6))
        kills = 0
        for count in times:
            until_noted(tmp_path, count)
            kills += f.kill(*victim(batch, task, lambda: where_noted(tmp_path), rng))
        check(task, tmp_path, kills)
        assert not feeders()


def test_kills_of_workers_under_elements_ordered_one_by_one(tmp_path: Path) -> None:
    """Of two arrays over the same keys: who comes behind a lost element is skipped, alone."""
    n = 4000
    first_notes, second_notes = tmp_path / "first", tmp_path / "second"
    first_notes.mkdir()
    second_notes.mkdir()
    with f.ended(Batch(num_workers=3, log_level="CRITICAL")) as batch:
        first, second = (
            batch.map(noted, range(n), [str(place)] * n, **accesses)
            for place, accesses in (
                (first_notes, {"writes": lambda k, _: batch.write(noted, k)}),
                (second_notes, {"reads": lambda k, _: batch.read(noted, k)}),
            )
        )
        batch.compile([first, second]).start()
        for count in (50, 1000, 2500):
            until_noted(first_notes, count)
            f.kill(*victim(batch, first, lambda: where_noted(first_notes), random.Random(count)))
        ahead = first.result.get(timeout=60, partial=True)
        behind = second.result.get(timeout=60, partial=True)
    for k in range(n):
        assert ahead[k].ok or isinstance(ahead[k].error, alamo.WorkerLost)
        if not ahead[k].ok:
            assert isinstance(behind[k].error, alamo.UpstreamFailed)
        else:
            assert behind[k].ok or isinstance(behind[k].error, alamo.WorkerLost)
    assert sum(not outcome.ok for outcome in ahead) <= 3
    for place in (first_notes, second_notes):
        assert max(notes(place).values()) == 1


@pytest.mark.parametrize("kind", ["range", "iterator"])
def test_the_manager_is_killed(tmp_path: Path, kind: str) -> None:
    batch = Batch(num_workers=2, log_level="CRITICAL")
    pids = [f.manager_of(batch), *f.descendants(f.manager_of(batch))]
    task = batch.map(noted_or_held, given(kind), [str(tmp_path)] * N)
    compiled = batch.compile([task])
    compiled.start()
    until_noted(tmp_path, 30_000)
    f.kill(f.manager_of(batch))
    for wait in (compiled.wait, task.result.get, lambda: list(task.result.as_completed())):
        with pytest.raises(alamo.BatchBroken):
            wait()
    f.wait_gone(pids)
    f.until(lambda: not feeders(), "the end of the feeders")
    with pytest.raises(alamo.BatchBroken):
        batch.map(abs, [1]).start()
    batch.terminate()
    assert max(notes(tmp_path).values()) == 1


CLIENT = """
    import sys
    import _faults as f
    from test_faults_arrays import N, given, noted
    from alamo import Batch

    batch = Batch(num_workers=2, log_level="CRITICAL")
    task = batch.map(noted, given(sys.argv[2]), [sys.argv[1]] * N)
    task.start()
    print(f.manager_of(batch))
    task.wait()
"""


@pytest.mark.parametrize("kind", ["list", "iterator"])
def test_the_client_is_killed(tmp_path: Path, kind: str) -> None:
    with f.Script(CLIENT, tmp_path, kind) as client:
        manager = int(client.line())
        until_noted(tmp_path, 20_000)
        pids = [manager, *f.descendants(manager)]
        f.kill(client.pid)
        f.wait_gone([client.pid, *pids])
    assert max(notes(tmp_path).values()) == 1


def map_and_wait(batch: Any, directory: str, path: str) -> None:
    f.note(path, os.getpid())
    batch.map(noted_or_held, iter(range(N)), [directory] * N).run()


def test_a_task_is_killed_that_maps(tmp_path: Path) -> None:
    """What it has not made never will be; what it has made runs, and the others are not held up."""
    directory, path = tmp_path / "notes", tmp_path / "pid"
    directory.mkdir()
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        task = batch.function(map_and_wait, batch, str(directory), str(path))
        task.start()
        until_noted(directory, 10_000)
        f.kill(int(f.wait_note(path)))
        Path(f"{directory}.go").touch()
        with pytest.raises(alamo.WorkerLost):
            task.result.get(timeout=60)
        assert batch.map(abs, range(1000)).run(timeout=60) == list(range(1000))
    assert max(notes(directory).values()) == 1


def test_kills_while_an_iterable_gives_now_and_then(tmp_path: Path) -> None:
    """A worker that dies between two items, or under one, holds nothing up."""
    n = 60

    def items() -> Iterator[int]:
        for k in range(n):
            yield k
            if k % 20 == 10:
                until_noted(tmp_path, k)
                f.kill(*victim(batch, task, lambda: where_noted(tmp_path), random.Random(k)))

    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        task = batch.map(noted, items(), [str(tmp_path)] * n)
        task.start()
        outcomes = task.result.get(timeout=60, partial=True)
    assert len(outcomes) == n
    assert sum(not outcome.ok for outcome in outcomes) <= 3
    assert max(notes(tmp_path).values()) == 1
