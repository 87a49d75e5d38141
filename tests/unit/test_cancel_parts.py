"""What the client says of tasks that were stopped, and what it asks for when it cancels."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from alamo.batch import explaining, stops
from alamo.batch.cancelling import asked, checked
from alamo.batch.outcomes import Program
from alamo.errors import MemoryLimitExceeded, TaskCancelled, TaskStopped, TaskTimeout, UsageError
from alamo.protocol import messages as msg
from alamo.protocol.records import CANCELLED, MEMORY, RAISED, STOPPED, TIMEOUT, Record, StopInfo


def packed(kind: str, limit: float = 0.0, used: float = 0.0, reason: str = "") -> bytes:
    return msgspec.msgpack.encode(StopInfo(kind, "node1", 77, limit, used, reason))


@pytest.mark.parametrize(
    ("info", "kind", "text"),
    [
        (packed(TIMEOUT, 2.0, 2.1), TaskTimeout, "longer than its timeout of 2 s on node1, pid 77"),
        (packed(MEMORY, 1 << 30, 3 << 29), MemoryLimitExceeded, "limit of 1 GiB"),
        (packed(CANCELLED, reason="no use"), TaskCancelled, "on node1, pid 77: no use"),
        (packed("flooded", reason="rain"), TaskStopped, "was stopped on node1, pid 77: rain"),
    ],
)
def test_each_reason_has_its_error(info: bytes, kind: type[TaskStopped], text: str) -> None:
    error = stops.stopped("task 5 (x)", 5, info)
    assert type(error) is kind
    assert str(error).startswith("task 5 (x) ")
    assert text in str(error)
    assert error.uid == 5
    line = stops.line_of(info)
    assert line.startswith(kind.__name__)
    assert text in line


def test_memory_in_the_units_of_people() -> None:
    assert "took 1.5 GiB of memory" in str(stops.stopped("t", 1, packed(MEMORY, 1 << 30, 3 << 29)))


def test_outcomes_of_what_was_cancelled_are_told_apart() -> None:
    def outcome(status: int, value: bytes) -> bytes:
        return msgspec.msgpack.encode(Record(status, value))

    assert stops.cancel_reason(outcome(STOPPED, packed(CANCELLED, reason="so"))) == "so"
    assert stops.cancel_reason(outcome(STOPPED, packed(CANCELLED))) == ""
    assert stops.cancel_reason(outcome(STOPPED, packed(TIMEOUT, 1.0))) is None
    assert stops.cancel_reason(outcome(RAISED, b"...")) is None
    assert stops.cancel_reason(b"") is None


def test_one_message_a_reason() -> None:
    messages = asked(7, {1: "a", 2: "b", 5: "a"})
    assert messages == [
        msg.CancelAsked(7, array("I", [1, 5]).tobytes(), reason="a"),
        msg.CancelAsked(7, array("I", [2]).tobytes(), reason="b"),
    ]


def test_reasons() -> None:
    assert checked(None) == ""
    assert checked("why") == "why"
    with pytest.raises(UsageError, match="reason=3"):
        checked(3)


def a_program() -> Program:
    other = SimpleNamespace(title=lambda element: f"task {element} elsewhere")
    return cast(
        Program,
        SimpleNamespace(
            title=lambda element: f"task {element}",
            client=SimpleNamespace(_programs={4: other}),
            attempts={},
        ),
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"state": "waiting", "waits_for": (1,), "waits_for_count": 1},
            "waits for the end of task 1",
        ),
        (
            {"state": "waiting", "waits_for": tuple(range(9)), "waits_for_count": 12},
            "waits for the end of task 0, task 1, task 2, task 3, task 4 and 7 more",
        ),
        (
            {"state": "held", "lacks": (("cores", 4, 2),), "holders": ((4, 8), (-1, 0))},
            "is ready, and needs 4 cores where 2 are free; held by task 8 elsewhere and a task of "
            "another client",
        ),
        (
            {"state": "held", "lacks": (("GPUs", 500, 0), ("memory", 1 << 30, 0))},
            "is ready, and needs 0.5 GPUs where 0 are free and 1 GiB of memory where 0 B are free",
        ),
        (
            {"state": "held", "lacks": (("CPUs", 1, 0),)},
            "is ready, and needs 1 CPU where 0 are free",
        ),
        ({"state": "ready", "ahead": 3}, "is ready; 3 other ready tasks go first"),
        ({"state": "ready"}, "is ready, and next to run when a worker is free"),
        (
            {"state": "running", "host": "node1", "pid": 5, "attempt": 2},
            "runs on node1, in the worker with pid 5, in attempt 2",
        ),
        (
            {"state": "running", "host": "node1", "pid": 5, "awaits": ("tasks", "data")},
            "runs on node1, in the worker with pid 5, and waits for tasks that it submitted and "
            "shared data; others use its slot",
        ),
        (
            {"state": "backing off", "attempt": 2, "retry_in_s": 1.5},
            "failed in attempt 1 and is tried again in 1.5 s",
        ),
    ],
)
def test_what_an_element_does(fields: dict[str, Any], text: str) -> None:
    account = msg.Account(1, **fields)
    assert explaining._doing(a_program(), 3, account) == text
