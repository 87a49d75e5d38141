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
    code = "x = b'x' * 60_000_000"
    with Batch(num_workers=2) as batch:
        tasks: list[Any] = [batch.process(["python3", "-c", code]), batch.process(["true"])]
        batch.compile(tasks).run()
        large, small = (task.stats.peak_bytes for task in tasks)
        assert 60_000_000 < large < 200_000_000
        assert 0 < small < 30_000_000
