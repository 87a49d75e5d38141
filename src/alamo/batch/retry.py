"""When a task that failed is run again."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn, SupportsFloat, SupportsIndex

from alamo.errors import UsageError
from alamo.protocol.exceptions import name_of

__all__ = ["RETRIES_MAX", "Retry"]

#: What is above means without end, and would not travel.
RETRIES_MAX = 1 << 31
_SECONDS_MAX = 1e9
_LOST = "worker lost"

Reason = type[BaseException] | int | str


@dataclass(frozen=True)
class Retry:
    """When a task that failed is run again: of every kind of task, given as ``retries=``.

    Each attempt is a run from the start; what a failed one has written stays, so only a task that
    may run twice should be retried.  An attempt that is lost because its worker was taken away on
    purpose (scaled down, recalled) is repeated and does not count.  What is cancelled is not
    retried.

    Args:
        times: how often it may run again: at most ``times`` + 1 attempts.
        backoff_s: seconds between the first failure and the second attempt.
        factor: each further pause is so many times as long.
        jitter: up to this share of a pause is added or taken off, so that tasks that failed
            together do not come back together: 0 to 1.
        on: failures after which it is run again: exception classes (subclasses count), exit codes
            of executables, and ``"worker lost"`` for a worker that died; one or several.  Without
            any: every failure.  ``alamo.TaskTimeout`` and ``alamo.MemoryLimitExceeded`` are such
            classes.

    Raises:
        UsageError: a value is none that it could be.

    Example:
        >>> from alamo import Retry
        >>> Retry(3, backoff_s=0.5, on=(OSError, 75, "worker lost")).pauses_s()
        [0.5, 1.0, 2.0]
    """

    times: int
    backoff_s: float = 0.0
    factor: float = 2.0
    jitter: float = 0.0
    on: Reason | Iterable[Reason] = ()

    def __post_init__(self) -> None:
        times = _whole(self.times)
        if times is None or not 0 <= times < RETRIES_MAX:
            _refuse("times", self.times, "it is a whole number from 0 on")
        backoff_s = _number("backoff_s", self.backoff_s)
        factor = _number("factor", self.factor)
        jitter = _number("jitter", self.jitter)
        if factor < 1:
            _refuse("factor", self.factor, "it is a number from 1 on: pauses do not get shorter")
        if jitter > 1:
            _refuse("jitter", self.jitter, "it is a share of the pause, from 0 to 1")
        normal = {"times": times, "backoff_s": backoff_s, "factor": factor, "jitter": jitter}
        for name, value in {**normal, "on": _reasons(self.on)}.items():
            object.__setattr__(self, name, value)

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the classes in ``on``."""
        return tuple([name_of(one) for one in self._on if isinstance(one, type)])

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Exit codes in ``on``."""
        return tuple([one for one in self._on if isinstance(one, int)])

    @property
    def lost(self) -> bool:
        """Whether ``on`` has dead workers."""
        return _LOST in self._on

    @property
    def _on(self) -> tuple[Reason, ...]:
        assert isinstance(self.on, tuple)  # see __post_init__
        return self.on

    def pauses_s(self) -> list[float]:
        """The pauses before the second, third, ... attempt, jitter aside; the first 100 of them."""
        pauses = []
        pause_s = self.backoff_s
        for _ in range(min(self.times, 100)):
            pauses.append(pause_s)
            pause_s = min(pause_s * self.factor, _SECONDS_MAX)
        return pauses


def _refuse(name: str, value: object, why: str) -> NoReturn:
    raise UsageError(f"Retry({name}={value!r:.200}) cannot be: {why}")


def _whole(value: object) -> int | None:
    """The integer that a value is, also of numpy; ``None``: it is none."""
    if isinstance(value, bool | type) or not isinstance(value, SupportsIndex):
        return None
    return operator.index(value)


def _number(name: str, value: object) -> float:
    if not isinstance(value, bool | str | bytes) and isinstance(value, SupportsFloat):
        number = float(value)
        if 0 <= number <= _SECONDS_MAX and math.isfinite(number):
            return number
    _refuse(name, value, f"it is a number from 0 to {_SECONDS_MAX:g}")


def _reasons(given: object) -> tuple[Reason, ...]:
    if isinstance(given, str | type) or not isinstance(given, Iterable):
        given = (given,)
    found: list[Reason] = []
    for one in given:
        code = _whole(one)
        if code is not None and abs(code) < 1 << 31:
            found.append(code)
        elif one == _LOST or (isinstance(one, type) and issubclass(one, BaseException)):
            found.append(one)
        else:
            _refuse(
                "on",
                one,
                f"it holds exception classes, exit codes (numbers) and {_LOST!r}",
            )
    return tuple(dict.fromkeys(found))
