"""The example of a DDict in the API reference, as it stands there, and what it does not show."""

from __future__ import annotations

DOCUMENT = "001-batch-api-reference.md"
COUNT = 200

TASKS = """\
# Generate the powers of a matrix and write them to a distributed dictionary
from alamo import Batch, DDict
import numpy as np

# The Distributed Dictionary service will be used for communication of results
batch = Batch()
ddict = DDict()

# Knowledge of reads and writes to the Distributed Dictionary will also be used by
# the Batch service to determine data dependencies and how to parallelize tasks
reads = lambda i: batch.read(ddict, i)
writes = lambda i: batch.write(ddict, i + 1)

a = np.array([i for i in range(100)])
m = np.vander(a)

# batch.function will create a task with specified arguments and reads/writes to the
# distributed dictionary
get_task = lambda i: batch.function(gpu_matmul_func, (m, ddict, i), reads(i), writes(i))
"""

FUNCTION = """\
def gpu_matmul_func(original_matrix: np.ndarray, ddict: DDict, i: int):
    # read the current matrix stored in the Distributed Dictionary at key=i
    current_matrix = ddict[i]

    # actual matrix multiplication happens here
    next_matrix = do_dgemm(original_matrix, current_matrix)

    # write the next power of the matrix to the Distributed Dictionary at key=i+1
    ddict[i + 1] = new_matrix
"""

#: What the function calls and the document does not show, and the power that it begins with.
HELPERS = """\
def do_dgemm(a, b):
    return a @ b

ddict[0] = m
"""

CHECK = f"""\
power = m  # of integers modulo 2**64, so all of them are exact
for i in range({COUNT}):
    power = m @ power
assert len(ddict) == {COUNT + 1}
assert np.array_equal(ddict[{COUNT}], power)
"""


def code(rest: str) -> str:
    """The example as a script.

    Args:
        rest: what the document says is the same as with files, from the compile call down.
    """
    function = FUNCTION.replace("= new_matrix", "= next_matrix")  # the name that it has above
    fewer = rest.replace("range(1000)", f"range({COUNT})")
    return "\n".join([TASKS, function, HELPERS, fewer, CHECK])
