"""Random programs over real files: all ends as if the list had run in order."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import _work as work
from alamo import AsyncDict, Batch, CommunicationDomain, CommunicationObject, DataAccess, Task

NUM_WORKERS = 4


PROGRAMS = 60


TASKS = 45


DIRECTORIES = ("a", "a/sub", "b")


NAMES = ("x", "y", "z")


@dataclass
class Step:
    """One task: what it reads and writes (directories whole), and whose result it is given."""

    label: str
    reads: list[str]
    writes: list[str]
    source: int = -1
    nap_s: float = 0.0
    both: list[str] = field(default_factory=list)


def drawn_program(rng: random.Random) -> list[Step]:
    files = [f"{d}/{n}" for d in DIRECTORIES for n in NAMES]
    whole = rng.choice((0.0, 0.1, 0.3))
    size = rng.randint(5, TASKS)

    def some(most: int) -> list[str]:
        return [
            rng.choice(DIRECTORIES) if rng.random() < whole else rng.choice(files)
            for _ in range(rng.randint(0, most))
        ]

    return [
        Step(
            f"step {k}",
            some(3),
            some(2),
            rng.randrange(k) if k and rng.random() < 0.2 else -1,
            rng.choice((0, 0, 0, 0.001, 0.003)),
            some(1) if rng.random() < 0.3 else [],
        )
        for k in range(size)
    ]


def prepare(base: Path) -> Path:
    for name in DIRECTORIES:
        (base / name).mkdir(parents=True)
        (base / name / "x").write_text(f"first of {name}")
    return base


def step(label: str, nap_s: float, reads: list[str], writes: list[str]) -> str:

    time.sleep(nap_s)
    return work.stir(label, reads, writes)


def arguments(one: Step, base: Path, label: Any) -> tuple[Any, ...]:
    reads = [str(base / p) for p in one.reads + one.both]
    writes = [str(base / p) for p in one.writes + one.both]
    return label, one.nap_s, reads, writes


def run_serially(program: list[Step], base: Path) -> list[str]:
    results: list[str] = []
    for one in program:
        label = one.label if one.source < 0 else results[one.source]
        results.append(work.stir(label, *arguments(one, base, label)[2:]))
    return results


def declared(
    rng: random.Random, make: Callable[..., DataAccess], base: Path, path: str
) -> DataAccess:
    """The access in one of the many ways to write it."""
    full = base / path
    parts = Path(path).parts
    cut = rng.randrange(len(parts) + 1)
    head, tail = base.joinpath(*parts[:cut]), Path(*parts[cut:])
    forms: list[Callable[[], DataAccess]] = [
        lambda: make(full),
        lambda: make(str(full)),
        lambda: make(os.path.relpath(full)),
        lambda: make(f"{base}/./{path}/../{parts[-1]}"),
        lambda: make(str(head), str(tail)) if parts[cut:] else make(head),
        lambda: make(head, tail) if parts[cut:] else make(head),
        lambda: make(base, path, full),
    ]
    return rng.choice(forms)()


def run_in_batch(batch: Batch, program: list[Step], base: Path, rng: random.Random) -> list[str]:
    tasks: list[Task] = []
    for one in program:
        label: str | AsyncDict = one.label if one.source < 0 else tasks[one.source].result
        reads = [declared(rng, batch.read, base, p) for p in one.reads + one.both]
        writes = [declared(rng, batch.write, base, p) for p in one.writes + one.both]
        args = arguments(one, base, label)
        if rng.random() < 0.5:
            tasks.append(batch.function(step, *args, reads=reads, writes=writes))
        else:
            tasks.append(batch.function(step, args, reads or [batch.read(("none",))], *writes))
    batch.compile(tasks).run(timeout=60)
    return [t.result.get() for t in tasks]


def contents(base: Path) -> dict[str, str]:
    return {str(p.relative_to(base)): p.read_text() for p in sorted(base.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_files_and_results_end_as_in_order(batch: Batch, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    program = drawn_program(rng)
    serial, parallel = prepare(tmp_path / "serial"), prepare(tmp_path / "parallel")
    wanted = run_serially(program, serial)
    assert run_in_batch(batch, program, parallel, rng) == wanted, program
    assert contents(parallel) == contents(serial), program


def test_two_hazards_that_the_predecessor_missed(batch: Batch, tmp_path: Path) -> None:
    """A first read before a write (WAR), and a second read behind two writes."""
    for order in (["read", "write"], ["write", "write", "read", "read"], ["read", "read", "write"]):
        for turn in range(10):
            file = tmp_path / f"{len(order)}-{turn}"
            file.write_text("start")
            tasks, wanted, now = [], [], "start"
            for k, kind in enumerate(order):
                if kind == "read":
                    nap = batch.function(
                        work.read_text, file, reads=batch.read(tmp_path, file.name)
                    )
                    wanted.append(now)
                else:
                    now = f"written {k}"
                    nap = batch.function(work.write_text, file, now, writes=batch.write(file))
                    wanted.append("")
                tasks.append(nap)
            batch.compile(tasks).run()
            assert [t.result.get() or "" for t in tasks] == wanted
            assert file.read_text() == now


def test_a_counter_in_a_file(batch: Batch, tmp_path: Path) -> None:
    """200 tasks that read and write one file; and objects that say the same."""

    def count(path: str) -> int:
        number = int(Path(path).read_text()) + 1
        Path(path).write_text(str(number))
        return number

    domain = CommunicationDomain(rar=True)
    path = tmp_path / "counter"
    what: tuple[tuple[Any, ...], ...] = ((path,), (CommunicationObject(domain, path), 1), (dict,))
    for datum in what:
        path.write_text("0")
        tasks = [
            batch.function(count, str(path), reads=batch.read(*datum), writes=batch.write(*datum))
            for _ in range(200)
        ]
        batch.compile(tasks).run(timeout=60)
        assert [t.result.get() for t in tasks] == list(range(1, 201))


@pytest.mark.needs("parallel")
def test_readers_run_together(batch: Batch, tmp_path: Path) -> None:
    """Two readers of one file meet; so do writers of different files of one directory."""
    pairs: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"reads": batch.read(tmp_path, "f")}, {"reads": batch.read(tmp_path, "f")}),
        ({"writes": batch.write(tmp_path, "f")}, {"writes": batch.write(tmp_path, "g")}),
        ({"reads": batch.read(tmp_path)}, {"reads": batch.read(tmp_path / "sub")}),
    )
    for first, second in pairs:
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        pair = [
            batch.function(work.meet, str(directory), "1", "2", **first),
            batch.function(work.meet, str(directory), "2", "1", **second),
        ]
        batch.compile(pair).run(timeout=work.PATIENCE_S)
