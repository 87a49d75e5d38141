"""How far tasks are, by state, as far as their client knows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from alamo.batch.array_program import ArrayProgram
from alamo.batch.failures import first_line
from alamo.batch.outcomes import Program
from alamo.batch.values import CANCELLED, SKIPPED

if TYPE_CHECKING:
    from alamo.batch.client import Client


class Counts(NamedTuple):
    """Tasks by state; the elements of an array count one by one.

    Attributes:
        done: ended with a result.
        failed: ended with an exception.
        skipped: did not run, for a task whose output they needed had failed.
        cancelled: ended by being cancelled, before they began or while they ran.
        waiting: made and not ended: they run, or wait to.
        total: how many there will be; ``None`` while nobody knows.
        retried: attempts that failed and that others followed.

    Example:
        >>> str(Counts(done=3, failed=1, waiting=2, total=6))
        '3 done, 1 failed, 2 waiting'
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    waiting: int = 0
    total: int | None = 0
    retried: int = 0

    @property
    def ended(self) -> int:
        """How many have ended, in whatever way."""
        return self.done + self.failed + self.skipped + self.cancelled

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        known = self.total is not None and other.total is not None
        return Counts(
            self.done + other.done,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.cancelled + other.cancelled,
            self.waiting + other.waiting,
            self.total + other.total if known else None,  # type: ignore[operator]
            self.retried + other.retried,
        )

    def __str__(self) -> str:
        named = [*zip(self, STATES), (self.retried, "retried")]
        return ", ".join(f"{count} {state}" for count, state in named if count) or "none yet"


#: The fields of ``Counts`` that a task counts in, each in one.
STATES = Counts._fields[:5]

_ONE = {
    "done": Counts(done=1, total=1),
    "failed": Counts(failed=1, total=1),
    "skipped": Counts(skipped=1, total=1),
    "cancelled": Counts(cancelled=1, total=1),
    "waiting": Counts(waiting=1, total=1),
}


def state_of(program: Program, element: int) -> str:
    """The state of one task: the name of a field of ``Counts``.  Cost: O(1)."""
    position = program._where[element]
    if not position:
        return "waiting"
    if position == SKIPPED:
        return "skipped"
    if position == CANCELLED or element in program.cancelled:
        return "cancelled"
    return "failed" if element in program.failed else "done"


def of_element(program: Program, element: int) -> Counts:
    """Counts of one task.  Cost: O(1)."""
    counts = _ONE[state_of(program, element)]
    retried = len(program.attempts.get(element, ()))
    return counts._replace(retried=retried) if retried else counts


def of_program(program: Program) -> Counts:
    """Counts of all tasks of a program and of the arrays in it.

    Takes no lock, so while outcomes come in a task may be counted in two states or in none.

    Cost: O(1); O(a) with a arrays in it.
    """
    failed, skipped, waiting = len(program.failed), len(program.skipped), program.remaining
    cancelled = len(program.cancelled)
    total: int | None = program.tasks
    if isinstance(program, ArrayProgram):
        if program.is_skipped:
            count = max(program.count, program.length or 0, 1)
            return Counts(skipped=count, total=count)
        total = program.length
    done = max(program.tasks - waiting - skipped - failed - cancelled, 0)
    counts = Counts(done, failed, skipped, cancelled, waiting, total, program.retried)
    for element, view in list(program.arrays.items()):
        if isinstance(view, ArrayProgram):  # its elements, in place of the one that stands for it
            counts = counts.plus(_negative(of_element(program, element))).plus(of_program(view))
    return counts


def _negative(counts: Counts) -> Counts:
    return Counts(*[-(count or 0) for count in counts])


class Unfinished:
    """The tasks of a client that had not ended, or shared a program with such, when this was made.

    Calling it counts them anew; programs that have ended are let go.
    """

    def __init__(self, client: Client) -> None:
        self._ended = Counts()
        self._programs = [
            program
            for program in list(client._programs.values())
            if program.started and getattr(program, "gate", None) is None
        ]

    def __call__(self) -> Counts:
        """Cost: O(programs that have not ended)."""
        going: list[Program] = []
        counts = Counts()
        for program in self._programs:
            has_ended = program.has_ended(False)  # first: then its counts are the last ones
            one = of_program(program)
            if has_ended:
                self._ended = self._ended.plus(one)
            else:
                going.append(program)
                counts = counts.plus(one)
        self._programs = going
        return counts.plus(self._ended)


def failures_of(program: Program, limit: int) -> list[tuple[str, str]]:
    """Titles of the first tasks that failed, with the first line of what they raised.

    Cost: O(limit); no exception is unpickled.
    """
    found: list[tuple[str, str]] = []
    for element in list(islice(program.failed, limit)):  # at once: more may come in
        view = program.arrays.get(element)
        if isinstance(view, ArrayProgram):
            found += failures_of(view, limit)
        elif program.has(element):  # what it left may be noted a moment later
            found.append((program.title(element), first_line(program, element)))
    if (
        isinstance(program, ArrayProgram)
        and program.feed_error is not None
        and program.cancel_reason is None
    ):
        kind = type(program.feed_error).__name__
        found.append((f"the arguments of {program.title(-1)}", f"{kind}: {program.feed_error}"))
    return found[:limit]
