"""Generate the powers of a matrix in a distributed dictionary: the example of the documents.

Each of 1000 tasks reads the matrix at key i, multiplies it with the original one and writes the
product at key i + 1.  Their dependencies, which the Batch infers from the keys, force them to run
one after the other; another process could use every power as soon as it is there.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from alamo import Batch, DDict

#: What each multiplication adds to the trace in the long run: all powers differ, none overflows.
GROWTH = 1.001


def gpu_matmul_func(original_matrix: np.ndarray, ddict: DDict, i: int) -> None:
    # read the current matrix stored in the Distributed Dictionary at key=i
    current_matrix = ddict[i]

    # actual matrix multiplication happens here
    next_matrix = original_matrix @ current_matrix

    # write the next power of the matrix to the Distributed Dictionary at key=i+1
    ddict[i + 1] = next_matrix


def make_matrix(size: int = 100) -> np.ndarray:
    """The matrix of the documents as floats, scaled so that its largest eigenvalue is GROWTH."""
    a = np.array([float(i) for i in range(size)])
    m = np.vander(a / a.max())
    return m * (GROWTH / np.abs(np.linalg.eigvals(m)).max())


def powers_in(ddict: DDict, m: np.ndarray, count: int) -> None:
    """Leave m to the power of k at key k, up to count."""
    batch = Batch()

    # Knowledge of reads and writes to the Distributed Dictionary will also be used by
    # the Batch service to determine data dependencies and how to parallelize tasks
    reads = lambda i: batch.read(ddict, i)  # noqa: E731
    writes = lambda i: batch.write(ddict, i + 1)  # noqa: E731

    # batch.function will create a task with specified arguments and reads/writes to the
    # distributed dictionary
    get_task = lambda i: batch.function(  # noqa: E731
        gpu_matmul_func, (m, ddict, i), reads(i), writes(i)
    )

    # the power that the first task begins with
    ddict[0] = np.identity(len(m))

    serial_task_list = [get_task(i) for i in range(count)]
    matrix_powers_task = batch.compile(serial_task_list)
    matrix_powers_task.start()
    matrix_powers_task.wait(timeout=30)

    # If there was an exception while running a task, get() raises it
    for task in serial_task_list:
        task.result.get()

    batch.close()
    batch.join()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Powers of a matrix, in a DDict.")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="how many powers")
    count = parser.parse_args(arguments).count
    m = make_matrix()
    with DDict() as ddict:
        begin_s = time.monotonic()
        powers_in(ddict, m, count)
        took_s = time.monotonic() - begin_s
        print(f"{count} powers in {took_s:.2f} s, trace of the last {ddict[count].trace():.6f}")
        print(ddict)
        power, wrong = np.identity(len(m)), 0
        for k in range(count + 1):
            with ddict.borrow(k) as stored:  # read in place, without a copy
                wrong += not np.allclose(stored, power)
            power = m @ power
    print(f"WRONG: {wrong}" if wrong else "all powers are those of a serial loop")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
