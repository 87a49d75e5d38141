"""Peak memory, as code in a worker notes it for ``task.stats``."""

from __future__ import annotations

from typing import Any

from alamo import Batch
from alamo.worker.stats import note_peak


def peaks(size_bytes: int) -> None:
    note_peak(size_bytes // 2)
    note_peak(size_bytes)
    note_peak(1)


def test_a_peak_that_worker_code_noted() -> None:
    with Batch(num_workers=2) as batch:
        tasks: list[Any] = [
            batch.function(abs, 1),
            batch.function(peaks, 5 << 20),
            batch.function(int),
        ]
        batch.compile(tasks).run()
        assert [task.stats.peak_bytes for task in tasks] == [None, 5 << 20, None]
        array = batch.map(peaks, range(100, 5000))
        array.run()
        assert [s.peak_bytes for s in array.stats if s] == list(range(100, 5000))


def test_executables_and_jobs_have_one() -> None:
    """What their worker has had is not taken for theirs, though the system counts that in."""
    code = "x = b'x' * 60_000_000"
    with Batch(num_workers=1) as batch:
        large, small = batch.process(["python3", "-c", code]), batch.process(["sleep", "1"])
        batch.compile([large, small]).run()
        assert 60_000_000 < peak_of(large) < 200_000_000
        assert 0 < peak_of(small) < 30_000_000
        held = batch.function(bytes.count, b"x" * 100_000_000, b"y")
        late, short = batch.process(["sleep", "1"]), batch.process(["true"])
        batch.compile([held, late, short]).run()
        assert 0 < peak_of(late) < 30_000_000
        assert peak_of(short, 0) < 30_000_000


def peak_of(task: Any, default: int = -1) -> int:
    peak = task.stats.peak_bytes
    return default if peak is None else int(peak)
