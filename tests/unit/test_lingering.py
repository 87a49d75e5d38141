"""What a worker keeps open from task to task, and when it lets go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from alamo import lingering


class Handle:
    """Counts those that are open."""

    opened = 0

    def __init__(self) -> None:
        Handle.opened += 1

    def __del__(self) -> None:
        Handle.opened -= 1


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    yield
    lingering.drop()
    lingering.leave()
    assert Handle.opened == 0


def test_nothing_lingers_outside_of_workers() -> None:
    lingering.keep("a", Handle)
    assert Handle.opened == 0
    assert not lingering.has_some()
    lingering.tidy()
    lingering.drop()


def test_one_handle_is_kept_of_what_is_opened_often() -> None:
    lingering.begin()
    for _ in range(5):
        lingering.keep("a", Handle)
    lingering.keep("b", Handle)
    assert Handle.opened == 2
    lingering.drop()
    assert Handle.opened == 0
    assert not lingering.has_some()


def test_what_is_not_opened_any_more_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()
    clock: Any = lambda: now_s  # noqa: E731
    monkeypatch.setattr(time, "monotonic", clock)
    lingering.begin()
    lingering.keep("a", Handle)
    lingering.keep("b", Handle)
    now_s += 0.9 * lingering.LINGER_S
    lingering.keep("a", Handle)
    lingering.tidy()
    assert Handle.opened == 2
    now_s += 0.9 * lingering.LINGER_S
    lingering.tidy()
    assert Handle.opened == 1
    now_s += 2 * lingering.LINGER_S
    lingering.tidy()
    assert Handle.opened == 0


def test_no_more_than_some_stay() -> None:
    lingering.begin()
    for i in range(100):
        lingering.keep(i, Handle)
    assert Handle.opened < 20


def test_a_child_lets_go_of_nothing_and_keeps_nothing_new() -> None:
    lingering.begin()
    lingering.keep("a", Handle)
    lingering.leave()
    lingering.keep("b", Handle)
    assert Handle.opened == 1
    assert not lingering.has_some()
    lingering.leave()
