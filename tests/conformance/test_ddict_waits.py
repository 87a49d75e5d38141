"""Waiting for keys: who waits, who wakes them, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _stores import MakeDDict

import _work as work
from alamo import DDictTimeoutError, UsageError

SOON_S = 0.2


class Waiter:
    """Calls something in a thread, and gives what it gave."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(work.PATIENCE_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def test_a_key_is_waited_for(make_ddict: MakeDDict) -> None:
    d = make_ddict({"other": 1}, wait_for_keys=True)
    waiters = [Waiter(lambda: d["a"]), Waiter(lambda: d["a"]), Waiter(lambda: d[1.0])]
    d["b"] = 1
    d["other"] = 2
    time.sleep(SOON_S)
    assert all(waiter.is_waiting for waiter in waiters)
    d["a"] = None
    assert [waiter.result() for waiter in waiters[:2]] == [None, None]
    assert waiters[2].is_waiting
    d[True] = b"x" * 100_000
    assert waiters[2].result() == b"x" * 100_000
    assert d["a"] is None


WRITES: dict[str, Callable[[Any], Any]] = {
    "put": lambda d: d.put("{x}a", 1, ttl=100),
    "update": lambda d: d.update({"{x}b": 0, "{x}a": 1}),
    "setdefault": lambda d: d.setdefault("{x}a", 1),
    "compare_and_swap": lambda d: d.compare_and_swap("{x}a", d.ABSENT, 1),
    "or": lambda d: d.__ior__({"{x}a": 1}),
}


@pytest.mark.parametrize("how", WRITES)
def test_every_way_to_write_wakes(make_ddict: MakeDDict, how: str) -> None:
    d = make_ddict(wait_for_keys=True, timeout=work.PATIENCE_S)
    waiter = Waiter(lambda: d["{x}a"])
    time.sleep(0.01)
    WRITES[how](d)
    assert waiter.result() == 1


def test_a_transaction_wakes_when_it_is_done(make_ddict: MakeDDict) -> None:
    d = make_ddict(timeout=work.PATIENCE_S)
    waiter = Waiter(lambda: d.wait_for("a", 2))
    with d.transaction():
        d["a"] = 1
        d["a"] = 2
    assert waiter.result() == 2


def test_a_value_is_waited_for(make_ddict: MakeDDict) -> None:
    d = make_ddict({"n": 0})
    waiter = Waiter(lambda: d.wait_for("n", value=5))
    array = Waiter(lambda: d.wait_for("array", np.ones(3)))
    d["array"] = np.zeros(3)
    for _ in range(5):
        assert waiter.is_waiting
        d.fetch_add("n")
    d["array"] = np.ones(3)
    assert waiter.result() == 5
    assert array.result().tolist() == [1, 1, 1]
    assert d.wait_for("n") == 5
    assert d.wait_for("n", None, timeout=0) if d["n"] is None else True


@pytest.mark.parametrize("timeout", [0, -5, SOON_S])
def test_a_wait_is_over_in_time(make_ddict: MakeDDict, timeout: float) -> None:
    d = make_ddict({"a": 1}, wait_for_keys=True, timeout=timeout)
    began_s = time.monotonic()
    with pytest.raises(DDictTimeoutError, match="'no such'"):
        d["no such"]
    with pytest.raises(TimeoutError, match=f"{timeout} s"):
        d.wait_for("a", value=2)
    took_s = time.monotonic() - began_s
    assert 2 * max(timeout, 0) <= took_s < work.PATIENCE_S
    assert d["a"] == 1
    assert d.wait_for("a", timeout=timeout) == 1


def test_the_time_of_one_wait_goes_before_that_of_the_dictionary(make_ddict: MakeDDict) -> None:
    d = make_ddict(timeout=1e9)
    with pytest.raises(DDictTimeoutError):
        d.wait_for("a", timeout=0.01)
    short = make_ddict(timeout=0.01)
    waiter = Waiter(lambda: short.wait_for("a", timeout=None))
    time.sleep(SOON_S)
    assert waiter.is_waiting
    short["a"] = 1
    assert waiter.result() == 1


@pytest.mark.parametrize("timeout", [None, 1e9, float("inf"), 10**20])
def test_long_times(make_ddict: MakeDDict, timeout: float | None) -> None:
    d = make_ddict(wait_for_keys=True, timeout=timeout)
    waiter = Waiter(lambda: d["a"])
    time.sleep(0.01)
    d["a"] = 1
    assert waiter.result() == 1


@pytest.mark.parametrize("timeout", ["1", float("nan"), [], True])
def test_what_is_no_time_is_refused(make_ddict: MakeDDict, timeout: Any) -> None:
    with pytest.raises(UsageError, match="timeout"):
        make_ddict(timeout=timeout)
    d = make_ddict()
    with pytest.raises(UsageError, match="timeout"):
        d.wait_for("a", timeout=timeout)


def test_a_key_that_comes_and_goes_is_waited_for_again(make_ddict: MakeDDict) -> None:
    d = make_ddict(wait_for_keys=True, timeout=work.PATIENCE_S)
    got = Waiter(lambda: [d.wait_for(i, timeout=work.PATIENCE_S) for i in range(200)])
    for i in range(200):
        d[i] = i
        if i % 2:
            d.get(i)
    assert got.result() == list(range(200))


def test_hand_in_hand(make_ddict: MakeDDict) -> None:
    """Two threads wait for each other 300 times; no wake-up is lost."""
    d = make_ddict(wait_for_keys=True, timeout=work.PATIENCE_S)

    def play(own: str, other: str) -> int:
        for i in range(300):
            d[own, i] = i
            assert d[other, i] == i
        return 300

    players = [Waiter(lambda: play("a", "b")), Waiter(lambda: play("b", "a"))]
    assert [player.result() for player in players] == [300, 300]
