"""How large the files of an embedded store may be, and how many there are."""

from __future__ import annotations

import os
from typing import Any, Final

from alamo.data.home import Home, make_home
from alamo.errors import UsageError

__all__ = ["buffer_files", "make_roomy_home"]

#: Stores that may have so much get files of their own for the buffers of large values.
_LARGE_BYTES: Final = 1 << 30
_FILES: Final = 4
_TOTAL_MIN_BYTES: Final = 1 << 20
_MAP_MIN_BYTES: Final = 64 << 20
_MAP_MAX_BYTES: Final = 1 << 42


def make_roomy_home(
    kind: str,
    title: str,
    *,
    name: str | None,
    directory: str | os.PathLike[str] | None,
    total_mem: int | None,
    settings: dict[str, Any] | None = None,
) -> Home:
    """Make a home whose files can be mapped as large as they may become; see :func:`make_home`.

    Raises:
        UsageError: ``total_mem`` is less than an empty store takes.
    """
    if total_mem is not None and total_mem < _TOTAL_MIN_BYTES:
        raise UsageError(
            f"total_mem={total_mem} is too small for a {title}, which takes most of a MiB when "
            f"it is empty: give at least {_TOTAL_MIN_BYTES} bytes"
        )
    return make_home(
        kind,
        name=name,
        directory=directory,
        total_bytes=total_mem,
        map_bytes=lambda room: min(max(room, _MAP_MIN_BYTES), _MAP_MAX_BYTES),
        settings=settings,
    )


def buffer_files(home: Home) -> int:
    """How many files a store has for buffers; 0: they lie with the records."""
    return _FILES if home.about.map_bytes >= _LARGE_BYTES else 0
