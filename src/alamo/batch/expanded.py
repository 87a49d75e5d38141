"""Arrays whose elements are tasks of the program: their accesses are given element by element."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alamo.batch.array_view import ArrayView
from alamo.batch.waiting import deadline_of, left_until

if TYPE_CHECKING:
    from alamo.batch.arrivals import Arrivals
    from alamo.batch.outcomes import Program
    from alamo.batch.task_stats import TaskStats


class ExpandedArray(ArrayView):
    """An array in a compiled program.

    Attributes:
        elements: the program's element of each of the array's.
    """

    def __init__(self, program: Program, elements: array[int], uid: int, name: str | None) -> None:
        self.program = program
        self.elements = elements
        self.uid = uid
        self.name = name

    @property
    def size(self) -> int:
        """How many elements it has."""
        return len(self.elements)

    def title_at(self, index: int) -> str:
        """How messages name an element."""
        return f"element {index} of {self.array_title()}"

    def wait_all(self, timeout_s: float | None) -> None:
        """Wait until all have ended."""
        deadline = deadline_of(timeout_s)
        for element in self.elements:
            if not self.program.has(element):
                self.program.client.waits.element(self.program, element, left_until(deadline))

    def wait_one(self, index: int, timeout_s: float | None) -> bool:
        """Wait until one has ended."""
        if index >= len(self.elements):
            return False
        self.program.client.waits.element(self.program, self.elements[index], timeout_s)
        return True

    def wait_length(self) -> int:
        """How many there are."""
        return len(self.elements)

    def watch_one(self, index: int, waiter: Any) -> bool:
        """Release the waiter when one has ended."""
        elements = self.elements
        return index < len(elements) and self.program.watch(elements[index], waiter)

    def forget_one(self, index: int, waiter: Any) -> None:
        """Nobody waits any more."""
        if index < len(self.elements):
            self.program.forget_waiter(self.elements[index], waiter)

    def completed(self, timeout_s: float | None) -> Arrivals[int]:
        """Indices as they end."""
        from alamo.batch.arrivals import Ended  # which needs this module
        from alamo.batch.endings import ElementEnding

        endings = [ElementEnding(self.program, element) for element in self.elements]
        return Ended(enumerate(endings), timeout_s)

    def skip(self) -> None:
        """Its elements are skipped one by one."""

    def raise_if_skipped(self) -> None:
        """Its elements are skipped one by one."""

    def value_at(self, index: int) -> Any:
        """The value of an element."""
        return self.program.value(self.elements[index])

    def text_at(self, index: int, stream: int) -> str | bytes:
        """What an element printed."""
        return self.program.text(self.elements[index], stream)

    def place_of(self, index: int) -> tuple[Program, int]:
        """Where the element is a task."""
        return self.program, self.elements[index]

    def stats_at(self, index: int) -> TaskStats | None:
        """What is known of an element's run."""
        from alamo.batch.task_stats import stats_of  # for those who ask for it

        return stats_of(self.program, self.elements[index])

    def values(self) -> tuple[list[Any], dict[int, BaseException]]:
        """The values of all, and the errors of those that failed."""
        values: list[Any] = [None] * len(self.elements)
        errors: dict[int, BaseException] = {}
        for index in range(len(self.elements)):
            try:
                values[index] = self.value_at(index)
            except Exception as error:
                errors[index] = error
        return values, errors


def member(arrays: Sequence[ExpandedArray], element: int) -> tuple[ExpandedArray, int] | None:
    """The array of which a program's element is one, and its index there."""
    for view in arrays:
        index = bisect_left(view.elements, element)
        if index < len(view.elements) and view.elements[index] == element:
            return view, index
    return None


class Countdown:
    """Has an array's callback called when all its elements have succeeded.

    It is released once an element, by the program, which is locked meanwhile.
    """

    def __init__(self, view: ExpandedArray, stand_in: int) -> None:
        self._view = view
        self._stand_in = stand_in
        self._left = len(view.elements)

    def start(self) -> None:
        """The array has no elements: it has ended as soon as it has been started."""
        with self._view.program._lock:
            self._left += 1
            self.release()

    def release(self) -> None:
        """One element has ended, or never will."""
        self._left -= 1
        program = self._view.program
        if self._left or program.broken is not None:
            return
        if not any(map(program.has_failed, self._view.elements)):
            program.callbacks_pending += 1
            program.client.callbacks.queue(program, [self._stand_in])
        else:
            program.callbacks.pop(self._stand_in, None)
