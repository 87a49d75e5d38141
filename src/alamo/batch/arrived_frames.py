"""The elements of an array in the order in which they end."""

from __future__ import annotations

from typing import Any

from alamo.batch.array_program import ArrayProgram
from alamo.batch.arrivals import Arrivals


class ArrivedFrames(Arrivals[int]):
    """The indices of an array's elements, as frames of outcomes come."""

    def __init__(self, program: ArrayProgram, timeout_s: float | None) -> None:
        super().__init__([program.client], timeout_s)
        self._program = program
        self._seen = 0  # frames
        self._given = 0  # elements

    def _fill(self) -> bool:
        program = self._program
        if len(program.order) > self._seen:
            self._ready.extend(program.order[self._seen])
            self._given += len(program.order[self._seen])
            self._seen += 1
            return True
        program.raise_if_skipped()
        if program.broken is not None and not self._is_over():
            raise program.client.waits.broken_for(program, -1)
        return not self._is_over()

    def _is_over(self) -> bool:
        return not self._program.growing and self._given == self._program.count

    def watch(self, waiter: Any) -> bool:
        """Release the waiter at the next frame, or the end."""
        program = self._program
        return program.watch_change(
            lambda: len(program.order) > self._seen or program.is_skipped or self._is_over(), waiter
        )

    def forget(self, waiter: Any) -> None:
        """Nobody waits any more."""
        self._program.forget_change(waiter)

    def _late(self) -> str:
        return f"the next element has not ended in time; {self._program.title(-1)} goes on"
