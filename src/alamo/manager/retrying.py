"""Which failures are tried again: what the scheduler counts, held against what the user said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import msgspec

from alamo.core.program import Program
from alamo.errors import MemoryLimitExceeded, TaskTimeout, WorkerLost
from alamo.manager.programs import ProgramData
from alamo.protocol import messages as msg
from alamo.protocol.exceptions import traits
from alamo.protocol.records import CANCELLED, LOST, MEMORY, RAISED, STOPPED, StopInfo, as_record


def to_retry(
    program: Program,
    data: ProgramData,
    elements: Sequence[int],
    outcomes: Sequence[bytes],
    failed: Iterable[int],
) -> list[int]:
    """Which of the failed positions are tried again.

    Cost: some microseconds a failure of elements with retries, nothing otherwise.
    """
    if data.terms is None:
        return []
    again = []
    for position in failed:
        element = elements[position]
        terms = data.terms.of(element)
        if terms is None or not terms.retries or not program.retries_left(element):
            continue
        if is_retried(terms, outcomes[position]):
            again.append(position)
    return again


def is_retried(terms: msg.TermsDefined, outcome: bytes) -> bool:
    """Whether a failure is of the kind that the user wants tried again."""
    try:
        record = as_record(outcome)
        names, exit_code, lost = _traits(record.status, record.value) if record else ((), None, 0)
    except (msgspec.DecodeError, ValueError):  # a task wrote over it
        return False
    if record is None or names is None:
        return False
    if not (terms.types or terms.exit_codes or terms.lost):
        return True
    if lost and terms.lost:
        return True
    return exit_code in terms.exit_codes or not set(names).isdisjoint(terms.types)


def _traits(status: int, value: bytes) -> tuple[tuple[str, ...] | None, int | None, bool]:
    """Classes of an error by name, exit code, whether the worker died; ``None``: never again."""
    if status == RAISED:
        found = traits(value)
        return found.names, found.exit_code, False
    if status == LOST:
        return _names(WorkerLost), None, True
    if status == STOPPED:
        kind = msgspec.msgpack.decode(value, type=StopInfo).kind
        if kind != CANCELLED:
            return _names(MemoryLimitExceeded if kind == MEMORY else TaskTimeout), None, False
    return None, None, False


@cache
def _names(error: type[BaseException]) -> tuple[str, ...]:
    return tuple([f"{c.__module__}.{c.__qualname__}" for c in error.__mro__])
