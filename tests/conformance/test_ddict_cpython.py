"""CPython's own tests of mappings, as far as they apply; imported from the ``test`` package.

What cannot apply is in ``NOT_OURS`` with the reason.
"""

from __future__ import annotations

import importlib.util
import unittest
from typing import Any

from _stores import InMemory

from alamo import DDict

REASON = "this Python ships no test.mapping_tests"

ENCODED = (
    "its keys are of a class of its own without an encoding, which are refused; what is compared "
    "between processes cannot call a class's __eq__ and __hash__. Ours: test_ddict_mapping.py"
)
NOT_OURS = {
    "test_constructor": "keyword arguments of a DDict are its options, not keys",
    "test_setdefault": "changes what setdefault returned: values are copies",
    "test_getitem": ENCODED,
    "test_pop": ENCODED,
    "test_eq": ENCODED,
    "test_mutatingiteration": "changes during an iteration are no error, and defined",
    "test_repr": "shows what a DDict is, and not all that others may put into it",
    "test_repr_deep": "makes a thousand dictionaries to be shown whole, which they are not",
}

#: Of a test that cannot apply as a whole, the one of its base class, which leaves those parts out.
INSTEAD = {
    "test_setdefault": "BasicTestMappingProtocol",
    "test_getitem": "TestMappingProtocol",
    "test_pop": "TestMappingProtocol",
}


def has_tests() -> bool:
    try:
        return importlib.util.find_spec("test.mapping_tests") is not None
    except ImportError:
        return False


def find(name: str) -> Any:
    if not has_tests():
        return object
    return getattr(importlib.import_module("test.mapping_tests"), name)


@unittest.skipUnless(has_tests(), REASON)
class TestInMemory(find("TestHashMappingProtocol")):  # type: ignore[misc]
    type2test: type[DDict[Any, Any]] = InMemory

    def setUp(self) -> None:
        name = self._testMethodName
        if name not in NOT_OURS:
            return
        if name not in INSTEAD:
            self.skipTest(NOT_OURS[name])
        getattr(find(INSTEAD[name]), name)(self)
        self.skipTest(f"run but for the part that {NOT_OURS[name]}")


class TestEmbedded(TestInMemory):
    type2test = DDict
