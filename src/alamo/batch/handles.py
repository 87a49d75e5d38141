"""The handles of all subtasks of a compiled task."""

from __future__ import annotations

from alamo.batch.by_uid import ByUid
from alamo.batch.results import AsyncDict
from alamo.batch.task import Task
from alamo.protocol.records import RESULT, STDERR, STDOUT

Handles = tuple[AsyncDict, AsyncDict, AsyncDict]


class HandlesByUid(ByUid[Handles]):
    """What ``start`` of a compiled task returns: uid -> (result, stdout, stderr)."""

    def __init__(self, task: Task) -> None:
        assert task.program is not None
        super().__init__(task.program)
        self._task = task

    def _at(self, element: int) -> Handles:
        program, batch = self._program, self._task.batch
        if element in program.arrays:
            from alamo.batch.array_task import handle_at  # which needs this module

            return (
                handle_at(batch, program, element, RESULT),
                handle_at(batch, program, element, STDOUT),
                handle_at(batch, program, element, STDERR),
            )
        one = Task(
            batch,
            name=program.names.get(element),
            _uid=program.uid_of(element),
            program=program,
            index=element,
        )
        return AsyncDict(one, RESULT), AsyncDict(one, STDOUT), AsyncDict(one, STDERR)

    def __repr__(self) -> str:
        from alamo.batch import display

        return display.text(self, display.of_handles)

    def _repr_html_(self) -> str:
        from alamo.batch import display

        return display.html(self, display.of_handles)
