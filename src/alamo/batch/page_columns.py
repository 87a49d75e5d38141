"""What neighbouring tasks become in a page, as columns: made for all at once, in C."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence
from itertools import chain, repeat

from alamo.batch.task import Task
from alamo.protocol.pickling import ATOMS, ATOMS_PROTOCOL


def pickle_plain(tasks: Sequence[Task]) -> list[bytes] | None:
    """Pickled arguments of tasks that have only numbers and strings; ``None`` if one has others."""
    args = [task.args for task in tasks]  # type: ignore[attr-defined]
    if not ATOMS.issuperset(map(type, chain.from_iterable(args))):
        return None
    return list(map(pickle.dumps, args, repeat(ATOMS_PROTOCOL)))


def spread(blobs: list[bytes], tasks: Sequence[Task], first: int, end: int) -> list[bytes]:
    """The blob of each element, nothing for joins, which stand before tasks."""
    spread = [b""] * (end - first)
    for task, blob in zip(tasks, blobs):
        spread[task.index - first] = blob
    return spread


def have_accesses(tasks: Sequence[Task]) -> bool:
    return any([t.reads or t.writes for t in tasks])  # noqa: C419  a generator is slower


def column_of_uids(tasks: Sequence[Task], first: int, end: int) -> array[int]:
    """The uid of each element, 0 for a join."""
    uids = array("Q", [task._uid for task in tasks])
    if end - first == len(tasks):
        return uids
    column = array("Q", bytes(8 * (end - first)))
    for task, uid in zip(tasks, uids):
        column[task.index - first] = uid
    return column
