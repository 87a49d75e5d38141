"""The examples in the documents that the API comes from, as they stand there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

COUNT = 200

# The function that they call and do not show for files, and file_0, which they forget.
PRELUDE = """\
import numpy as np

def gpu_matmul_func(original_matrix, base_dir, i):
    current_matrix = np.load(base_dir / f"file_{i}")
    next_matrix = original_matrix @ current_matrix
    with open(base_dir / f"file_{i+1}", "wb") as file:
        np.save(file, next_matrix)
    return i

"""

BEGIN = """\
# Generate the powers of a matrix and write them to disk
from alamo import Batch
from pathlib import Path
import numpy as np

# A base directory, and files in it, will be used for communication of results
batch = Batch()
base_dir = Path("/some/path/to/base_dir")

# Knowledge of reads and writes to files will also be used by the Batch service
# to determine data dependencies and how to parallelize tasks
reads = lambda i: batch.read(base_dir, Path(f"file_{i}"))
writes = lambda i: batch.write(base_dir, Path(f"file_{i+1}"))

a = np.array([j for j in range(100)])
m = np.vander(a)

# batch.function will create a task with specified arguments and reads/writes to the file system
get_task = lambda i: batch.function(gpu_matmul_func, (m, base_dir, i), reads(i), writes(i))

# Package up the list of tasks into a single compiled task and create the DAG (done by batch.compile),
# and then submit the compiled task to the Batch service (done by matrix_powers_task.start)
"""  # noqa: E501

README_000 = (
    BEGIN
    + """\
matrix_powers_task = batch.compile([get_task(i) for i in range(1000)])
results_dict = matrix_powers_task.start()

# Wait for the compiled task to complete
matrix_powers_task.wait(timeout=30)

# If there was an exception while running the task, it will be raised when get() is called
for result, stdout, stderr in results_dict.values():
    try:
        print(f"result={result.get()}")
        # print(f"stdout={stdout.get()}")
        # print(f"stderr={stderr.get()}")
    except Exception as e:
        print(f"gpu_matmul_func failed with the following exception: {e}")

batch.close()
batch.join()
"""
)

REFERENCE_001 = (
    BEGIN
    + """\
serial_task_list = [get_task(i) for i in range(1000)]
matrix_powers_task = batch.compile(serial_task_list)
matrix_powers_task.start()

# Wait for the compiled task to complete
matrix_powers_task.wait(timeout=30)

# If there was an exception while running the task, it will be raised when get() is called
for task in serial_task_list:
    try:
        print(f"result={task.result.get()}")
        # print(f"stdout={task.stdout.get()}")
        # print(f"stderr={task.stderr.get()}")
    except Exception as e:
        print(f"gpu_matmul_func failed with the following exception: {e}")

batch.close()
batch.join()
"""
)

DOCUMENTS = {
    "000-cloud-service-readme.md": README_000,
    "001-batch-api-reference.md": REFERENCE_001,
}


def code(name: str, base_dir: Path) -> str:
    """The example of a document, with what it does not show, on a directory of one's own.

    And with fewer powers: the documents' 1000 take seconds, of which they wait for 30.
    """
    text = DOCUMENTS[name].replace("range(1000)", f"range({COUNT})")
    return PRELUDE + text.replace("/some/path/to/base_dir", str(base_dir))


def prepare(base_dir: Path) -> Callable[[str], None]:
    """Make what the examples start from; the result checks what one printed and wrote."""
    base_dir.mkdir()
    m = np.vander(np.arange(100))
    with open(base_dir / "file_0", "wb") as file:
        np.save(file, m)

    def check(printed: str) -> None:
        assert printed == "".join(f"result={i}\n" for i in range(COUNT))
        power = m  # of integers modulo 2**64, so all of them are exact
        for _ in range(COUNT):
            power = m @ power
        assert np.array_equal(np.load(base_dir / f"file_{COUNT}"), power)

    return check
