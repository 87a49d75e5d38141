"""CPython's own tests of ``multiprocessing.Queue``, as far as they apply; imported from the
``test`` package.

What cannot apply is in ``NOT_OURS`` with the reason.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import unittest
from typing import Any
from unittest import mock

import pytest

from alamo import Queue

MODULE = "test._test_multiprocessing"
REASON = f"this Python ships no {MODULE}"

NOT_OURS = {
    "test_queue_feeder_donot_stop_onexc": "there is no feeder: put itself raises; test_queue.py",
    "test_queue_feeder_on_queue_feeder_error": "there is no feeder: put itself raises",
}


def find() -> Any:
    """The class of tests."""
    try:
        if importlib.util.find_spec(MODULE) is None:
            return None
    except ImportError:
        return None
    return importlib.import_module(MODULE)


module = find()


@unittest.skipUnless(module, REASON)
class TestQueue(module._TestQueue if module else object, unittest.TestCase):  # type: ignore[misc]
    """Queues between processes that were forked; timings are those of a busy machine."""

    TYPE = "processes"
    context = multiprocessing.get_context("fork")
    Process = context.Process
    Event = staticmethod(context.Event)

    def setUp(self) -> None:
        if self._testMethodName in NOT_OURS:
            self.skipTest(NOT_OURS[self._testMethodName])
        self.made: list[Queue[Any]] = []
        for patch in (
            # What they measure is how long a timeout takes, to a tenth of a second.
            mock.patch.object(module, "CHECK_TIMINGS", False),
            # Some take the queue from there.
            mock.patch.object(multiprocessing, "Queue", self.Queue),
            mock.patch.object(multiprocessing, "JoinableQueue", self.JoinableQueue),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def Queue(self, maxsize: int = 0) -> Queue[Any]:
        self.made.append(Queue(maxsize))
        return self.made[-1]

    def JoinableQueue(self, maxsize: int = 0) -> Queue[Any]:
        self.made.append(Queue(maxsize, joinable=True))
        return self.made[-1]

    def tearDown(self) -> None:
        for one in getattr(self, "made", ()):
            one.destroy()


def test_the_tests_were_found() -> None:
    if module is None:
        pytest.skip(REASON)
    names = {name for name in dir(module._TestQueue) if name.startswith("test_")}
    assert len(names - NOT_OURS.keys()) >= 8
