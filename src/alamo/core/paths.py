"""Normal forms of file paths: what makes two path accesses the same datum.

A path is compared by its absolute lexical normal form, whichever way a user split it into
a directory and a name.  Symbolic links are not resolved: that would be IO, and a link may
change between ``compile`` and the run.  The working directory comes in as an argument.
Called by :mod:`alamo.core.access` only.
"""

from __future__ import annotations

import posixpath
import reprlib
from collections.abc import Callable
from functools import lru_cache
from os import PathLike, fsdecode, fspath
from typing import Any

__all__ = ["absolute_path", "is_path_type", "path_under"]

#: Bases and types kept in the memos: programs use few of each, and a memo must have a bound.
_MEMO_ENTRIES_MAX = 4096

#: Names without a slash that are not names of entries.
_SPECIAL = frozenset(("", ".", ".."))


@lru_cache(maxsize=_MEMO_ENTRIES_MAX)
def is_path_type(kind: type) -> bool:
    """Whether objects of this type are paths: ``str``, ``bytes`` or ``os.PathLike``."""
    return issubclass(kind, (str, bytes, PathLike))


@lru_cache(maxsize=_MEMO_ENTRIES_MAX)
def _normal(text: str, cwd: str = "/") -> str:
    """Normal form of a path; POSIX's special leading ``//`` becomes ``/``."""
    path = posixpath.normpath(posixpath.join(cwd, text))
    return path[1:] if path.startswith("//") else path


def _text(path: Any) -> str:
    """The text of a path-like; os.fsdecode would cost three times as much."""
    text = fspath(path)
    return text if isinstance(text, str) else fsdecode(text)


def absolute_path(base: Any, cwd: Callable[[], str]) -> str:
    """Return the absolute normal form of a ``str``, ``bytes`` or ``os.PathLike``.

    Args:
        base: the path; relative ones are taken from ``cwd()`` at this moment.
        cwd: gives the absolute working directory; called only when it is needed.

    Cost: about 0.1 us for a base seen before.
    """
    text: str = base if base.__class__ is str else _text(base)
    return _normal(text) if text.startswith("/") else _normal(text, cwd())


def path_under(base: str, name: Any) -> str:
    """Return the absolute normal form of ``name`` under the normal path ``base``.

    An absolute ``name`` stands for itself, as with ``os.path.join``.

    Raises:
        TypeError: ``name`` is neither a str nor bytes nor an ``os.PathLike``.

    Cost: 0.1 us for a plain name, 0.5 us for one with a slash.
    """
    if name.__class__ is not str:
        try:
            name = _text(name)
        except TypeError:
            raise TypeError(
                f"a channel of the path {base!r} is a file or directory name under it (str or "
                f"os.PathLike), not {type(name).__name__} {reprlib.repr(name)}; for keys of any "
                "type use a DDict or a CommunicationObject"
            ) from None
    if "/" not in name and name not in _SPECIAL:
        return f"{base}/{name}" if base != "/" else f"/{name}"
    path = posixpath.normpath(posixpath.join(base, name))
    return path[1:] if path.startswith("//") else path
