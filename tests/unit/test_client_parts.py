"""Parts of the client that need no manager: deadlines, uids, arguments, the budget for results."""

from __future__ import annotations

import gc
import logging
import math
import os
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from alamo.batch import spill
from alamo.batch.arguments import as_accesses, check_callback, lift_accesses
from alamo.batch.launch import check_num_workers
from alamo.batch.logs import check_log_level
from alamo.batch.spill import ResultMemory, Spilled
from alamo.batch.uids import UidIndex
from alamo.batch.waiting import acquire_until, deadline_of, default_timeout, left_until
from alamo.core.access import READ, WRITE, make_access
from alamo.errors import UsageError
from alamo.manager.machine import granted_cores
from alamo.protocol.records import OK, Record

# -- deadlines -----------------------------------------------------------------------------------


def test_deadlines() -> None:
    assert deadline_of(None) is None
    now = time.monotonic()
    assert now + 4.9 < (deadline_of(5) or 0) < now + 6
    assert deadline_of(math.inf) == math.inf
    for good in (0, -1, 1e9, default_timeout, 1e300, np.float32(1), np.int64(1), 1 << 70):
        assert deadline_of(good) is not None
    for bad in ("1", b"1", True, math.nan, [1], object(), 10**400):
        with pytest.raises(UsageError, match="timeout"):
            deadline_of(bad)


def test_what_is_left_is_what_the_system_accepts() -> None:
    assert left_until(None) is None
    assert left_until(time.monotonic() - 5) == 0
    for far in (math.inf, 1e300, time.monotonic() + 1e12):
        left = left_until(far)
        assert left is not None
        assert threading.Event().wait(min(left, 0.0)) is False
        assert left <= threading.TIMEOUT_MAX
    lock = threading.Lock()
    assert acquire_until(lock, math.inf)
    assert not acquire_until(lock, time.monotonic() + 0.01)
    lock.release()
    assert acquire_until(lock, None)


# -- uids ----------------------------------------------------------------------------------------


def test_uids_out_of_sequence() -> None:
    uids = array("Q", [50, 0, 7, 8, 0, 3])
    index = UidIndex(uids)
    assert [index.find(u) for u in (50, 7, 8, 3)] == [0, 2, 3, 5]
    assert [index.find(u) for u in (0, -1, 1, 49, 51, 1 << 70)] == [-1] * 6
    assert len(index) == 6
    assert UidIndex(array("Q")).find(1) == -1


# -- arguments -----------------------------------------------------------------------------------


def access(name: str, mode: int = READ) -> Any:
    return make_access((name,), (), mode, os.getcwd)


def test_trailing_accesses_are_lifted() -> None:
    r, w = access("r"), access("w", WRITE)
    assert lift_accesses((1, r), None, None) == ((1,), (r,), ())
    assert lift_accesses(((1, 2), r, w), None, None) == ((1, 2), (r,), (w,))
    assert lift_accesses(((1, 2), [w, r], r), None, None) == ((1, 2), (r, r), (w,))
    assert lift_accesses((1, [r]), [r], w) == ((1,), (r, r), (w,))
    assert lift_accesses((1, []), None, None) == ((1, []), None, None)
    assert lift_accesses((1, [r, 5]), None, None) == ((1, [r, 5]), None, None)
    assert lift_accesses((r,), None, None) == ((), (r,), ())
    assert lift_accesses((r, 5, w), None, None) == ((r, 5), (), (w,))


def test_given_accesses_are_checked() -> None:
    r, w = access("r"), access("w", WRITE)
    assert as_accesses(r, READ) == as_accesses([r], READ) == as_accesses(iter([r]), READ) == (r,)
    assert as_accesses((), WRITE) == ()
    for bad in (w, [w], 5, "r", [r, "x"], None):
        with pytest.raises(TypeError, match="reads="):
            as_accesses(bad, READ)
    check_callback(print, (1,))
    check_callback(print, [])
    with pytest.raises(TypeError, match="callable"):
        check_callback(None, ())
    with pytest.raises(TypeError, match=r"\(value,\)"):
        check_callback(print, "text")


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_num_workers(np.int64(2)) == 2  # type: ignore[arg-type]
    assert check_num_workers(None) == granted_cores() <= len(os.sched_getaffinity(0))
    for bad in (0, -1, 1.0, "1", True, 1 << 40):
        with pytest.raises(UsageError, match="num_workers"):
            check_num_workers(bad)  # type: ignore[arg-type]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert granted_cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "100000")
    assert granted_cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "nonsense")
    assert granted_cores() >= 1


def test_log_levels() -> None:
    assert check_log_level("debug") == check_log_level(10) == logging.DEBUG
    for bad in ("loud", None, 1.5, []):
        with pytest.raises(UsageError, match="log_level"):
            check_log_level(bad)  # type: ignore[arg-type]


# -- the budget for results ------------------------------------------------------------------------


def frame(*pieces: bytes) -> tuple[memoryview, bytes]:
    ends, at = array("I"), 0
    for piece in pieces:
        at += len(piece)
        ends.append(at)
    return memoryview(ends), b"".join(pieces)


@pytest.fixture
def released() -> list[int]:
    return []


@pytest.fixture
def memory(released: list[int]) -> ResultMemory:
    return ResultMemory(100, released.extend)


def add_block(memory: ResultMemory, block: int, content: bytes) -> None:
    fd = os.memfd_create("test")
    os.write(fd, content)
    memory.add_block(block, len(content), fd)


def test_frames_within_the_budget_stay(memory: ResultMemory) -> None:
    kept = memory.keep(*frame(b"a" * 60, b"", b"b" * 30), ())
    assert not isinstance(kept, Spilled)
    assert [memory.read(kept, k) for k in range(3)] == [b"a" * 60, b"", b"b" * 30]
    assert memory.held_bytes == 90
    memory.dropped(kept)
    memory.keep(*frame(), ())
    assert memory.held_bytes == 0
    assert memory.spilled_bytes == 0


def test_frames_above_it_are_read_back(memory: ResultMemory) -> None:
    frames = [memory.keep(*frame(*(b"%d-%d" % (n, k) for k in range(20))), ()) for n in range(10)]
    assert sum(isinstance(f, Spilled) for f in frames) >= 8
    assert memory.held_bytes <= 100
    for n, kept in enumerate(frames):
        assert [memory.read(kept, k) for k in range(20)] == [b"%d-%d" % (n, k) for k in range(20)]
    for kept in frames:
        memory.dropped(kept)
    memory.keep(*frame(b"x"), ())
    assert memory.held_bytes == 1
    assert memory.spilled_bytes == 0


def test_blocks_are_lent_and_come_back(memory: ResultMemory, released: list[int]) -> None:
    memory = ResultMemory(1 << 20, released.extend)
    add_block(memory, 7, bytes(range(256)) * 256)
    memory.keep(*frame(b"r"), ((0, 7),))
    assert memory.held_bytes == 65537
    buffers, confirm = memory.open_block(Record(OK, b"", block=7, spans=(0, 4096, 8192, 4096)))
    confirm()
    assert bytes(buffers[0]) == bytes(range(256)) * 16
    buffers[0][0] = 99  # writable, and only here
    memory.keep(*frame(), ())
    assert released == []
    assert memory.held_bytes == 1
    buffers.clear()
    gc.collect()
    memory.release_returned()
    assert released == [7]
    again, _ = memory.open_block(Record(OK, b"", block=7, spans=(0, 16)))
    assert again[0][0] == 0


def test_a_loan_that_was_not_confirmed_is_no_return(
    memory: ResultMemory, released: list[int]
) -> None:
    add_block(memory, 7, bytes(65536))
    buffers, _ = memory.open_block(Record(OK, b"", block=7, spans=(0, 10)))
    del buffers
    gc.collect()
    memory.release_returned()
    assert released == []
    memory.give_up([7])
    memory.release_returned()
    assert released == [7]


def test_blocks_above_the_budget_are_copied_out(memory: ResultMemory, released: list[int]) -> None:
    content = os.urandom(65536)
    add_block(memory, 9, content)
    record = Record(OK, b"pickle", stdout=b"out", block=9, spans=(0, 100, 128, 1000))
    kept = memory.keep(*frame(b"first", msgspec.msgpack.encode(record), b"last"), ((1, 9),))
    assert isinstance(kept, Spilled)
    assert released == [9]
    assert memory.read(kept, 0) == b"first"
    assert memory.read(kept, 2) == b"last"
    back = msgspec.msgpack.decode(memory.read(kept, 1), type=Record)
    assert (back.block, back.value, back.stdout) == (spill.SPILLED, b"pickle", b"out")
    buffers, confirm = memory.open_block(back)
    confirm()
    assert [bytes(b) for b in buffers] == [content[:100], content[128:1128]]
    assert isinstance(buffers[0], bytearray)


def test_a_detached_memory_gives_nothing_back(memory: ResultMemory, released: list[int]) -> None:
    add_block(memory, 7, bytes(65536))
    memory.detach()
    memory.give_up([7])
    memory.release_returned()
    assert released == []


def test_budget_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(spill.VARIABLE, "12345")
    assert spill.default_budget_bytes() == 12345
    for bad in ("-1", "1e9", "1G", " "):
        monkeypatch.setenv(spill.VARIABLE, bad)
        with pytest.raises(UsageError, match=spill.VARIABLE):
            spill.default_budget_bytes()
    monkeypatch.delenv(spill.VARIABLE)
    assert spill.default_budget_bytes() > 1 << 28


def test_many_threads_drop_and_keep(memory: ResultMemory) -> None:
    """Counts must be right in the end; finalizers run in any thread."""

    def run(action: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=action)
        thread.start()
        return thread

    def work() -> None:
        for _ in range(300):
            memory.dropped(memory.keep(*frame(b"x" * 30), ()))
            memory.release_returned()

    for thread in [run(work) for _ in range(6)]:
        thread.join()
    memory.keep(*frame(), ())
    assert memory.held_bytes == 0
    assert memory.spilled_bytes == 0
