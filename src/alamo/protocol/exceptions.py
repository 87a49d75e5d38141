"""A task's exception on its way from the worker to the client.

The same class comes out, with its attributes, notes, cause and context, whatever its
constructor takes, and the worker's traceback as a note.
"""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from alamo.errors import RemoteError, SerializationError, TaskExit
from alamo.protocol import pickling

_CHAIN_MAX = 20


class _Link(msgspec.Struct, array_like=True):
    """One exception of a chain: indices of its cause and context in the list, or -1."""

    pickle: bytes
    text: str
    cause: int = -1
    context: int = -1
    suppress: bool = False


class _Travelling(msgspec.Struct, array_like=True):
    links: list[_Link]
    trace: str
    host: str
    pid: int


def dump_exception(error: BaseException, host: str, pid: int) -> bytes:
    """Pack an exception with its chain.  Never raises; what cannot travel becomes its text."""
    if not isinstance(error, Exception):
        wrapped = TaskExit(
            f"the task raised {type(error).__name__}({', '.join(map(repr, error.args))}); "
            "return a value or raise an ordinary exception instead"
        )
        wrapped.__cause__ = error
        wrapped.__traceback__ = error.__traceback__
        error = wrapped
    links: list[_Link] = []
    _add_link(error, links, {})
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as problem:
        trace = f"(the traceback cannot be shown: {problem!r})"
    return msgspec.msgpack.encode(_Travelling(links, trace, host, pid))


def _add_link(error: BaseException, links: list[_Link], known: dict[int, int]) -> int:
    if id(error) in known:
        return known[id(error)]
    if len(links) >= _CHAIN_MAX:
        return -1
    link = _Link(_pickle_one(error), _text(error), suppress=error.__suppress_context__)
    known[id(error)] = len(links)
    links.append(link)
    if error.__cause__ is not None:
        link.cause = _add_link(error.__cause__, links, known)
    if error.__context__ is not None:
        link.context = _add_link(error.__context__, links, known)
    return known[id(error)]


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"
    except Exception:
        return type(error).__qualname__


def _pickle_one(error: BaseException) -> bytes:
    """The exception alone; empty when it cannot be pickled so that it loads again."""
    kind = type(error)
    for candidate in (error, _Rebuilt(kind, error.args, dict(error.__dict__))):
        try:
            data, _ = pickling.dump(candidate)
            again = pickling.load(data)
            if type(again) is kind and _same_state(again, error):
                return data
        except Exception:
            continue
    return b""


def _same_state(one: BaseException, other: BaseException) -> bool:
    if set(one.__dict__) != set(other.__dict__) or len(one.args) != len(other.args):
        return False
    return repr(one.args) == repr(other.args) or "0x" in repr(other.args)


class _Rebuilt:
    """Pickles as a call that makes the exception without calling its ``__init__``."""

    def __init__(
        self, kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
    ) -> None:
        self._parts = (kind, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exception, self._parts


def rebuild_exception(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    """An exception of that class with these ``args`` and attributes; no constructor runs."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def load_exception(data: bytes, what: str) -> BaseException:
    """The exception that ``dump_exception`` packed.

    Args:
        what: the task's name for the note, such as ``task 12 (fit)``.

    Returns:
        The exception itself; a ``RemoteError`` with its text if its class is unknown here.
    """
    travelling = msgspec.msgpack.decode(data, type=_Travelling)
    errors = [_load_link(link) for link in travelling.links]
    for error, link in zip(errors, travelling.links, strict=True):
        if link.cause >= 0:
            error.__cause__ = errors[link.cause]
        if link.context >= 0:
            error.__context__ = errors[link.context]
        error.__suppress_context__ = link.suppress
    errors[0].add_note(
        f"raised by {what} on {travelling.host}, pid {travelling.pid}; "
        f"there:\n{travelling.trace.rstrip()}"
    )
    return errors[0]


def _load_link(link: _Link) -> BaseException:
    if link.pickle:
        try:
            error = pickling.load(link.pickle)
            if isinstance(error, BaseException):
                return error
        except Exception as problem:
            return RemoteError(
                f"{link.text} (its class cannot be loaded here: {type(problem).__name__}: "
                f"{problem})"
            )
    return RemoteError(f"{link.text} (the exception itself cannot be pickled)")


def unpicklable_result(value: Any, error: SerializationError) -> SerializationError:
    """What a task fails with whose result cannot travel."""
    return SerializationError(
        f"the task ran, but its result of type {type(value).__qualname__} cannot be sent "
        f"back: {error}; "
        "return plain data, or write it to a file and return the path"
    )
