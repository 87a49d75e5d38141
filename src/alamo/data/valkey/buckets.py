"""The names under which a store lies on its servers, and which of them a key belongs to."""

from __future__ import annotations

from typing import Any, TypeAlias
from zlib import crc32

from alamo.data.valkey.functions import function
from alamo.data.valkey.servers import Servers

__all__ = ["Buckets", "Names"]

#: The six names of a bucket; the first, its *base*, tells where it lies.
Names: TypeAlias = tuple[bytes, ...]

#: Of each bucket of a kind of stores, in the order in which the functions expect them.
_ENDINGS = {
    "ddict": (b"", b":state", b":kept", b":ttl", b":parts", b":waits"),
    "queue": (b"", b":state", b":unfinished", b":takers", b":parts", b":putters"),
}
_DESTROY = function("destroy")


class Buckets:
    """The buckets of one store, on its servers.

    Args:
        kind: of the store, "ddict" or "queue".
        id: of the store.
        count: how many they are; all who use the store must agree.

    Attributes:
        names: those of each bucket.
    """

    def __init__(self, servers: Servers, kind: str, id: str, count: int) -> None:
        self.servers = servers
        self.names: list[Names] = [
            tuple(b"alamo:{%b/%d}%b" % (id.encode(), number, ending) for ending in _ENDINGS[kind])
            for number in range(count)
        ]

    def number_of(self, key: bytes) -> int:
        """The bucket of a key: of what stands in braces in it, if anything does, as Redis has it.

        So users can put keys together: ``"{mesh7}:x"`` and ``"{mesh7}:y"``.
        """
        if b"{" in key:
            start = key.index(b"{") + 1
            end = key.find(b"}", start)
            if end > start:
                key = key[start:end]
        return crc32(key) % len(self.names)

    def of(self, key: bytes) -> Names:
        """The names of the bucket of a key."""
        return self.names[self.number_of(key)]

    def call_all(self, function: bytes, *arguments: Any) -> list[Any]:
        """Have a function run over all buckets: as one on one server, on a cluster one bucket
        after the other.  It must be such as may be executed twice."""
        if not self.servers.is_cluster:
            keys = [name for names in self.names for name in names]
            return [self.servers.call(keys[0], b"FCALL", function, len(keys), *keys, *arguments)]
        return self.servers.call_each(
            [
                (names[0], (b"FCALL", function, len(names), *names, *arguments))
                for names in self.names
            ]
        )

    def destroy(self, in_use: bool) -> None:
        """Remove all that is in them.

        Args:
            in_use: somebody may have the store open; for an hour, changes are refused.
        """
        self.call_all(_DESTROY, "gone" if in_use else "")
