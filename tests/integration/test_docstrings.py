"""The examples in docstrings run and give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "alamo.batch.array_task",
    "alamo.batch.array_view",
    "alamo.batch.batch",
    "alamo.batch.many",
    "alamo.batch.results",
    "alamo.executor",
    "alamo.policy",
    "alamo.sizes",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
