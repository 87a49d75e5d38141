"""For tests of programs that use alamo: a Batch that runs everything in the calling thread, and a
DDict in the memory of the process (:func:`memory_ddict`).

from alamo.testing import InlineBatch

def test_my_program():
    with InlineBatch(failures={"download": OSError("no network")}) as batch:
        my_program(batch)
"""

from alamo.testing.builders import chain, fan, layers, stencil
from alamo.testing.inline import InlineBatch
from alamo.testing.queue_stores import memory_queue
from alamo.testing.stores import memory_ddict
from alamo.testing.valkey import valkey_cluster, valkey_server

__all__ = [
    "InlineBatch",
    "chain",
    "fan",
    "layers",
    "memory_ddict",
    "memory_queue",
    "stencil",
    "valkey_cluster",
    "valkey_server",
]
