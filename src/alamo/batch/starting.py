"""Starting tasks of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alamo.batch.array_task import _Array, feed, start_array
from alamo.batch.cancelling import asked
from alamo.batch.handles import HandlesByUid
from alamo.batch.single import SingleTasks
from alamo.batch.task import Task, _Compiled
from alamo.errors import BatchBroken, UsageError
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.batch import Batch


def start(batch: Batch, singles: SingleTasks, task: Task) -> Any:
    """Body of ``Task.start``."""
    client = batch._client
    client.check_open()
    program = task.program
    if not task.compiled:
        if program is not None:
            if program.is_cancelled_unstarted:
                return task.result, task.stdout, task.stderr
            raise UsageError(
                f"{task.title()} has been started already; make a new task for each call"
            )
        if isinstance(task, _Array) and task.is_elementwise:
            batch.compile([task]).start()
            task.alone = True
        elif isinstance(task, _Array):
            start_array(task)
        else:
            singles.start(task)
        return task.result, task.stdout, task.stderr
    assert program is not None
    if program.started:
        raise UsageError(f"{task.title()} has been started already; compile a new list of tasks")
    if program.broken is not None:
        raise BatchBroken(f"{task.title()} cannot be started any more: {program.broken}")
    assert isinstance(task, _Compiled)
    try:
        cancelled = program.begin()  # now: its end may come in before the next line has ended
        messages = asked(program.number, cancelled) if cancelled else []
        client.send([*messages, msg.Started(program.number, task.ranks)])
    except BaseException:
        program.started = False  # the manager starts it once, however often it is told
        raise
    task.ranks = b""
    program.to_cancel = {}
    for array in task.arrays:
        array.program.begin()
    if task.arrays:
        feed(task.arrays)
    if not program.tasks:  # nothing but arrays without elements
        client.callbacks.queue(program, program.end_at_once())
        client.let_go(program)
    return HandlesByUid(task)
