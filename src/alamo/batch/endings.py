"""The end of a task of whatever kind: has it come, and who is to be told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from alamo.batch.outcomes import Program
from alamo.errors import BatchBroken, UsageError

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.expanded import ExpandedArray


class Ending(ABC):
    """The end of one task.  It refers to the program and never to the task.

    Attributes:
        program: where the outcome will be.
    """

    program: Program

    @property
    def client(self) -> Client:
        """Whose task it is."""
        return self.program.client

    @abstractmethod
    def has_come(self) -> bool:
        """Whether all that the task leaves is known."""

    @abstractmethod
    def has_failed(self) -> bool:
        """Whether the task, which has ended, failed or did not run."""

    @abstractmethod
    def watch(self, waiter: Any) -> bool:
        """Have ``waiter.release()`` called, perhaps too early, when the end has come or never will.

        It is called in another thread and must not block; ``False``: there is nothing to wait for.
        """

    @abstractmethod
    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""

    def broken(self) -> BatchBroken:
        """The error that says that the end will never come."""
        return self.client.waits.broken_for(self.program, -1)


class ElementEnding(Ending):
    """The end of one element of a program."""

    __slots__ = ("_element", "program")

    def __init__(self, program: Program, element: int) -> None:
        self.program = program
        self._element = element

    def has_come(self) -> bool:
        """Whether it has an outcome."""
        return self.program.has(self._element)

    def has_failed(self) -> bool:
        """Whether it failed or did not run."""
        return self.program.has_failed(self._element)

    def watch(self, waiter: Any) -> bool:
        """Release the waiter when it has an outcome."""
        return self.program.watch(self._element, waiter)

    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""
        self.program.forget_waiter(self._element, waiter)

    def broken(self) -> BatchBroken:
        """The error that says that the outcome will never come."""
        return self.client.waits.broken_for(self.program, self._element)


class ProgramEnding(Ending):
    """The end of all elements of a program: of a compiled task, or of an array."""

    __slots__ = ("program",)

    def __init__(self, program: Program) -> None:
        self.program = program

    def has_come(self) -> bool:
        """Whether all have outcomes."""
        return self.program.has_ended(False)

    def has_failed(self) -> bool:
        """Whether one failed or did not run."""
        return self.program.has_failures

    def watch(self, waiter: Any) -> bool:
        """Release the waiter when all have outcomes."""
        return self.program.watch_end(waiter, False)

    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""
        self.program.forget_waiter(-1, waiter)


class ExpandedEnding(Ending):
    """The end of an array whose elements are tasks of a compiled program."""

    __slots__ = ("_ended", "_view", "program")

    def __init__(self, view: ExpandedArray) -> None:
        self.program = view.program
        self._view = view
        self._ended = 0  # elements below this have ended

    def has_come(self) -> bool:
        """Whether all elements have outcomes."""
        elements = self._view.elements
        while self._ended < len(elements) and self.program.has(elements[self._ended]):
            self._ended += 1
        return self._ended == len(elements)

    def has_failed(self) -> bool:
        """Whether an element failed or did not run."""
        return any(map(self.program.has_failed, self._view.elements))

    def watch(self, waiter: Any) -> bool:
        """Release the waiter when the first element that has not ended ends."""
        while not self.has_come():
            if self.program.watch(self._view.elements[self._ended], waiter):
                return True
            if self.program.broken is not None:
                return False
        return False

    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""
        if not self.has_come():
            self.program.forget_waiter(self._view.elements[self._ended], waiter)


def ending_of(task: Any) -> Ending:
    """The end of a task that has been started, by itself or with a compiled one.

    Raises:
        UsageError: it has not been started.
        TypeError: it is no task.
    """
    from alamo.batch.array_program import ArrayProgram  # these need this module
    from alamo.batch.array_task import _Array
    from alamo.batch.expanded import ExpandedArray
    from alamo.batch.task import Task

    if not isinstance(task, Task):
        raise TypeError(f"a task is needed here, not {type(task).__qualname__}")
    program = task.program
    if program is None or not program.started:
        raise UsageError(f"{task.title()} has not been started; call start() or run() first")
    if isinstance(task, _Array):
        if isinstance(task.view, ExpandedArray):
            return ExpandedEnding(task.view)
        assert isinstance(task.view, ArrayProgram)
        return ProgramEnding(task.view)
    return ElementEnding(program, task.index) if task.index >= 0 else ProgramEnding(program)
