"""Generate the powers of a matrix and write them to disk: the example of the documents.

Each of 1000 tasks reads file_i, multiplies what is in it with the matrix and writes file_i+1.
Their dependencies force them to run one after the other; it shows the basics of the API. It
runs twice, as the API reference writes it down and as the readme does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alamo import Batch

#: What each multiplication adds to the trace in the long run: all powers differ, none overflows.
GROWTH = 1.001


def gpu_matmul_func(original_matrix: np.ndarray, base_dir: Path, i: int) -> float:
    # read the current matrix, stored in file_i
    with open(base_dir / f"file_{i}", "rb") as file:
        current_matrix = np.load(file)

    # actual matrix multiplication happens here
    next_matrix = original_matrix @ current_matrix

    # write the next power of the matrix to file_i+1
    with open(base_dir / f"file_{i + 1}", "wb") as file:
        np.save(file, next_matrix)
    return float(next_matrix.trace())


def make_matrix(size: int = 100) -> np.ndarray:
    """The matrix of the documents as floats, scaled so that its largest eigenvalue is GROWTH."""
    a = np.array([float(j) for j in range(size)])
    m = np.vander(a / a.max())
    return m * (GROWTH / np.abs(np.linalg.eigvals(m)).max())


def as_in_the_reference(m: np.ndarray, base_dir: Path, count: int) -> list[float]:
    """Handles of the tasks, and accesses given by name in lists."""
    batch = Batch()

    # Knowledge of reads and writes to files is used by the Batch service to determine data
    # dependencies and how to parallelize tasks
    def get_task(i: int):
        return batch.function(
            gpu_matmul_func,
            *(m, base_dir, i),
            reads=[batch.read(base_dir, Path(f"file_{i}"))],
            writes=[batch.write(base_dir, Path(f"file_{i + 1}"))],
        )

    # Package up the list of tasks into a single compiled task and create the DAG, then submit
    # the compiled task to the Batch service
    serial_task_list = [get_task(i) for i in range(count)]
    matrix_powers_task = batch.compile(serial_task_list)
    matrix_powers_task.start()

    # Wait for the compiled task to complete
    matrix_powers_task.wait(timeout=30)

    # If there was an exception while running a task, get() raises it
    results = [task.result.get() for task in serial_task_list]

    batch.close()
    batch.join()
    return results


def as_in_the_readme(m: np.ndarray, base_dir: Path, count: int) -> list[float]:
    """Handles in a dictionary by uid, and accesses behind the tuple of arguments."""
    batch = Batch()
    reads = lambda i: batch.read(base_dir, Path(f"file_{i}"))  # noqa: E731
    writes = lambda i: batch.write(base_dir, Path(f"file_{i + 1}"))  # noqa: E731
    get_task = lambda i: batch.function(  # noqa: E731
        gpu_matmul_func, (m, base_dir, i), reads(i), writes(i)
    )

    matrix_powers_task = batch.compile([get_task(i) for i in range(count)])
    results_dict = matrix_powers_task.start()
    matrix_powers_task.wait(timeout=30)
    results = [result.get() for result, _stdout, _stderr in results_dict.values()]

    batch.close()
    batch.join()
    return results


def in_a_loop(m: np.ndarray, base_dir: Path, count: int) -> list[float]:
    """The same without alamo."""
    return [gpu_matmul_func(m, base_dir, i) for i in range(count)]


def run(form: Callable[[np.ndarray, Path, int], list[float]], count: int) -> np.ndarray:
    """Run one form in a directory of its own; returns all traces and the last power in one row."""
    m = make_matrix()
    with tempfile.TemporaryDirectory(prefix="powers-") as name:
        base_dir = Path(name)
        with open(base_dir / "file_0", "wb") as file:
            np.save(file, np.identity(len(m)))
        begin_s = time.monotonic()
        traces = form(m, base_dir, count)
        took_s = time.monotonic() - begin_s
        with open(base_dir / f"file_{count}", "rb") as file:
            last = np.load(file)
    print(f"{form.__name__}: {count} powers in {took_s:.2f} s, trace of the last {traces[-1]:.6f}")
    return np.concatenate([traces, last.ravel()])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Powers of a matrix, in files.")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="how many powers")
    count = parser.parse_args(arguments).count
    expected = run(in_a_loop, count)
    forms = (as_in_the_reference, as_in_the_readme)
    wrong = [form.__name__ for form in forms if not np.allclose(run(form, count), expected)]
    print(f"WRONG: {', '.join(wrong)}" if wrong else "all powers are those of a serial loop")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
