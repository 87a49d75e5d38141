"""Cancelling: what has not begun never will, and what runs is stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alamo.core.program import Program
from alamo.core.states import DEALT, PENDING


def cancel(
    programs: Mapping[int, Program], program: Program, elements: Iterable[int] | None
) -> list[Program]:
    """Cancel elements of a program, or all of it; what stands behind a gate goes with it.

    Elements at workers are only marked: they are cancelled if they come back.

    Args:
        programs: by number.

    Returns:
        The programs that this has changed.

    Cost: O(elements + edges that leave them), O(program) for all of it.
    """
    changed = []
    asked: list[tuple[Program, Iterable[int] | None]] = [(program, elements)]
    while asked:
        program, elements = asked.pop()
        if program.dropped or program.called_off:
            continue
        count = program.count
        chosen = range(count) if elements is None else _within(elements, count)
        if elements is None:
            program.called_off = program.spoiled = True
            program.growing = False
        changed.append(program)
        state, gates = program.state, program.gates
        if gates:
            for element in chosen:
                inner = programs.get(gates.get(element, -1))
                if inner is not None and state[element] in (PENDING, DEALT):
                    asked.append((inner, None))
        program.withdraw([element for element in chosen if state[element] == PENDING])
        program.cancelling.update(
            [e for e in chosen if state[e] == DEALT and e not in program.gates]
        )
        if elements is None and not program.started:  # nor will it be: joins end here too
            program.unfinished = 0
    return changed


def _within(elements: Iterable[int], count: int) -> list[int]:
    """Each once, and none that the program has not."""
    return [element for element in dict.fromkeys(elements) if 0 <= element < count]
