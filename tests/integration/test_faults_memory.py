"""Tasks that write where the worker keeps outcomes for the manager."""

from __future__ import annotations

import gc
import operator
from typing import Any

import _faults as f
import pytest

from alamo import Batch, WorkerLost
from alamo.protocol.layout import BUFFER, ENDS_MAX, SharedMemory


def shared_memory() -> SharedMemory:
    return next(o for o in gc.get_objects() if isinstance(o, SharedMemory))


def spoil_ends(value: int) -> None:
    memory = shared_memory()
    for k in range(ENDS_MAX):
        memory.ends[memory.cells[BUFFER]][k] = value


def spoil_payload(byte: int) -> int:
    memory = shared_memory()
    payload = memory.payloads[memory.cells[BUFFER]]
    payload[:] = bytes([byte]) * len(payload)
    return 1


def error_of(task: Any) -> Exception | None:
    """How a task failed; it must have ended."""
    try:
        task.result.get(timeout=0)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("value", [0xFFFF_FFFF, 200_000, 1, 0])
@pytest.mark.parametrize("ahead", [1, 3, 40])
def test_ends_are_written_over(value: int, ahead: int) -> None:
    """The tasks whose outcomes it hit fail; all others run."""
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        warm = [batch.function(operator.add, i, i) for i in range(2000)]  # chunks are large now
        batch.compile(warm).run(timeout=60)
        tasks = [batch.function(operator.add, i, 1000) for i in range(ahead)]
        tasks.append(batch.function(spoil_ends, value))
        tasks += [batch.function(operator.add, i, 2000) for i in range(40)]
        program = batch.compile(tasks)
        program.start()
        program.wait(timeout=60)
        errors = [error for error in map(error_of, tasks) if error is not None]
        assert len(errors) < len(tasks)
        if value > 1:  # else they may have been cut elsewhere, which nobody but the reader notices
            assert all(isinstance(error, WorkerLost) for error in errors)
            assert all("memory that was not its own" in str(error) for error in errors)
        assert batch.function(f.double, 4).run(timeout=60) == 8


@pytest.mark.parametrize("byte", [0x90, 0xFF, 0x00])
def test_outcomes_that_others_need_are_written_over(byte: int) -> None:
    """Whatever the tasks get: they end, and the service goes on."""
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        warm = [batch.function(operator.add, i, i) for i in range(2000)]
        batch.compile(warm).run(timeout=60)
        first = [batch.function(operator.add, i, 1000) for i in range(5)]
        spoil = batch.function(spoil_payload, byte)
        last = [batch.function(operator.add, t.result, 1) for t in first]
        tasks = [*first, spoil, *last]
        program = batch.compile(tasks)
        program.start()
        program.wait(timeout=60)
        assert not any(isinstance(error_of(task), TimeoutError) for task in tasks)
        assert batch.function(f.double, 4).run(timeout=60) == 8
