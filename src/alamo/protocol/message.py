"""What every message is: a typed struct that msgspec checks when it is decoded."""

from __future__ import annotations

from typing import ClassVar

import msgspec

#: Bumped with every incompatible change; peers of another version are refused.
VERSION = 1
#: A function number that means: nothing to run (a join).
NO_FUNCTION = 0xFFFF_FFFF
#: Tasks that one service may run at once.
SLOTS_MAX = 4096


class Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Base of all messages; the class name is the tag."""

    #: File descriptors that travel with it.
    descriptors: ClassVar[int] = 0
