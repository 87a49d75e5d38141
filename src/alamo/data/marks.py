"""What stands where no value of a user's can."""

from __future__ import annotations

from enum import Enum

__all__ = ["Mark"]


class Mark(Enum):
    """Each stays itself through pickling."""

    ABSENT = "DDict.ABSENT"
    ANY = "any value"
    OWN = "the dictionary's own"

    def __repr__(self) -> str:
        return self.value
