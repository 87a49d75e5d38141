"""The functions of one compile: numbers for those that tasks share, and which are sent otherwise.

A function travels once and is known by a number.  That is too dear where each task has one of its
own (bound methods of many objects, closures made in a loop): these go with the arguments.
"""

from __future__ import annotations

import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

from alamo.batch.program_functions import ProgramFunctions
from alamo.batch.task import Task
from alamo.errors import AlamoError
from alamo.protocol import messages as msg
from alamo.protocol import pickling

if TYPE_CHECKING:
    from alamo.batch.client import Client

Function = Callable[..., Any]

#: What calls a function that is the first of its arguments; being C it adds no line to a traceback.
CALL: Function = operator.call
#: So many new functions of a page get a number in any case.
_FEW = 16


def name_of(function: Function) -> str:
    """What pictures call it."""
    name = getattr(function, "__name__", None)  # an object that is called may have any
    return name if isinstance(name, str) else type(function).__name__


class Functions:
    """Numbers of functions.

    Attributes:
        pickling: a function is being pickled, so handles met now are in its closure.
        names: what they are called, by number.
    """

    def __init__(self, client: Client, program: int, send: Callable[..., None]) -> None:
        self._client = client
        self._of_program = ProgramFunctions(client, program, send)
        self._numbers: dict[int, int] = {}  # by id: the tasks keep their functions alive
        self._methods: dict[tuple[int, int], Function] = {}
        self._seen: set[int] = set()
        self._are_one = False
        self.pickling = False
        self.names: dict[int, str] = {}

    def of(self, tasks: Sequence[Task]) -> tuple[list[Function], set[int]]:
        """The tasks' functions; ids of those that go with the arguments.

        Cost: 0.02 us a task with one function for all.
        """
        functions: list[Function] = [task.func for task in tasks]  # type: ignore[attr-defined]
        self._are_one = len(set(map(id, functions))) == 1
        if self._are_one:
            return functions, set()
        if MethodType in set(map(type, functions)):
            functions = [self._one_of_equal(f) for f in functions]
            self._are_one = len(set(map(id, functions))) == 1
        distinct = dict(zip(map(id, functions), functions))
        if len(distinct) <= _FEW:
            return functions, set()
        uses = Counter(map(id, functions))
        new = [n for n in distinct if n not in self._numbers and n not in self._seen]
        loose = {n for n in new if uses[n] == 1 and not pickling.goes_by_reference(distinct[n])}
        if len(loose) <= _FEW:
            return functions, set()
        self._seen |= loose
        return functions, loose

    def column(
        self, tasks: Sequence[Task], functions: list[Function], loose: set[int], count: int
    ) -> int | bytes:
        """One function number for all ``count`` elements of what ``of`` got last, or a column."""
        if loose:
            functions = [CALL if id(f) in loose else f for f in functions]
            self._are_one = len(loose) == len(functions)
        first = tasks[-1].index + 1 - count
        if count == len(tasks) and self._are_one:
            return self.number(tasks[0], functions[0])
        column = array("I", [msg.NO_FUNCTION]) * count
        for task, function in zip(tasks, functions):
            column[task.index - first] = self.number(task, function)
        return column.tobytes()

    def _one_of_equal(self, function: Function) -> Function:
        """Each ``obj.method`` makes a new object: one for all with the same ``obj``."""
        if not isinstance(function, MethodType):
            return function
        key = id(function.__self__), id(function.__func__)
        return self._methods.setdefault(key, function)

    def number(self, task: Task, function: Function) -> int:
        """The number of a function that tasks share."""
        number = self._numbers.get(id(function))
        if number is None:
            with self._blaming(task):
                number = self._numbers[id(function)] = self._of_program.number(function)
            if function is not CALL:
                self.names[number] = name_of(function)
        return number

    def check(self, task: Task, function: Function) -> None:
        """Raise what is wrong with a function that goes with the arguments, if it is that one."""
        with self._blaming(task):
            pickling.dump_function(function)

    @contextmanager
    def _blaming(self, task: Task) -> Iterator[None]:
        self.pickling = True
        try:
            yield
        except AlamoError as error:
            raise type(error)(f"the function of {task.title()}: {error}") from error
        finally:
            self.pickling = False
