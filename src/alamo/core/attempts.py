"""Elements that failed and are tried again: when the next attempt may begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from alamo.core.alarm import Alarm
from alamo.core.program import Program

_MASK = (1 << 64) - 1


class Attempts:
    """Elements that wait for their next attempt.

    Args:
        programs: by number.
        alarm: wakes the scheduler when the next may begin.
        follow: told of each program that has been given elements back.
    """

    def __init__(
        self, programs: Mapping[int, Program], alarm: Alarm, follow: Callable[[Program], None]
    ) -> None:
        self._programs = programs
        self._alarm = alarm
        self._follow = follow
        self._due: list[tuple[float, int, int]] = []

    def again(self, program: Program, element: int, now_s: float) -> None:
        """An attempt has failed and another follows, now or after its backoff."""
        wait_s = backoff_s(program, element)
        program.attempts[element] = program.attempts.get(element, 0) + 1
        if wait_s <= 0.0:
            program.give_back(range(element, element + 1))
            return
        due_s = now_s + wait_s
        program.resting[element] = due_s
        heappush(self._due, (due_s, program.number, element))
        self._alarm.ask(due_s)

    def woken(self, now_s: float) -> None:
        """Let those begin whose time has come, and ask for the next."""
        due = self._due
        while due and due[0][0] <= now_s:
            due_s, number, element = heappop(due)
            program = self._programs.get(number)
            if program is not None and program.resting.get(element) == due_s:
                del program.resting[element]
                program.give_back(range(element, element + 1))
                self._follow(program)
        if due:
            self._alarm.ask(due[0][0])


def backoff_s(program: Program, element: int) -> float:
    """How long the element waits before its next attempt, should it fail now; seconds.

    The jitter is a function of program, element and attempt: the same run gives the same times.
    """
    terms = program.terms_of(element)
    if terms.backoff_s <= 0.0:
        return 0.0
    attempt = program.attempts.get(element, 0)
    share = 2.0 * _fraction(program.number, element, attempt) - 1.0
    try:
        wait_s = terms.backoff_s * terms.factor**attempt
    except OverflowError:
        wait_s = _LONGEST_S
    return min(wait_s, _LONGEST_S) * max(0.0, 1.0 + terms.jitter * share)


#: No timer is asked for longer: a hundred years.
_LONGEST_S = 3e9


def _fraction(*numbers: int) -> float:
    """A number in [0, 1) that looks random (the finalizer of SplitMix64)."""
    x = 0
    for number in numbers:
        x = (x + 0x9E3779B97F4A7C15 + number) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return x / 2.0**64
