"""Reading the arguments of ``Batch.function``: accesses among them, and what is wrong with them."""

from __future__ import annotations

import copyreg
from typing import Any

from alamo.batch.results import compiling
from alamo.core.access import READ, WRITE, DataAccess
from alamo.errors import SerializationError, UsageError
from alamo.protocol import pickling

#: Types at the end of positional arguments that may be accesses.
MAY_BE_ACCESSES = frozenset({DataAccess, list})


def _is_access(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, DataAccess) for v in value)
    return isinstance(value, DataAccess)


def lift_accesses(
    args: tuple[Any, ...], reads: Any, writes: Any
) -> tuple[tuple[Any, ...], Any, Any]:
    """The documents' call form: trailing accesses, then perhaps one tuple of arguments."""
    found: list[DataAccess] = []
    while args and _is_access(args[-1]):
        last = args[-1]
        found[:0] = last if isinstance(last, list) else [last]
        args = args[:-1]
    if not found:
        return args, reads, writes
    if len(args) == 1 and isinstance(args[0], tuple):
        args = args[0]
    all_reads = [a for a in found if a.mode == READ]
    all_writes = [a for a in found if a.mode == WRITE]
    return (
        args,
        (*all_reads, *as_accesses(reads, READ)) if reads is not None else tuple(all_reads),
        (*all_writes, *as_accesses(writes, WRITE)) if writes is not None else tuple(all_writes),
    )


def _reduce_access(access: DataAccess) -> tuple[Any, ...]:
    """How an access is pickled: not at all among what a task is given."""
    if getattr(compiling, "compiler", None) is not None:
        raise UsageError(
            f"{access!r} is an access, not an argument; give accesses behind all arguments, "
            "or as reads= and writes="
        )
    return DataAccess, (access.obj, access.channel, access.mode)


copyreg.pickle(DataAccess, _reduce_access)


def as_accesses(given: Any, mode: int) -> tuple[DataAccess, ...]:
    """Accesses given as one or as a sequence, checked."""
    if given.__class__ is DataAccess:
        given = (given,)
    elif given.__class__ is not tuple:
        try:
            given = tuple(given)
        except TypeError:
            given = (given,)
    for access in given:
        if access.__class__ is not DataAccess or access.mode != mode:
            word, maker = ("writes", "batch.write") if mode else ("reads", "batch.read")
            raise TypeError(
                f"{word}= takes what {maker}(...) returns, or a list of it, not {access!r}"
            )
    return given  # type: ignore[no-any-return]


def accesses_of_array(accesses: Any, mode: int) -> Any:
    """Accesses of an array as a whole, checked; functions of its elements are checked later."""
    if accesses is None:
        return ()
    return accesses if callable(accesses) else as_accesses(accesses, mode)


def accesses_of(given: Any, row: tuple[Any, ...], mode: int) -> tuple[DataAccess, ...]:
    """The accesses of one element of an array: given as a function of its arguments, or for all."""
    return as_accesses(given(*row), mode) if callable(given) else given


def check_callback(function: Any, args: Any) -> None:
    """Raise a ``TypeError`` for a callback that could not be called later."""
    if not callable(function):
        raise TypeError(f"callback_func must be callable, not {type(function).__qualname__}")
    if not isinstance(args, (tuple, list)):
        raise TypeError(
            f"callback_args must be a tuple of arguments, not {type(args).__qualname__}; "
            "for one argument write (value,)"
        )


def blame_argument(
    title: str, args: tuple[Any, ...], error: SerializationError
) -> SerializationError:
    """The error of a task whose arguments cannot be pickled, naming the one that is to blame."""
    for position, value in enumerate(args):
        try:
            pickling.dump(value)
        except SerializationError as problem:
            return SerializationError(f"argument {position} of {title}: {problem}")
    return SerializationError(f"the arguments of {title}: {error}")
