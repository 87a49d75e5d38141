"""Accesses: what a task says that it reads and writes, and when two of them meet.

An access names a communication object and the channels on it.  This module decides which
datum is meant (paths by absolute normal form, other objects by equality or identity); it
never looks at the data itself.  ``Batch.read`` and ``Batch.write`` call :func:`make_access`,
:mod:`alamo.core.hazards` turns accesses into dependencies.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Final

import msgspec

from alamo.core.paths import absolute_path, is_path_type, path_under
from alamo.errors import GraphError

__all__ = [
    "FILES",
    "READ",
    "WHOLE",
    "WRITE",
    "Channels",
    "CommunicationDomain",
    "CommunicationObject",
    "DataAccess",
    "datum_key",
    "has_own_channels",
    "hash_error",
    "make_access",
    "one_by_one",
]

READ: Final = 0
WRITE: Final = 1

#: Types kept in the memo of ``has_own_channels``: programs use few, and a memo must have a bound.
_MEMO_TYPES_MAX: Final = 4096


class _Marker:
    """A named singleton that stays itself through pickling."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


#: The channel of an access that names none: the whole object.
WHOLE: Final = _Marker("WHOLE")

#: The object of every path access: the file tree, whose channels are absolute normal paths.
FILES: Final = _Marker("FILES")


class Channels:
    """Several channels of one access; compares by identity, so it is never taken for a key.

    A single channel, also one that is a tuple, is stored bare in the access.
    """

    __slots__ = ("names",)

    def __init__(self, names: tuple[Any, ...]) -> None:
        self.names = names

    def __repr__(self) -> str:
        return reprlib.repr(self.names)


class DataAccess(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One READ or WRITE of a communication object, not yet tied to a task.

    Kept out of the garbage collector's sight, as a program holds millions of them.

    Cost: 0.05 us and 40 bytes.
    """

    #: The communication object, or ``FILES`` for a path.
    obj: Any
    #: The one channel, ``WHOLE``, or ``Channels`` for several.
    channel: Any
    #: ``READ`` or ``WRITE``.
    mode: int

    @property
    def channels(self) -> tuple[Any, ...]:
        """The channels as a tuple, empty for the whole object."""
        if self.channel is WHOLE:
            return ()
        if isinstance(self.channel, Channels):
            return self.channel.names
        return (self.channel,)

    def __repr__(self) -> str:
        mode = "WRITE" if self.mode else "READ"
        names = ", ".join(map(reprlib.repr, self.channels[:4]))
        if len(self.channels) > 4:
            names += f", ... ({len(self.channels)} channels)"
        if self.obj is FILES:
            return f"<{mode} {names}>"
        return f"<{mode} {_short(self.obj)}{f'[{names}]' if names else ''}>"


class CommunicationDomain(msgspec.Struct, frozen=True):
    """Which data hazards order two accesses of a user's own communication objects.

    Domains with equal flags are equal: an order too many is safe, a lost one is not.
    Without ``waw`` writes do not replace each other, so a read waits for all of them.
    """

    #: Read after read: reads keep their program order among themselves.
    rar: bool = False
    #: Read after write: a read waits for the write that it sees and fails with it.
    raw: bool = True
    #: Write after read: a write waits for the reads of what it replaces.
    war: bool = True
    #: Write after write: writes keep their program order and replace what was there.
    waw: bool = True


class CommunicationObject:
    """An object of the user's own in a domain: a socket address, a table, a device.

    Two of them are the same datum when their domains are equal and their objects are equal
    (identical, if the object has no hash).  A str is a name here and not a path.
    """

    __slots__ = ("_key", "domain", "obj")

    def __init__(self, domain: CommunicationDomain, obj: Any) -> None:
        if not isinstance(domain, CommunicationDomain):
            raise TypeError(
                f"the first argument of CommunicationObject is a CommunicationDomain, "
                f"not {type(domain).__name__}"
            )
        self.domain = domain
        self.obj = obj
        self._key = (domain, datum_key(obj))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CommunicationObject):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        return (CommunicationObject, (self.domain, self.obj))

    def __repr__(self) -> str:
        return f"CommunicationObject({_short(self.obj)})"


def datum_key(obj: Any) -> Hashable:
    """Return the key by which ``obj`` is one datum in a program.

    In this order: what its ``__alamo_datum__()`` returns, the object itself if it has a hash,
    its ``id``.  The last is valid only while the caller keeps ``obj`` alive.
    """
    method = getattr(type(obj), "__alamo_datum__", None)
    if method is not None:
        return ("datum", method(obj))
    if type(obj).__hash__ is None:
        return ("id", id(obj))
    try:
        hash(obj)
    except TypeError:
        # A tuple that holds a list, say.
        return ("id", id(obj))
    return ("equal", obj)


@lru_cache(maxsize=_MEMO_TYPES_MAX)
def has_own_channels(kind: type) -> bool:
    """Whether channels of objects of this type are compared by rules of their own.

    Those of paths are: they are paths too.  So are those of a type with a method
    ``__alamo_channel__(key)``, such as ``DDict``: it refuses what cannot be a key there, and
    returns what is equal for the keys that are one key there.  That is the channel; its ``repr`` is
    that of the key.

    Cost: 0.05 us.
    """
    return is_path_type(kind) or hasattr(kind, "__alamo_channel__")


def make_access(
    obj: Any, channels: tuple[Any, ...], mode: int, cwd: Callable[[], str]
) -> DataAccess:
    """Describe a READ or WRITE of ``channels`` on ``obj``.

    A path with names under it becomes absolute at once, so that a later ``chdir`` changes
    nothing.

    Args:
        obj: a path (str, bytes, ``os.PathLike``) or any other object.
        channels: names under the path or hashable keys; empty for all of the object.
        mode: ``READ`` or ``WRITE``.
        cwd: gives the working directory; called only for a relative path.

    Raises:
        TypeError: a channel of a path is not a name; one of a ``DDict`` cannot be a key there.

    Cost: 0.2 us; 0.4 us for a path with a plain name.
    """
    if has_own_channels(obj.__class__):
        if is_path_type(obj.__class__):
            base = absolute_path(obj, cwd)
            if not channels:
                return DataAccess(FILES, base, mode)
            channels = tuple([path_under(base, channel) for channel in channels])
            obj = FILES
        else:
            channels = tuple(map(obj.__alamo_channel__, channels))
    if not channels:
        return DataAccess(obj, WHOLE, mode)
    if len(channels) == 1:
        return DataAccess(obj, channels[0], mode)
    return DataAccess(obj, Channels(channels), mode)


def one_by_one(accesses: tuple[DataAccess, ...]) -> tuple[DataAccess, ...]:
    """Replace each access of several channels by one access a channel."""
    return tuple(
        DataAccess(access.obj, channel, access.mode)
        for access in accesses
        for channel in (
            access.channel.names if isinstance(access.channel, Channels) else (access.channel,)
        )
    )


def hash_error(accesses: tuple[DataAccess, ...], error: TypeError) -> Exception:
    """Return a GraphError that names the access whose channel has no hash, or ``error``."""
    for access in accesses:
        for channel in access.channels:
            try:
                hash(channel)
            except TypeError:
                return GraphError(
                    f"a channel must be hashable, like a key of a dict; {access!r} names one "
                    f"of type {type(channel).__name__}"
                )
    return error


def _short(obj: Any) -> str:
    """A short text for an object whose own repr may be huge or slow."""
    if isinstance(obj, CommunicationObject):
        return repr(obj)
    if isinstance(obj, (str, int, float, bytes, tuple)):
        return reprlib.repr(obj)
    return f"{type(obj).__name__} at {id(obj):#x}"
