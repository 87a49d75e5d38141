"""An embedded DDict that has no room left: by its limit, or as the file system is full."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _data_children as children
import numpy as np
import pytest

import _work as work
from alamo import DDict, DDictFullError, UsageError

MIB = 1 << 20
TINY = 4 * MIB


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory that is full soon."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TINY}", "tmpfs", str(directory)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system, and not in every container")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture(params=["limit", "file system"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], DDict[Any, Any]]]:
    made = []
    if request.param == "limit":
        options: dict[str, Any] = {"total_mem": TINY}
    else:
        options = {"directory": request.getfixturevalue("tiny")}

    def make() -> DDict[Any, Any]:
        made.append(DDict(**options))
        return made[-1]

    yield make
    for d in made:
        d.destroy()


def fill(d: DDict[Any, Any], value: Any, name: str = "filled") -> int:
    """Put until it is full; how many there was room for."""
    count = 0
    while True:
        try:
            d[name, count] = value
        except DDictFullError:
            return count
        count += 1


def test_what_is_told(make: Callable[[], DDict[Any, Any]]) -> None:
    d = make()
    with pytest.raises(DDictFullError, match=r"total_mem=.*directory= or ALAMO_DATA_DIR") as caught:
        d["much"] = bytes(TINY)
    assert isinstance(caught.value, MemoryError)
    assert d.stats()["place"] in str(caught.value)
    assert d == {}
    fill(d, b"x" * 1000)
    with pytest.raises(DDictFullError):
        d["one more"] = bytes(MIB)


@pytest.mark.parametrize("size", [300, 3000, 60_000, 200_000])
def test_what_is_deleted_makes_room(make: Callable[[], DDict[Any, Any]], size: int) -> None:
    d = make()
    first = fill(d, b"1" * size)
    assert first * size > TINY / 10
    assert dict(d) == {("filled", i): b"1" * size for i in range(first)}
    for key in list(d)[: first // 2]:
        del d[key]
    assert len(d) == first - first // 2
    d.clear()
    assert len(d) == 0
    assert fill(d, b"2" * size) > 0.8 * first
    d.clear()
    assert fill(d, b"3" * 300_000) >= 5  # of pages that lie side by side


def test_what_is_replaced_makes_room(make: Callable[[], DDict[Any, Any]]) -> None:
    d = make()
    count = fill(d, np.zeros(10_000))
    for key in list(d)[:3]:
        del d[key]
    for i in range(3 * count):
        d["filled", 3 + i % (count - 3)] = np.full(10_000, i)
    assert len(d) == count - 3


def churn(d: DDict[Any, Any], name: int, operations: int) -> None:
    """Change one's own keys at random and know what must be there."""
    draw = random.Random(name)
    there: dict[Any, Any] = {}
    for operation in range(operations):
        key = (name, draw.randrange(60))
        size = draw.choice([10, 1000, 5000, 20_000, 70_000, 300_000])
        value = bytes([draw.randrange(256)]) * size
        try:
            if draw.random() < 0.7:
                d[key] = value
                there[key] = value
            else:
                assert d.pop(key, None) == there.pop(key, None)
        except DDictFullError:
            pass
        if operation % 50 == 0:
            assert {key: d[key] for key in there} == there
    assert {key: value for key, value in d.items() if key[0] == name} == there
    for key in there:
        del d[key]


@pytest.mark.parametrize("operations", [400, pytest.param(20_000, marks=pytest.mark.soak)])
def test_several_processes_and_threads_of_forks(
    make: Callable[[], DDict[Any, Any]], operations: int
) -> None:
    """None dies of a page that there was no block for, and what each was told is true."""
    d = make()
    d["open", 0] = 0
    pids = [children.fork(churn, d, name, operations) for name in range(3)]
    churn(d, 3, operations)
    assert [children.end_of(pid) for pid in pids] == [0, 0, 0]
    assert d == {("open", 0): 0}


def test_a_transaction_that_finds_no_room_is_undone(make: Callable[[], DDict[Any, Any]]) -> None:
    d = make()
    d["there"] = 1

    def too_much() -> None:
        with d.transaction():
            d["there"] = 2
            for i in range(100):
                d[i] = np.zeros(40_000)

    for _ in range(3):
        with pytest.raises(DDictFullError):
            too_much()
        assert d == {"there": 1}
    with d.transaction():
        del d["there"]
        d["new"] = np.ones(10_000)
    assert list(d) == ["new"]


def test_an_update_that_finds_no_room_is_undone(make: Callable[[], DDict[Any, Any]]) -> None:
    d = make()
    d["there"] = 1
    with pytest.raises(DDictFullError):
        d.update({"there": 2} | {i: np.zeros(40_000) for i in range(100)})
    with pytest.raises(DDictFullError):
        d.update({"there": 2} | {i: bytes(1000) for i in range(10_000)})
    assert d == {"there": 1}
    assert fill(d, b"1" * 1000) > 1000


def test_a_value_on_loan_in_a_full_dictionary(make: Callable[[], DDict[Any, Any]]) -> None:
    d = make()
    d["lent"] = np.arange(10_000)
    with d.borrow("lent") as view:
        fill(d, b"1" * 20_000)
        assert (view == np.arange(10_000)).all()
        with pytest.raises(DDictFullError):
            d["one"] = bytes(MIB)
    d.clear()
    assert fill(d, b"1" * 20_000) > 50


def test_waiters_of_a_full_dictionary(make: Callable[[], DDict[Any, Any]]) -> None:
    d = make()
    fill(d, b"1" * 20_000)
    fill(d, b"1", "small")

    def answer() -> None:
        assert d.wait_for("question", timeout=work.PATIENCE_S) == 1
        del d["filled", 2]
        d["answer"] = 2

    with children.child(answer):
        del d["filled", 0], d["filled", 1]
        d["question"] = 1
        assert d.wait_for("answer", timeout=work.PATIENCE_S) == 2


def test_room_that_comes_back_is_used(tiny: Path) -> None:
    (tiny / "other").write_bytes(bytes(2 * MIB))
    with DDict(directory=tiny) as d:
        first = fill(d, b"1" * 10_000)
        (tiny / "other").unlink()
        second = fill(d, b"2" * 10_000)
        assert second > 1.5 * first
        assert d["filled", first] == b"2" * 10_000


def test_a_file_system_without_room_for_one_more(tiny: Path) -> None:
    with DDict(directory=tiny) as d:
        fill(d, b"1" * 10_000)
        with open(tiny / "rest", "wb", 0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        with pytest.raises((DDictFullError, RuntimeError), match=r"directory="):
            DDict(directory=tiny)
        assert d["filled", 0] == b"1" * 10_000
        d.clear()
        assert fill(d, b"1" * 10_000) > 100


def test_a_limit_that_is_too_small() -> None:
    with pytest.raises(UsageError, match="at least"):
        DDict(total_mem=1000)


def test_growth_takes_what_it_needs() -> None:
    """An empty dictionary is small, and one with a little in it not much larger."""
    with DDict() as d:
        assert d.stats()["bytes_allocated"] <= 2 * MIB
        for i in range(1000):
            d[i] = bytes(1000)
        assert d.stats()["bytes_allocated"] < 8 * MIB
        start_s = time.monotonic()
        d["large"] = bytes(20 * MIB)
        assert time.monotonic() - start_s < work.PATIENCE_S
        assert d.stats()["bytes_allocated"] < 40 * MIB
