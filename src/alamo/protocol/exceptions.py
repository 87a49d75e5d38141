"""A task's exception on its way from the worker to the client.

The same class comes out, with its attributes, notes, cause and context, whatever its
constructor takes, and the worker's traceback as a note.
"""

from __future__ import annotations

import subprocess
import traceback
import types
from typing import Any, NamedTuple

import msgspec

from alamo.errors import RemoteError, SerializationError, TaskExit
from alamo.protocol import pickling

#: Causes, contexts and members of groups that travel with an exception.
_LINKS_MAX = 200
#: Characters of the traceback that travel; head and tail of a longer one.
_TRACE_MAX = 100_000

#: Fields of Python's own exceptions that stay behind: how it prints, and any object at all.
_NO_FIELDS = frozenset(("obj", "characters_written", "print_file_and_line"))


class _Link(msgspec.Struct, array_like=True):
    """One exception of a chain: indices of its cause, context and members in the list, or -1.

    ``pickle`` is empty when it cannot be pickled.  Of a group it holds class, message and
    attributes; its members are links of their own.
    """

    pickle: bytes
    text: str
    cause: int = -1
    context: int = -1
    suppress: bool = False
    members: list[int] | None = None


class _Travelling(msgspec.Struct, array_like=True):
    links: list[_Link]
    trace: str
    host: str
    pid: int
    names: tuple[str, ...] = ()
    exit_code: int | None = None


class _Passing(msgspec.Struct, array_like=True):
    """The same, as whoever passes it on reads it: nothing of the chain is decoded."""

    links: msgspec.Raw
    trace: msgspec.Raw
    host: msgspec.Raw
    pid: msgspec.Raw
    names: tuple[str, ...] = ()
    exit_code: int | None = None


_decode_passing = msgspec.msgpack.Decoder(_Passing).decode


class Traits(NamedTuple):
    """What is told of an exception without unpickling it.

    Attributes:
        names: its class and all bases but ``object``, as ``name_of`` names them; behind them those
            of the ``SystemExit`` or the like that it stands for.
        exit_code: of the executable whose failure it is.
    """

    names: tuple[str, ...]
    exit_code: int | None


class Packed(Exception):
    """Raised in place of an exception that ``dump_exception`` has packed in another process."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


# -- in the worker ---------------------------------------------------------------------------


def dump_exception(error: BaseException, host: str, pid: int) -> bytes:
    """Pack an exception with its chain.  Never raises; what cannot travel becomes its text."""
    if isinstance(error, Packed):
        return error.data
    names, exit_code = _traits(error)
    if not isinstance(error, Exception):
        wrapped = TaskExit(
            f"the task raised {_text(error, repr)}; "
            "return a value or raise an ordinary exception instead"
        )
        wrapped.__cause__ = error
        wrapped.__traceback__ = error.__traceback__
        error = wrapped
        names = _traits(error).names + names
    links: list[_Link] = []
    _add_link(error, links, {})
    try:
        trace = "".join(traceback.format_exception(error)).rstrip()
    except BaseException as problem:
        trace = f"(the traceback cannot be shown: {type(problem).__name__})"
    if len(trace) > _TRACE_MAX:
        half = _TRACE_MAX // 2
        trace = f"{trace[:half]}\n[... {len(trace) - 2 * half} left out ...]\n{trace[-half:]}"
    trace = trace.encode("utf-8", "backslashreplace").decode()
    return msgspec.msgpack.encode(_Travelling(links, trace, host, pid, names, exit_code))


def name_of(kind: type[BaseException]) -> str:
    """How an exception class is named between processes: ``module.qualname``."""
    return f"{kind.__module__}.{kind.__qualname__}".encode("utf-8", "backslashreplace").decode()


def _traits(error: BaseException) -> Traits:
    names = tuple(map(name_of, type(error).__mro__[:-1]))
    code = error.returncode if isinstance(error, subprocess.CalledProcessError) else None
    return Traits(names, code if isinstance(code, int) and abs(code) < 1 << 63 else None)


def _add_link(error: BaseException, links: list[_Link], known: dict[int, int]) -> int:
    if id(error) in known:
        return known[id(error)]
    if len(links) >= _LINKS_MAX:
        return -1
    is_group = isinstance(error, BaseExceptionGroup)
    pickled = _pickle_group(error) if is_group else _pickle_one(error)
    link = _Link(pickled, _text(error, str), suppress=error.__suppress_context__)
    index = known[id(error)] = len(links)
    links.append(link)
    if isinstance(error, BaseExceptionGroup):
        link.members = [_add_link(member, links, known) for member in error.exceptions]
    if error.__cause__ is not None:
        link.cause = _add_link(error.__cause__, links, known)
    if error.__context__ is not None:
        link.context = _add_link(error.__context__, links, known)
    return index


def _text(error: BaseException, show: Any) -> str:
    kind = type(error).__qualname__
    try:
        text = show(error)
    except BaseException:
        return kind
    text = text if text.startswith(kind) else f"{kind}: {text}"
    return str(text.encode("utf-8", "backslashreplace").decode())


def _pickle_one(error: BaseException) -> bytes:
    """The exception alone; empty when it cannot be pickled so that it loads again.

    First as it pickles itself, then its parts, then its parts without the attributes that
    cannot be pickled.
    """
    try:
        data = _pickle_if_same(error, error)
        if not data:
            parts = _Rebuilt(type(error), error.args, dict(error.__dict__), _fields(error))
            data = _pickle_if_same(parts, error)
        if not data:
            state, lost = _picklable(error.__dict__)
            fields, lost_too = _picklable(_fields(error))
            note = f"({', '.join(lost + lost_too)}: could not be pickled)"
            state["__notes__"] = [*state.get("__notes__", ()), note]
            parts = _Rebuilt(type(error), error.args, state, fields)
            data = _pickle_if_same(parts, None) if lost or lost_too else b""
        return data
    except BaseException:
        return b""


def _pickle_if_same(candidate: Any, error: BaseException | None) -> bytes:
    try:
        data, buffers = pickling.dump(candidate)
        if buffers:
            data = pickling.dump_in_line(candidate)
        again = pickling.load(data)
        return data if error is None or _is_same(again, error) else b""
    except Exception:
        return b""


def _is_same(one: Any, other: BaseException) -> bool:
    if type(one) is not type(other) or set(one.__dict__) != set(other.__dict__):
        return False
    return _looks_same(one.args, other.args) and _looks_same(_fields(one), _fields(other))


def _looks_same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and (repr(one) == repr(other) or "0x" in repr(other))


def _fields(error: BaseException) -> dict[str, Any]:
    """What the exception holds outside of its ``__dict__``: errno, lineno, slots of the user's."""
    fields = {}
    for kind in type(error).__mro__[:-2]:  # without BaseException and object
        for name, what in vars(kind).items():
            if name.startswith("__") or (name in _NO_FIELDS and kind.__module__ == "builtins"):
                continue
            if isinstance(what, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                value = getattr(error, name, None)
                if value is not None:  # OSError shows a filename2 that was set to None
                    fields[name] = value
    return fields


def _picklable(state: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The part of the attributes that can be pickled, and the names of the others."""
    kept, lost = {}, []
    for name, value in state.items():
        try:
            pickling.load(pickling.dump_in_line(value))
            kept[name] = value
        except Exception:
            lost.append(name)
    return kept, lost


def _pickle_group(error: BaseException) -> bytes:
    state, _ = _picklable(error.__dict__)
    try:
        return pickling.dump_in_line((type(error), str(error.args[0]), state))
    except Exception:
        return b""


class _Rebuilt:
    """Pickles as a call that makes the exception without calling its ``__init__``."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exception, self._parts


# -- where it arrives ------------------------------------------------------------------------


def rebuild_exception(
    kind: type[BaseException],
    args: tuple[Any, ...],
    state: dict[str, Any],
    fields: dict[str, Any],
) -> BaseException:
    """An exception of that class with these ``args`` and attributes; no constructor runs."""
    error = _builtin_base(kind).__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    for name, value in fields.items():
        try:
            setattr(error, name, value)
        except (AttributeError, TypeError):
            continue
    return error


def _builtin_base(kind: type[BaseException]) -> type[BaseException]:
    """The first class of Python's own; the user's ``__new__`` may take anything."""
    for base in kind.__mro__:
        if base.__module__ == "builtins" and issubclass(base, BaseException):
            return base
    return BaseException


def load_exception(data: bytes, what: str) -> BaseException:
    """The exception that ``dump_exception`` packed.

    Args:
        what: the task's name for the note, such as ``task 12 (fit)``.

    Returns:
        The exception itself; a ``RemoteError`` with its text if its class is unknown here.
    """
    travelling = msgspec.msgpack.decode(data, type=_Travelling)
    links = travelling.links
    errors: list[BaseException] = []
    for index in range(len(links) - 1, -1, -1):  # members of a group stand behind it
        link = links[index]
        members = [errors[len(links) - 1 - k] for k in link.members or () if k > index]
        errors.append(_load_link(link, members))
    errors.reverse()
    for error, link in zip(errors, links, strict=True):
        if link.cause >= 0:
            error.__cause__ = errors[link.cause]
        if link.context >= 0:
            error.__context__ = errors[link.context]
        error.__suppress_context__ = link.suppress
    errors[0].add_note(
        f"raised by {what} on {travelling.host}, pid {travelling.pid}; there:\n{travelling.trace}"
    )
    return errors[0]


def text_of(data: bytes) -> str:
    """Class and message of the exception that ``dump_exception`` packed; nothing is unpickled."""
    return msgspec.msgpack.decode(data, type=_Travelling).links[0].text


def traits(data: bytes) -> Traits:
    """Classes and exit code of the exception that ``dump_exception`` packed.

    Nothing is unpickled.  Cost: 1 us, and a copy of the bytes.

    Raises:
        msgspec.DecodeError: it is no packed exception.
    """
    passing = _decode_passing(data)
    return Traits(passing.names, passing.exit_code)


def _load_link(link: _Link, members: list[BaseException]) -> BaseException:
    if not link.pickle:
        return RemoteError(f"{link.text} (the exception itself cannot be pickled)")
    try:
        loaded = pickling.load(link.pickle)
        if link.members is not None:
            kind, message, state = loaded
            loaded = BaseExceptionGroup.__new__(kind, message, members)
            loaded.__dict__.update(state)
        if isinstance(loaded, BaseException):
            return loaded
        problem = f"it loads as a {type(loaded).__qualname__}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return RemoteError(f"{link.text} (its class cannot be loaded here: {problem})")


def unpicklable_result(value: Any, error: SerializationError) -> SerializationError:
    """What a task fails with whose result cannot travel."""
    return SerializationError(
        f"the task ran, but its result of type {type(value).__qualname__} cannot be sent "
        f"back: {error}; "
        "return plain data, or write it to a file and return the path"
    )
