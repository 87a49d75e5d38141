"""The handles of all subtasks of a compiled task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from alamo.batch.results import AsyncDict
from alamo.batch.task import Task
from alamo.protocol.records import RESULT, STDERR, STDOUT

Handles = tuple[AsyncDict, AsyncDict, AsyncDict]


class HandlesByUid(Mapping[int, Handles]):
    """What ``start`` of a compiled task returns: uid -> (result, stdout, stderr).

    Handles are made when asked for, so the mapping costs nothing however many there are.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getitem__(self, uid: int) -> Handles:
        program = self._task.program
        assert program is not None
        element = program.element_of(uid.__index__()) if hasattr(uid, "__index__") else -1
        if element < 0:
            raise KeyError(uid)
        if element in program.arrays:
            from alamo.batch.array_task import handle_at  # which needs this module

            batch = self._task.batch
            return (
                handle_at(batch, program, element, RESULT),
                handle_at(batch, program, element, STDOUT),
                handle_at(batch, program, element, STDERR),
            )
        one = Task(
            self._task.batch,
            name=program.names.get(element),
            _uid=uid,
            program=program,
            index=element,
        )
        return AsyncDict(one, RESULT), AsyncDict(one, STDOUT), AsyncDict(one, STDERR)

    def __iter__(self) -> Iterator[int]:
        program = self._task.program
        assert program is not None
        return program.iter_uids()

    def __len__(self) -> int:
        program = self._task.program
        assert program is not None
        return program.handles

    def __repr__(self) -> str:
        from alamo.batch import display

        return display.text(self, display.of_handles)

    def _repr_html_(self) -> str:
        from alamo.batch import display

        return display.html(self, display.of_handles)
