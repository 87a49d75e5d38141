"""The library of functions that the servers run, named by its contents.

So clients of different versions of alamo use one server side by side, and a server that has the
library has the right one.  A few kilobytes; servers keep and replicate it like data.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

__all__ = ["LIBRARY", "function"]

_FILES = resources.files("alamo.data.valkey") / "lua"
#: One file after the other: each uses what those before it define.
_TEXT = "\n".join(
    (_FILES / name).read_text("utf-8")
    for name in ("common.lua", "life.lua", "dict.lua", "queue.lua")
)
_VERSION = hashlib.sha256(_TEXT.encode()).hexdigest()[:8]

#: For ``FUNCTION LOAD``.
LIBRARY: Final = _TEXT.replace("VERSION", _VERSION)


def function(name: str) -> bytes:
    """What ``FCALL`` calls one of them."""
    return f"alamo_{_VERSION}_{name}".encode()
