"""Calls of functions on the buckets of a store; what they refuse becomes an error of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alamo.data.valkey.buckets import Buckets
from alamo.data.valkey.failures import Refusal
from alamo.data.valkey.nodes import packed, packed_start
from alamo.errors import DataStoreError, DDictFrozenError

__all__ = ["Requests"]

#: Up to so many arguments the beginnings of commands are kept.
_PACKED_MOST = 5


class Requests:
    """Calls functions.

    Args:
        label: what errors call the store.
        full: the class of the error when memory has run out.

    Raises (all methods):
        DataStoreError: as ``Servers.call``; and the store is frozen, gone or full.
    """

    def __init__(self, buckets: Buckets, label: str, full: type[DataStoreError]) -> None:
        self.buckets = buckets
        self.label = f"{label} at {buckets.servers.address.place}"
        self._full = full
        self._call = buckets.servers.call
        self._change = buckets.servers.change
        self._starts: dict[tuple[bytes, bytes, int], bytes] = {}

    def call(self, names: Sequence[bytes], function: bytes, *arguments: Any) -> Any:
        """Have a function that changes nothing for anybody run over buckets of one shard."""
        try:
            return self._call(names[0], *self._command(names, function, arguments))
        except Refusal as refusal:
            raise self.error_of(refusal) from None

    def change(
        self, names: Sequence[bytes], function: bytes, *arguments: Any, again: bool = False
    ) -> Any:
        """Have a function run that changes something.

        Args:
            again: executing it twice does no harm.
        """
        try:
            return self._change(names[0], *self._command(names, function, arguments), again=again)
        except Refusal as refusal:
            raise self.error_of(refusal) from None

    def _command(
        self, names: Sequence[bytes], function: bytes, arguments: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The command; packed, where that is worth while: its keys take longer than the rest."""
        number = len(arguments)
        if number > _PACKED_MOST or len(names) != len(self.buckets.names[0]):
            return (b"FCALL", function, len(names), *names, *arguments)
        if number and type(arguments[-1]) is list:
            return (b"FCALL", function, len(names), *names, *arguments)
        key = (function, names[0], number)
        start = self._starts.get(key)
        if start is None:
            start = packed_start((b"FCALL", function, len(names), *names), number)
            self._starts[key] = start
        return (start + b"".join(map(packed, arguments)),)

    def call_all(self, function: bytes, *arguments: Any) -> list[Any]:
        """Have a function run over all buckets; see ``Buckets.call_all``."""
        try:
            return self.buckets.call_all(function, *arguments)
        except Refusal as refusal:
            raise self.error_of(refusal) from None

    def error_of(self, refusal: Refusal) -> DataStoreError:
        """The error to raise."""
        if refusal.code == "ALAMOFROZEN":
            return DDictFrozenError(f"{self.label} is frozen: call unfreeze() before changing it")
        if refusal.code == "ALAMOGONE":
            return DataStoreError(f"{self.label} was destroyed: make another")
        if refusal.code == "OOM":
            return self._full(
                f"{self.label}: the memory of the server is full; nothing was stored. Remove "
                "something, or raise its 'maxmemory'"
            )
        return DataStoreError(f"{self.label}: {refusal}")
