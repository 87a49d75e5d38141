"""The engines that the suite runs over, and what each of them can do.

An engine that joins gets an entry in ``ENGINES`` here and nothing anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pytest
from _stores import STORE_CAPABILITIES

from alamo import Batch
from alamo.testing import InlineBatch

MakeBatch = Callable[..., Batch]

#: What a test may need beyond what every engine does, and what it means when an engine has it.
CAPABILITIES = {
    "background": "tasks run while the client does other things",
    "parallel": "two tasks run at the same time",
    "processes": "tasks run in processes other than the client's",
    "kills": "a running task can be ended, and its worker may die",
    "descriptors": "output is caught from C code and child processes too",
    "clients": "a Batch can be pickled into other processes, and inherited by them",
    "nesting": "a task may submit to the Batch that runs it",
}


@dataclass(frozen=True)
class Engine:
    """A way to run a Batch.

    Attributes:
        name: in the ids of the tests.
        make: makes a Batch of this engine; takes the options that ``Batch`` takes.
        capabilities: keys of ``CAPABILITIES``.
        around: entered before the first Batch and left after the last: the place for a
            cluster, or for ``pytest.importorskip``.
    """

    name: str
    make: MakeBatch
    capabilities: frozenset[str]
    around: Callable[[], AbstractContextManager[object]] = nullcontext

    def __post_init__(self) -> None:
        check_capabilities(self.capabilities)


def check_capabilities(names: frozenset[str]) -> None:
    """Raise ``pytest.UsageError`` for a name that no engine and no store has."""
    if unknown := names - CAPABILITIES.keys() - STORE_CAPABILITIES.keys():
        raise pytest.UsageError(
            f"no capability of an engine or a store: {', '.join(sorted(unknown))}"
        )


ENGINES = (
    Engine("local", Batch, frozenset(CAPABILITIES)),
    Engine("inline", InlineBatch, frozenset({"nesting"})),
)
