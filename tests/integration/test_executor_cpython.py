"""CPython's own tests of executors, as far as they apply; imported from the ``test`` package.

What cannot apply is in ``NOT_OURS`` with the reason.
"""

from __future__ import annotations

import importlib
import importlib.util
import unittest
from typing import Any

import pytest

from alamo import AlamoExecutor

REASON = "this Python ships no test.test_concurrent_futures"

SCRIPT = "its script takes the class from concurrent.futures; see test_executor_life.py"
NOT_OURS = {
    "test_interpreter_shutdown": SCRIPT,
    "test_submit_after_interpreter_shutdown": SCRIPT,
    "test_hang_gh83386": SCRIPT,
    # Modules, of which nothing is taken:
    "test_future": "tests Future itself, which needs no executor",
    "test_init": "tests initializers, which are refused",
    "test_deadlock": "breaks ProcessPoolExecutor from inside; ours: test_faults_*.py",
    "test_process_pool": "looks at the processes and queues of ProcessPoolExecutor",
    "test_thread_pool": "looks at the threads of ThreadPoolExecutor",
}


def has_tests() -> bool:
    try:
        return importlib.util.find_spec("test.test_concurrent_futures") is not None
    except ImportError:
        return False


def find(module: str, name: str) -> Any:
    """A class of tests: a package since 3.12, one module before."""
    if not has_tests():
        return object
    home = importlib.import_module("test.test_concurrent_futures")
    if hasattr(home, "__path__"):
        home = importlib.import_module(f"test.test_concurrent_futures.{module}")
    return getattr(home, name)


@unittest.skipUnless(has_tests(), REASON)
class OurTests(unittest.TestCase):
    """What ``ExecutorMixin`` does, with few workers, for the machine may be small."""

    executor_type = AlamoExecutor
    worker_count = 3

    def setUp(self) -> None:
        if self._testMethodName in NOT_OURS:
            self.skipTest(NOT_OURS[self._testMethodName])
        self.executor = self.executor_type(max_workers=self.worker_count)

    def tearDown(self) -> None:
        if hasattr(self, "executor"):
            self.executor.shutdown(wait=True)
            del self.executor


class TestExecutor(OurTests, find("executor", "ExecutorTest")):  # type: ignore[misc]
    pass


class TestWait(OurTests, find("test_wait", "WaitTests")):  # type: ignore[misc]
    pass


class TestAsCompleted(OurTests, find("test_as_completed", "AsCompletedTests")):  # type: ignore[misc]
    pass


class TestShutdown(OurTests, find("test_shutdown", "ExecutorShutdownTest")):  # type: ignore[misc]
    pass


def test_the_tests_were_found() -> None:
    if not has_tests():
        pytest.skip(REASON)
    names = [n for case in OurTests.__subclasses__() for n in dir(case) if n.startswith("test_")]
    assert len(names) > 25
