"""The examples in docstrings run and give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

import _servers

MODULES = [
    "alamo.batch.array_task",
    "alamo.batch.array_view",
    "alamo.batch.attempts",
    "alamo.batch.batch",
    "alamo.batch.controls",
    "alamo.batch.counts",
    "alamo.batch.explaining",
    "alamo.batch.many",
    "alamo.batch.outstanding",
    "alamo.batch.results",
    "alamo.batch.retry",
    "alamo.batch.task_stats",
    "alamo.data.atomic",
    "alamo.data.ddict",
    "alamo.data.queue",
    "alamo.executor",
    "alamo.policy",
    "alamo.sizes",
    "alamo.testing.inline",
    "alamo.testing.queue_stores",
    "alamo.testing.stores",
    "alamo.testing.valkey",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name == "alamo.testing.valkey":
        _servers.need_server()
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
