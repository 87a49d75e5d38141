"""A task's program as a diagram: its elements, their states as known here, and their edges."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from alamo.batch.array_program import ArrayProgram
from alamo.batch.array_task import _Array
from alamo.batch.expanded import ExpandedArray
from alamo.batch.functions import name_of
from alamo.batch.outcomes import Program
from alamo.batch.task import Task, _Call
from alamo.core.edges import INDEX, KIND_SHIFT
from alamo.drawing.diagram import Diagram, Node, State

__all__ = ["diagram_of"]


def diagram_of(task: Task) -> Diagram:
    """The diagram of a compiled task, of the one that a subtask is part of, or of a single task.

    Cost: 3 us an element and an edge.
    """
    program = task.program
    if program is None or program.is_stream or (isinstance(task, _Array) and task.alone):
        return Diagram(task.title(), [_single(task)], [])
    if isinstance(program, ArrayProgram) and program.gate is not None:
        program = program.gate[0]
    title = task.title() if task.compiled else f"the program of {task.title()}"
    return _Elements(program).diagram(title)


def _single(task: Task) -> Node:
    """The node of a task that is in no compiled program."""
    name, program = task.name, task.program
    if name is None and isinstance(task, _Call) and task.func is not None:
        name = name_of(task.func)
    if isinstance(task, _Array):
        view = task.view
        if view is None:
            return Node(0, "array", task.uid, name, "pending")
        if isinstance(view, ExpandedArray):
            state = _together(_Elements(view.program).states[e] for e in view.elements)
        else:
            assert isinstance(view, ArrayProgram)
            state = _array_state(view, True)
        return Node(0, "array", task.uid, name or view.function_name, state, size=view.size)
    if program is None:
        return Node(0, "task", task.uid, name, "pending")
    return Node(0, "task", task.uid, name, _Elements(program).states[task.index])


class _Elements:
    """The elements of one program as they are now.

    Attributes:
        states: of each; a join is done when all that it stands for has ended.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._where, self._failed, self._skipped, self._cancelled = program.snapshot()
        count = len(self._where)
        edges = program.edges
        self._preds = edges.preds if edges is not None else array("I")
        self._ends = edges.pred_ends if edges is not None else array("I", bytes(4 * count))
        self._joins = frozenset(edges.joins if edges is not None else ())
        self.states = self._states()

    def _states(self) -> list[State]:
        program, where = self._program, self._where
        live = program.started and program.broken is None
        ended = bytearray(map(bool, where))
        states: list[State] = []
        start = 0
        for element, end in enumerate(self._ends):
            state: State = "done"
            if not where[element]:
                waits = not all(ended[p & INDEX] for p in self._preds[start:end])
                state = "running" if live and not waits else "pending"
                if element in self._joins:
                    ended[element] = not waits
                    state = "pending" if waits else "done"
                else:
                    view = program.arrays.get(element)
                    if isinstance(view, ArrayProgram):
                        state = _array_state(view, state == "running")
                        ended[element] = state not in ("running", "pending")
            elif element in self._skipped:
                state = "skipped"
            elif element in self._cancelled:
                state = "cancelled"
            elif element in self._failed:
                state = "failed"
            states.append(state)
            start = end
        return states

    def diagram(self, title: str) -> Diagram:
        """All of it, an array as one node."""
        program = self._program
        inside = self._inside_arrays()
        nodes: list[Node] = []
        place = [0] * len(self.states)
        for element in range(len(place)):
            if inside.get(element, element) == element:
                place[element] = len(nodes)
                nodes.append(self._node(len(nodes), element))
        for element, stand_in in inside.items():
            place[element] = place[stand_in]
        edges: list[tuple[int, int, int]] = []
        start = 0
        for element, end in enumerate(self._ends):
            head = place[element]
            for entry in self._preds[start:end]:
                edges.append((place[entry & INDEX], head, entry >> KIND_SHIFT))
            start = end
        if program.expanded:  # elements of arrays have edges to each other, and equal ones
            edges = [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]]
        return Diagram(title, nodes, edges)

    def _inside_arrays(self) -> dict[int, int]:
        """What is drawn as part of an array -> the join that stands for that array.

        Its elements are neighbours in program order, joins that they need between them.  Joins
        behind an element are part of the array too: else it would wait for what waits for it.
        """
        inside: dict[int, int] = {}
        for stand_in, view in self._program.arrays.items():
            if isinstance(view, ExpandedArray):
                inside.update(dict.fromkeys([*view.elements, stand_in], stand_in))
                for element in range(min(view.elements, default=stand_in) + 1, stand_in):
                    entries = self._preds[self._ends[element - 1] : self._ends[element]]
                    if any(inside.get(p & INDEX) == stand_in for p in entries):
                        inside[element] = stand_in
        return inside

    def _node(self, number: int, element: int) -> Node:
        program, state = self._program, self.states[element]
        view = program.arrays.get(element)
        if view is not None:
            if isinstance(view, ExpandedArray):
                state = _together([self.states[e] for e in view.elements])
            name = view.name or view.function_name
            return Node(number, "array", view.uid, name, state, size=view.size)
        if element in self._joins:
            return Node(number, "join", None, None, state)
        name = program.names.get(element) or _function_name(program, element)
        return Node(number, "task", program.uid_of(element), name, state)


def _function_name(program: Program, element: int) -> str | None:
    """What the function of an element is called, if that is known."""
    runs = program.functions
    first, numbers = runs[bisect_right(runs, element, key=lambda run: run[0]) - 1]
    if isinstance(numbers, bytes):
        numbers = memoryview(numbers).cast("I")[element - first]
    return program.function_names.get(numbers)


def _array_state(array_program: ArrayProgram, ready: bool) -> State:
    """The state of an array whose elements are a program of their own."""
    if array_program.is_skipped:
        return "skipped"
    if array_program.has_ended(False):
        if array_program.cancelled:
            return "failed" if array_program.failed else "cancelled"
        failed = array_program.failed or array_program.feed_error is not None
        return "failed" if failed else "done"
    live = array_program.started and array_program.broken is None
    return "running" if live and ready else "pending"


def _together(states: Iterable[State]) -> State:
    """The state of an array whose elements have these."""
    found = set(states)
    if found <= {"done"}:
        return "done"
    if found <= {"done", "failed", "skipped", "cancelled"}:
        return next(s for s in ("failed", "cancelled", "skipped") if s in found)
    return "pending" if found == {"pending"} else "running"
