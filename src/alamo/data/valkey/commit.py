"""Several changes of a dictionary as one, if what was seen before is still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from alamo.core.keys import decode
from alamo.data.store import Packed
from alamo.data.valkey.buckets import Buckets
from alamo.data.valkey.functions import function
from alamo.data.valkey.records import joined
from alamo.data.valkey.requests import Requests
from alamo.data.valkey.values import Values, Written, inline_max_bytes
from alamo.errors import CrossShardError, DDictFrozenError, DDictFullError

__all__ = ["KEEP_TTL", "Write", "check_one_shard", "commit"]

_COMMIT = function("commit")
_SHRINK = function("shrink")
#: As a time to live: what the entry has.
KEEP_TTL: Final = "keep"


class Write(NamedTuple):
    """One change.

    ``value`` is ``None`` to remove the key.  ``ttl`` is in milliseconds, empty for none, or
    ``KEEP_TTL``.  ``has_ttl`` tells whether the record is one of an entry with a time to live.
    ``is_new``: a key that was removed before is put, so that nothing of it stays.
    """

    key: bytes
    kept: bytes
    value: Packed | None
    ttl: str
    has_ttl: bool
    is_new: bool = False


def check_one_shard(buckets: Buckets, one: bytes, other: bytes) -> None:
    """Refuse two keys in one operation that may lie on different servers.

    Raises:
        CrossShardError: they may.
    """
    if buckets.servers.is_cluster and buckets.number_of(one) != buckets.number_of(other):
        raise CrossShardError(
            f"the keys {decode(one)!r} and {decode(other)!r} are changed as one, but lie in "
            "different shards of a cluster. Give keys that belong together a common tag in "
            "braces, such as '{mesh7}:x' and '{mesh7}:y', or change them one by one"
        )


def commit(
    requests: Requests,
    values: Values,
    checks: Mapping[bytes, bytes],
    writes: Sequence[Write],
    again: bool = False,
) -> bool:
    """Do all changes, or none: ``False`` when a key no longer holds what was seen.

    Args:
        checks: key -> token of its record, empty for no such key.
        again: it may be done twice.

    Raises:
        CrossShardError: the keys lie in several shards.
        DataStoreError: as all requests; nothing has changed when it is frozen or full.
    """
    buckets = requests.buckets
    keys = [*checks, *(write.key for write in writes)]
    for key in keys[1:]:
        check_one_shard(buckets, keys[0], key)
    numbers = {key: buckets.number_of(key) for key in keys}
    used = list(dict.fromkeys(numbers.values()))
    place_of = {number: place for place, number in enumerate(used, 1)}
    names = [name for number in used for name in buckets.names[number]]
    arguments: list[Any] = [len(checks), len(writes)]
    for key, token in checks.items():
        arguments += (place_of[numbers[key]], key, token)
    limit = inline_max_bytes(write.value for write in writes if write.value is not None)
    staged: list[tuple[bytes, Written]] = []
    for write in writes:
        arguments += (place_of[numbers[write.key]], write.key)
        if write.value is None:
            arguments += ("delete", b"", "", "", b"")
            continue
        base = buckets.names[numbers[write.key]][0]
        written = values.write(base, write.value, write.has_ttl, limit)
        staged.append((base, written))
        action = "replace" if write.is_new else "put"
        arguments += (action, write.kept, write.ttl, written.parts, written.record)
    arguments[:-1] = [joined(argument) for argument in arguments[:-1]]
    name = _COMMIT if staged or not writes else _SHRINK
    try:
        done = bool(requests.change(names, name, *arguments, again=again))
    except (DDictFullError, DDictFrozenError):
        values.discard(staged)
        raise
    if not done:
        values.discard(staged)
    return done
