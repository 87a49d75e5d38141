"""Waiting for many tasks: ``as_completed`` and ``wait``, as in ``concurrent.futures``."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import NamedTuple

from alamo.batch.arrivals import Arrivals, Ended
from alamo.batch.endings import ending_of
from alamo.batch.task import Task
from alamo.errors import UsageError, WaitTimeout

__all__ = ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "Done", "as_completed", "wait"]


class Done(NamedTuple):
    """What ``wait`` returns.

    Attributes:
        done: tasks that have ended, successfully or not.
        not_done: the others.
    """

    done: set[Task]
    not_done: set[Task]


def as_completed(tasks: Iterable[Task], timeout: float | None = None) -> Arrivals[Task]:
    """Tasks as they end, for ``for`` or ``async for``; those first that have ended already.

    It does not wait for callbacks.  A task given twice comes once.

    Args:
        tasks: started tasks of every kind: single, compiled, subtasks, arrays; of any Batch.
        timeout: seconds for all of them, from now on.

    Raises:
        UsageError: a task has not been started; raised at once.
        WaitTimeout: (a ``TimeoutError``) not all have ended in time; they go on.
        BatchBroken: the others will never end.

    Cost: 3 us a task.

    Example:
        >>> import alamo
        >>> with alamo.Batch(num_workers=1) as batch:
        ...     tasks = [batch.function(pow, 2, n) for n in range(3)]
        ...     _ = batch.compile(tasks).start()
        ...     sorted(task.get() for task in alamo.as_completed(tasks, timeout=60))
        [1, 2, 4]
    """
    return _ended(tasks, timeout)


def wait(
    tasks: Iterable[Task],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
) -> Done:
    """Wait until tasks have ended; arguments as those of ``as_completed``.

    Args:
        return_when: ``ALL_COMPLETED``, or ``FIRST_COMPLETED``, or ``FIRST_EXCEPTION``: when one
            has failed or did not run because another had, or all have ended.

    Returns:
        The sets ``(done, not_done)``; what is ``not_done`` goes on.  The end of the time is no
        error.

    Raises:
        UsageError: a task has not been started, or ``return_when`` is none of the three.
        BatchBroken: tasks that it waits for will never end.

    Example:
        >>> import alamo
        >>> with alamo.Batch(num_workers=1) as batch:
        ...     tasks = [batch.function(pow, 2, n) for n in range(3)]
        ...     _ = batch.compile(tasks).start()
        ...     done, not_done = alamo.wait(tasks)
        >>> len(done), len(not_done)
        (3, 0)
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise UsageError(
            f"return_when is ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, not {return_when!r}"
        )
    ended = _ended(tasks, timeout)
    done: set[Task] = set()
    try:
        for task in ended:
            done.add(task)
            if return_when == FIRST_COMPLETED or (
                return_when == FIRST_EXCEPTION and ending_of(task).has_failed()
            ):
                break
    except WaitTimeout:
        pass
    done.update(ended.take_ready())
    ended.close()
    return Done(done, set(ended.left.values()))


def _ended(tasks: Iterable[Task], timeout_s: float | None) -> Ended[Task]:
    return Ended([(task, ending_of(task)) for task in dict.fromkeys(tasks)], timeout_s)
