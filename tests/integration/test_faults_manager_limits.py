"""The manager at a limit of its own: what does not fit ends with an error that says so."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable

import _faults as f
import msgspec
import pytest

from alamo import Batch, SerializationError, UpstreamFailed


def total(*parts: bytes) -> int:
    return sum(map(len, parts))


def made(size: int) -> bytes:
    time.sleep(0.002)
    return b"x" * size


def test_arguments_that_are_too_large_together_fail_that_task_alone() -> None:
    """Outputs of other tasks are gathered in the manager, where nobody has seen their sum."""
    code = "import alamo.protocol.framing as fr; fr.FRAME_MAX_BYTES = 2_000_000"
    with f.ended(f.changed_batch(code)) as batch:
        parts = [batch.function(made, 60_000) for _ in range(50)]
        tasks = [
            *parts,
            batch.function(total, *[p.result for p in parts]),
            batch.function(total, *[p.result for p in parts[:10]]),
        ]
        batch.compile(tasks).start()
        assert [len(p.result.get(timeout=60)) for p in parts] == [60_000] * 50
        with pytest.raises(SerializationError, match="could not be sent to a worker"):
            tasks[-2].result.get(timeout=60)
        assert tasks[-1].result.get(timeout=60) == 600_000
        assert batch.function(f.double, 4).run(timeout=60) == 8


def test_tasks_that_are_too_large_in_one_chunk_run_apart() -> None:
    code = "import alamo.protocol.framing as fr; fr.FRAME_MAX_BYTES = 100_000"
    with f.ended(f.changed_batch(code)) as batch:
        tasks = [batch.function(total, b"x" * 60_000 + bytes([i])) for i in range(8)]
        program = batch.compile(tasks)
        program.run(timeout=60)
        assert [t.result.get(timeout=60) for t in tasks] == [60_001] * 8


def nested(batch: Batch, depth: int) -> int:
    return 1 + batch.function(nested, batch, depth - 1).run() if depth else 0


@pytest.mark.parametrize("spare", [0, 2, 5, 9, 20])
def test_no_descriptors_for_a_worker_while_all_others_wait(spare: int) -> None:
    batch = Batch(num_workers=1, log_level="CRITICAL")
    try:
        assert batch.function(pow, 2, 3).run(timeout=60) == 8
        manager = f.manager_of(batch)
        files = len(os.listdir(f"/proc/{manager}/fd")) + spare
        resource.prlimit(manager, resource.RLIMIT_NOFILE, (files, files))
        task = batch.function(nested, batch, 30)
        task.start()
        with pytest.raises(Exception, match=r"[Tt]oo many open files") as info:
            task.result.get(timeout=60)
        assert not isinstance(info.value, TimeoutError)
    finally:
        batch.terminate()


def lower_limit(size: int) -> None:
    from alamo.worker import runner

    runner.OUTCOME_MAX_BYTES = size


def talking(size: int) -> str:
    print("some output")
    return "x" * size


def talking_and_raising(size: int) -> None:
    print("some output")
    raise ValueError("e" * size)


def unpackable() -> None:
    """As if the exception had 4 GiB."""
    from alamo.protocol import exceptions

    real = exceptions.dump_exception

    def dump(error: BaseException, host: str, pid: int) -> bytes:
        if isinstance(error, ValueError):
            raise msgspec.EncodeError("too large")
        return real(error, host, pid)

    exceptions.dump_exception = dump
    raise ValueError("x")


@pytest.mark.parametrize("task", [talking, talking_and_raising])
def test_a_result_over_the_limit_fails_its_task(task: Callable[[int], object]) -> None:
    """The limit is 4 GiB; here is a worker with a lower one."""
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        batch.function(lower_limit, 1_000_000).run(timeout=60)
        pid = batch.function(f.pid_of_worker).run(timeout=60)
        large = batch.function(task, 2_000_000)
        after = batch.function(len, large.result)
        program = batch.compile([large, after])
        program.start()
        with pytest.raises(SerializationError, match="over the limit of 1000000"):
            large.result.get(timeout=60)
        assert large.stdout.get() == "some output\n"
        with pytest.raises(UpstreamFailed):
            after.result.get(timeout=60)
        assert batch.function(talking, 900_000).run(timeout=60) == "x" * 900_000
        assert len(batch.function(bytes, 2_000_000).run(timeout=60)) == 2_000_000, "in a block"
        assert batch.function(f.pid_of_worker).run(timeout=60) == pid


def test_an_exception_that_has_no_encoding_fails_its_task() -> None:
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        with pytest.raises(SerializationError, match="raised ValueError, too large"):
            batch.function(unpackable).run(timeout=60)
        assert batch.function(f.double, 4).run(timeout=60) == 8
