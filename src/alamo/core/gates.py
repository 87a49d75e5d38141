"""Gates: elements that stand for an array, whose elements are a program of their own.

program:  before ──► gate ──► behind
                      │ ▲
inner program:        ▼ │  starts when the gate waits for nothing more; its end is the gate's
                0, 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Mapping

from alamo.core import events as ev
from alamo.core.program import Program
from alamo.core.states import DEALT


def open_gate(
    programs: Mapping[int, Program], program: Program, effects: list[ev.Effect]
) -> Program:
    """Let the program behind the next gate run that has nothing to wait for.

    Returns:
        The program that this has changed.
    """
    element = program.opened.pop()
    inner = programs.get(program.gates[element])
    if inner is None or inner.dropped:  # its client does not want it any more
        program.finish([element], (element,))
        effects.append(ev.GateClosed(program.number, element, -1, True))
        return program
    inner.start(b"")
    return inner


def close_gate(inner: Program, effects: list[ev.Effect]) -> list[Program]:
    """A program has ended: so has the element that it stands behind, if that had begun.

    Returns:
        The program that this has changed, if any.
    """
    if inner.gate is None:
        return []
    program, element = inner.gate
    if program.state[element] != DEALT:
        return []
    failed = inner.spoiled or inner.dropped
    program.finish([element], (element,) if failed else ())
    effects.append(ev.GateClosed(program.number, element, inner.number, failed))
    return [program]
