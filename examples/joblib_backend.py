"""joblib, and whatever runs on it (scikit-learn), in the workers of a Batch.

    python examples/joblib_backend.py [calls]

`register()` makes the backend "alamo" known. `parallel_config(backend="alamo", batch=batch)` has
all Parallel calls inside it run in that Batch; without `batch` each makes one of its own.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any

from joblib import Parallel, delayed, parallel_config, register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from alamo import AlamoExecutor, Batch


class AlamoBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A backend of joblib over an AlamoExecutor."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, batch: Batch | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.batch = batch
        self.executor: AlamoExecutor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Calls that run at once; -1 for as many as this process has cores."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs < 0:
            return len(os.sched_getaffinity(0))
        return n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Called before the first call of a Parallel."""
        self.parallel = parallel
        jobs = self.effective_n_jobs(n_jobs)
        if self.batch is not None:
            self.executor = AlamoExecutor(batch=self.batch)
        else:
            self.executor = AlamoExecutor(max_workers=jobs)
        return jobs

    def submit(self, func: Callable[[], Any], callback: Callable[..., Any] | None = None) -> Any:
        """Have a group of calls made."""
        assert self.executor is not None
        future = self.executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Their results."""
        return out.result()

    def terminate(self) -> None:
        """The last call of a Parallel has ended."""
        if self.executor is not None:
            self.executor.shutdown(wait=self.batch is None)
            self.executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has failed: the others are not needed."""
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
            self.executor = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


def register() -> None:
    """Make the backend "alamo" known to joblib."""
    register_parallel_backend("alamo", AlamoBackend)


def main(calls: int) -> None:
    register()
    with Batch() as batch, parallel_config(backend="alamo", batch=batch):
        roots = Parallel()(delayed(math.sqrt)(i * i) for i in range(calls))
    assert roots == list(range(calls))
    print(f"{calls} calls of joblib in the workers of a Batch")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
