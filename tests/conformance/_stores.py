"""The stores that the tests of DDict run over, and what each of them can do.

A store that joins gets an entry in ``STORES`` here and nothing anywhere else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from alamo import DDict
from alamo.testing import memory_ddict

MakeDDict = Callable[..., DDict[Any, Any]]

#: What a test may need beyond what every store does, and what it means when a store has it.
STORE_CAPABILITIES = {
    "handles": "a handle opens in other processes",
    "names": "a dictionary can be opened by its name",
    "one shard": "all keys are of one shard, so a transaction may name any of them",
}


@dataclass(frozen=True)
class Store:
    """Where a DDict may lie.

    Attributes:
        name: in the ids of the tests.
        make: makes a DDict there; takes the options of ``DDict``.
        capabilities: keys of ``STORE_CAPABILITIES``.
        around: entered before the first DDict and left after the last: the place for a server,
            or for ``pytest.importorskip``.
    """

    name: str
    make: MakeDDict
    capabilities: frozenset[str]
    around: Callable[[], AbstractContextManager[object]] = nullcontext


STORES = [Store("memory", memory_ddict, frozenset({"one shard"}))]
if importlib.util.find_spec("alamo.data.lmdb") is not None:
    STORES.append(Store("embedded", DDict, frozenset(STORE_CAPABILITIES)))
