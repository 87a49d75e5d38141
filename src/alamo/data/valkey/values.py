"""Values on their way to records and back, also those in parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from alamo.data.store import Packed
from alamo.data.valkey import parts
from alamo.data.valkey.buckets import Names
from alamo.data.valkey.failures import Refusal
from alamo.data.valkey.functions import function
from alamo.data.valkey.records import (
    INLINE_MAX_BYTES,
    Record,
    Reference,
    body_of,
    has_ttl,
    in_parts,
    inline,
    is_plain,
    reference_of,
    value_of,
)
from alamo.data.valkey.requests import Requests
from alamo.errors import DataStoreError

__all__ = ["Values", "Written", "inline_max_bytes"]

_ALIVE = function("alive")


#: So much is stored by one command; of more, values from here on go ahead.
_AT_ONCE_BYTES = 64 << 20
_AHEAD_MIN_BYTES = 1 << 16


def inline_max_bytes(values: Iterable[Packed]) -> int:
    """Up to which size values are stored in records when they are stored all at once."""
    total = sum(len(head) + sum(map(len, buffers)) for head, buffers in values)
    return INLINE_MAX_BYTES if total <= _AT_ONCE_BYTES else _AHEAD_MIN_BYTES


class Written(NamedTuple):
    """A record, and where its parts are if it has any."""

    record: Record
    reference: Reference | None

    @property
    def parts(self) -> str:
        """What the functions take."""
        return "" if self.reference is None else str(self.reference)


class Values:
    """Makes records of values and values of records.

    Args:
        requests: of the store whose values they are.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._servers = requests.buckets.servers

    def write(
        self, base: bytes, value: Packed, has_ttl: bool, inline_max_bytes: int = INLINE_MAX_BYTES
    ) -> Written:
        """Make a record; a value above ``inline_max_bytes`` is written beside the bucket at once,
        where it stays for an hour unless its record follows.

        Raises:
            DataStoreError: there is no room for it.
        """
        head, buffers = value
        if not has_ttl and is_plain(head, buffers):
            return Written(head, None)
        body = body_of(head, buffers)
        if body.size <= inline_max_bytes:
            return Written(inline(body, has_ttl), None)
        try:
            reference = parts.write(self._servers, base, body)
        except Refusal as refusal:
            raise self._requests.error_of(refusal) from None
        return Written(in_parts(reference, has_ttl), reference)

    def discard(self, staged: Iterable[tuple[bytes, Written]]) -> None:
        """Records, each of a base, were not stored after all."""
        for base, written in staged:
            if written.reference is not None:
                parts.remove(self._servers, base, written.reference)

    def read(self, names: Names, key: bytes, record: bytes | None) -> Packed | None:
        """The value of an entry whose record was read; ``None``: it is there no more."""
        base = names[0]
        while record is not None:
            if has_ttl(record) and not self._servers.call(
                base, b"FCALL", _ALIVE, len(names), *names, key
            ):
                return None
            reference = reference_of(record)
            if reference is None:
                return value_of(record)
            value = parts.read(self._servers, base, reference)
            if value is not None:
                return value
            record = self._servers.call(base, b"HGET", base, key)  # it was replaced meanwhile
        return None

    def taken(self, base: bytes, record: bytes) -> Packed:
        """The value of a record that this thread has removed.

        Raises:
            DataStoreError: its parts have been left for ten minutes and are gone.
        """
        reference = reference_of(record)
        if reference is None:
            return value_of(record)
        value = parts.read(self._servers, base, reference)
        if value is None:
            raise DataStoreError(
                f"{self._servers.address.place}: a value of {reference.size} bytes was removed "
                "to be read, and its parts are gone before they were: memory has run out, or "
                "the network is very slow"
            )
        parts.remove(self._servers, base, reference)
        return value
