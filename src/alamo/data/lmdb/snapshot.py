"""All entries of a dictionary as they are at one instant, while others write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alamo.data.lmdb.control import ALLOCATED
from alamo.data.lmdb.environment import Environment, Transaction
from alamo.data.lmdb.open_dict import FIRST_KEY, OpenDict
from alamo.data.lmdb.records import parse
from alamo.data.store import Entry

__all__ = ["entries_at_once"]


@contextmanager
def entries_at_once(opened: OpenDict) -> Iterator[Iterator[Entry]]:
    """The entries, their buffers as views.  Not inside a transaction of this thread.

    While it lasts, pages of what is replaced are not used again.
    """
    environments = [opened.records]
    if opened.buffers.has_files:
        environments += [
            opened.buffers.environment(shard)
            for shard in range(opened.buffers.shards)
            if opened.control[ALLOCATED + 1 + shard]
        ]
    for environment in environments:
        environment.holders += 1
    views: dict[Environment, Transaction] = {}
    try:
        # Buffers are committed before their records and deleted after, so what all records of
        # an instant refer to is there as long as no record can be committed.
        opened.records.write(lambda txn: _begin_all(environments, views), 0, is_removal=True)
        yield _entries(opened, views)
    finally:
        for environment in environments:
            txn = views.pop(environment, None)
            if txn is not None:
                txn.abort()
            environment.holders -= 1


def _begin_all(environments: list[Environment], views: dict[Environment, Transaction]) -> None:
    for environment in environments:
        old = views.pop(environment, None)
        if old is not None:
            old.abort()
        views[environment] = environment.begin(None, None, False, True)


def _entries(opened: OpenDict, views: dict[Environment, Transaction]) -> Iterator[Entry]:
    cursor = views[opened.records].cursor()
    if not cursor.set_range(FIRST_KEY):
        return
    for stored, found in cursor.iternext():
        record = parse(bytes(found))
        key = record.key or bytes(stored)
        if not opened.is_valid(record, key):
            continue
        head, buffers = record.head, _buffers(opened, views, record.reference)
        if record.is_head_apart:
            head, buffers = bytes(buffers[0]), buffers[1:]
        yield Entry(key, record.kept, (head, buffers))


def _buffers(opened: OpenDict, views: dict[Environment, Transaction], reference: Any) -> list[Any]:
    if reference is None:
        return []
    environment = opened.buffers.environment(reference.shard)
    found = opened.buffers.view(views[environment], environment, reference)
    assert found is not None, "the buffers of a record are there as long as it is"
    return [parts[0] if len(parts) == 1 else b"".join(parts) for parts in found]
