"""Who may still start a compiled task: a program that nobody can start is let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alamo.batch.outcomes import Program


class StartRight:
    """Held by a compiled task: when it goes before the start, the program will never run."""

    __slots__ = ("_program",)

    def __init__(self, program: Program) -> None:
        self._program = program

    def __del__(self) -> None:
        """May run in any thread, in the middle of anything: leave it for the next send."""
        if not self._program.started:
            self._program.client.never_started.append(self._program)
