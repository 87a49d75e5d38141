"""What is known of each subtask of a compiled task, by its uid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from alamo.batch.outcomes import Program

Value_co = TypeVar("Value_co", covariant=True)


class ByUid(Mapping[int, Value_co]):
    """uid -> what is known of that subtask, in program order.

    Looked up when asked for, so the mapping costs nothing however many there are, and shows what
    has come in since.
    """

    def __init__(self, program: Program) -> None:
        self._program = program

    @abstractmethod
    def _at(self, element: int) -> Value_co:
        """Of the subtask at an element."""

    def __getitem__(self, uid: int) -> Value_co:
        """Of one subtask.

        Raises:
            KeyError: there is none with this uid.
        """
        element = self._program.element_of(uid.__index__()) if hasattr(uid, "__index__") else -1
        if element < 0:
            raise KeyError(uid)
        return self._at(element)

    def __iter__(self) -> Iterator[int]:
        """All uids, in program order."""
        return self._program.iter_uids()

    def __len__(self) -> int:
        """How many subtasks there are."""
        return self._program.handles
