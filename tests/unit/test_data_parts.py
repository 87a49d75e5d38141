"""Parts of DDicts: waiting, checkpoints, opening stores, the dictionary in memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alamo import blocking
from alamo.data import stores
from alamo.data.checkpoints import read_checkpoint, write_checkpoint
from alamo.data.store import Entry
from alamo.data.waiting import GRACE_S, deadline_of, wait_until
from alamo.errors import DataStoreError, DDictError, DDictFullError, UsageError
from alamo.testing import InlineBatch, memory_ddict

# -- waiting -----------------------------------------------------------------------------------


class Turns:
    """A watch that is woken a number of times, and a look that then gives something."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.waits: list[float | None] = []

    def wait(self, deadline_s: float | None) -> None:
        self.waits.append(deadline_s)
        self.turns -= 1

    def look(self) -> str | None:
        return "there" if self.turns <= 0 else None


class Told:
    """Notes who is told of waits."""

    def __init__(self) -> None:
        self.under_way = 0
        self.begun = 0

    def begin(self, timeout_s: float | None) -> int:
        self.under_way += 1
        self.begun += 1
        return 0

    def end(self, wait: int) -> None:
        self.under_way -= 1


@pytest.fixture
def told() -> Any:
    listener = Told()
    with blocking.listening_here(listener):
        yield listener
    assert listener.under_way == 0


def test_what_is_there_is_not_waited_for(told: Told) -> None:
    turns = Turns(0)
    assert wait_until(turns, turns.look, None) == "there"
    assert wait_until(turns, turns.look, deadline_of(-5)) == "there"
    assert not turns.waits


def test_short_waits_tell_nobody_and_long_ones_do(told: Told) -> None:
    short = Turns(1)
    assert wait_until(short, short.look, None) == "there"
    assert short.waits[0] is not None  # to be told of, if it lasts
    assert told.begun == 0

    class Long(Turns):
        def wait(self, deadline_s: float | None) -> None:
            super().wait(deadline_s)
            time.sleep(2 * GRACE_S)
            assert told.under_way == (len(self.waits) > 1)

    long = Long(4)
    assert wait_until(long, long.look, deadline_of(1e9)) == "there"
    assert told.begun == 1
    assert len(long.waits) == 4


def test_a_wait_is_over_at_its_deadline(told: Told) -> None:
    class Sleeps(Turns):
        def wait(self, deadline_s: float | None) -> None:
            assert deadline_s is not None
            time.sleep(max(0, deadline_s - time.monotonic()))

    turns = Sleeps(5)
    deadline_s = deadline_of(0.05)
    assert deadline_s is not None
    assert wait_until(turns, turns.look, deadline_s) is None
    assert time.monotonic() >= deadline_s
    assert wait_until(turns, turns.look, deadline_of(0)) is None
    assert told.begun == 1


def test_errors_end_a_wait(told: Told) -> None:
    class Interrupted(Turns):
        def wait(self, deadline_s: float | None) -> None:
            time.sleep(2 * GRACE_S)
            if told.under_way:
                raise KeyboardInterrupt

    turns = Interrupted(5)
    with pytest.raises(KeyboardInterrupt):
        wait_until(turns, turns.look, None)


def test_a_task_that_could_wait_for_ever_in_line_fails() -> None:
    d = memory_ddict(wait_for_keys=True)
    with InlineBatch() as batch:
        task = batch.function(d.__getitem__, "later")
        task.start()
        with pytest.raises(UsageError, match="wait"):
            task.result.get()


# -- checkpoints -------------------------------------------------------------------------------

ENTRIES = [
    Entry(b"a", b"", (b"\x00one", ())),
    Entry(b"b" * 1000, b"kept", (b"\x02", (b"x" * 70_000, bytearray(5), memoryview(b"")))),
]


def listed(path: Path) -> list[Any]:
    return [
        (e.key, e.kept, e.value[0], [*map(bytes, e.value[1])]) for e in read_checkpoint(str(path))
    ]


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "some checkpoint"
    assert write_checkpoint(str(path), ENTRIES) == 2
    assert listed(path) == [
        (b"a", b"", b"\x00one", []),
        (b"b" * 1000, b"kept", b"\x02", [b"x" * 70_000, bytes(5), b""]),
    ]
    assert write_checkpoint(str(path), []) == 0
    assert listed(path) == []


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_checkpoint(str(path), ENTRIES)
    whole = path.read_bytes()
    for size in (0, 10, 40, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DDictError, match=f"{path}"):
            listed(path)


def test_a_checkpoint_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_checkpoint(str(path), ENTRIES)

    def broken() -> Any:
        yield ENTRIES[0]
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_checkpoint(str(path), broken())
    assert len(listed(path)) == 2
    assert os.listdir(tmp_path) == ["checkpoint"]


# -- opening -----------------------------------------------------------------------------------


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "needs_redis.py").write_text("import redis\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(stores._DICT_STORES, "valkey", ("needs_redis", "Store"))
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"alamo\[valkey\]"):
        stores.make_dict_store(url="valkey://localhost")


def test_a_handle_of_an_unknown_kind() -> None:
    with pytest.raises(DataStoreError, match="same version"):
        stores.open_dict_store(("paper", 1))


# -- in memory ---------------------------------------------------------------------------------


def test_a_dictionary_in_memory_stays_in_its_process() -> None:
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(memory_ddict()),
        capture_output=True,
        check=False,
    )
    assert done.returncode
    assert b"in the process that made it" in done.stderr


def test_a_full_dictionary_in_memory_loses_nothing() -> None:
    d = memory_ddict({"a": b"x" * 500}, total_mem=1000)
    for put in (
        lambda: d.__setitem__("b", b"y" * 600),
        lambda: d.update(b=b"y" * 300, c=b"z" * 300),
        lambda: d.setdefault("b", b"y" * 600),
        lambda: d.__setitem__("a", b"y" * 1100),
    ):
        with pytest.raises(DDictFullError, match="total_mem"):
            put()
    assert d == {"a": b"x" * 500}
    del d["a"]
    d["b"] = b"y" * 600
    assert d == {"b": b"y" * 600}
    d.clear()
    assert d.stats()["bytes_used"] == 0
