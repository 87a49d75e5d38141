"""The large buffers of values, which lie apart from their records.

A commit is per environment and copies the value into the map with the lock held, so the buffers
have environments of their own and small puts do not wait for them.  A small home has them in a
table beside the records, so that room that one frees is there for the other.

**Order.** Buffers are committed before the record that refers to them, and deleted after the
commit that ended the reference; so a reader who finds none reads the record again.

**Orphans** are what a writer leaves that was killed in between.  Ids carry the number of the last
sweep, and no record may be committed with an id of an earlier one.  So a sweep counts one up,
looks which ids the records refer to, and removes the others that are older.
"""

from __future__ import annotations

import itertools
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from zlib import crc32

from alamo.data.home import Home
from alamo.data.lmdb.control import ALLOCATED, REFERENCED, SWEEPS
from alamo.data.lmdb.environment import Environment, Transaction
from alamo.data.lmdb.files import PAGE_BYTES
from alamo.data.lmdb.records import MARK, PIECE_BYTES, Reference, parse, pieces_of
from alamo.data.lmdb.transaction import WriteTransaction
from alamo.errors import DDictFullError

__all__ = ["TABLE", "Buffers"]

#: The table beside the records, in a home that has no file for buffers.
TABLE: Final = "buffers"
#: So many more pieces than are referred to may be on their way.
_ON_THE_WAY: Final = 64
_LOOK_EVERY: Final = 64
_SWEEP_EVERY_S: Final = 5.0
_FULL_SWEEP_EVERY_S: Final = 1.0
_BATCH: Final = 1000

_ID: Final = struct.Struct("<I8sI")
_PIECE: Final = struct.Struct(">I")


class Buffers:
    """The buffers of one dictionary or queue, for this process.

    Args:
        records: the environment of the records.
        files: how many environments of their own; 0: a table of that of the records.
        full: makes the error that says that there is no room, given the text.
        first_key: of the records, which may be among others that do not begin as one.
        begin_sweep: done in the transaction of the records with which a sweep begins.
    """

    def __init__(
        self,
        home: Home,
        records: Environment,
        files: int,
        full: Callable[[str], Exception] = DDictFullError,
        first_key: bytes = b"\x02",
        begin_sweep: Callable[[Transaction], None] = lambda _: None,
    ) -> None:
        self._home = home
        self._records = records
        self._files = files
        self._full = full
        self._first_key = first_key
        self._begin_sweep = begin_sweep
        self._swept_s = time.monotonic() - _SWEEP_EVERY_S
        self._is_littered = False
        self._begin_ids()

    def _begin_ids(self) -> None:
        self._tag = secrets.token_bytes(8)
        self._numbers = itertools.count()

    def after_fork(self) -> None:
        """Ids of this process are its own."""
        self._begin_ids()

    @property
    def shards(self) -> int:
        """How many parts they are in."""
        return max(1, self._files)

    @property
    def has_files(self) -> bool:
        """Whether they have environments of their own."""
        return self._files > 0

    def shard_of(self, key: bytes) -> int:
        """In which of them the buffers of a key go."""
        return crc32(key) % self.shards

    def environment(self, shard: int) -> Environment:
        """Where a shard lies."""
        if not self._files:
            return self._records
        return self._home.part(
            f"buffers-{shard}",
            lambda: Environment(self._home, f"buffers-{shard}", 1 + shard, full=self._full),
        )

    def environments(self) -> list[Environment]:
        """Those of their own that are in use."""
        return [
            self.environment(shard)
            for shard in range(self._files)
            if self._home.control[ALLOCATED + 1 + shard]
        ]

    # -- one value --

    def store(
        self, shard: int, buffers: Sequence[Any], inside: WriteTransaction | None
    ) -> Reference:
        """Put buffers under a new id.

        Raises:
            DDictFullError: there is no room; nothing has changed.
        """
        number = next(self._numbers) & 0xFFFFFFFF
        uid = _ID.pack(self._home.control[SWEEPS] & 0xFFFFFFFF, self._tag, number)
        reference = Reference(shard, uid, tuple(memoryview(b).nbytes for b in buffers))
        environment = self.environment(shard)

        def put(txn: Transaction) -> None:
            table = environment.tables.get(TABLE)
            piece = 0
            for buffer in buffers:
                for part in _cut(buffer):
                    txn.put(uid + _PIECE.pack(piece), part, db=table)
                    piece += 1
            if not number % _LOOK_EVERY:
                limit = self._home.control[REFERENCED + shard] + _ON_THE_WAY
                self._is_littered = _entries(environment, txn) > limit

        pages = sum(size // PAGE_BYTES + 2 for size in reference.sizes)
        if inside is None:
            environment.write(put, pages)
        else:
            inside.do(environment, put, pages, False)
        return reference

    def is_current(self, reference: Reference) -> bool:
        """Inside a write transaction of the records: whether a record may refer to it yet."""
        (sweeps,) = struct.unpack_from("<I", reference.id)
        return bool(sweeps == self._home.control[SWEEPS] & 0xFFFFFFFF)

    def count(self, changes: dict[int, int]) -> None:
        """At the end of a write transaction of the records: so many more buffers of each shard are
        referred to."""
        for shard, change in changes.items():
            word = REFERENCED + shard
            self._home.control[word] = max(0, self._home.control[word] + change)

    def load(
        self, reference: Reference, inside: WriteTransaction | None, kind: type = bytearray
    ) -> list[Any] | None:
        """Copy buffers out; ``None``: they have been removed.

        Args:
            kind: ``bytearray``, or ``bytes`` for what is not to be written to.
        """
        environment = self.environment(reference.shard)
        if inside is not None:
            txn = inside.of(environment)
            return self._copy(txn, environment, reference, kind)
        return environment.read(
            lambda txn: self._copy(txn, environment, reference, kind), views=True
        )

    def _copy(
        self, txn: Transaction, environment: Environment, reference: Reference, kind: type
    ) -> list[Any] | None:
        found = self.view(txn, environment, reference)
        if found is None:
            return None
        return [kind(parts[0]) if len(parts) == 1 else kind(b"").join(parts) for parts in found]

    def view(
        self, txn: Transaction, environment: Environment, reference: Reference
    ) -> list[list[Any]] | None:
        """Of each buffer its pieces, as the transaction gives them."""
        table = environment.tables.get(TABLE)
        get, uid, piece = txn.get, reference.id, 0
        found = []
        for size in reference.sizes:
            parts = []
            for _ in range(pieces_of(size)):
                part = get(uid + _PIECE.pack(piece), None, table)
                if part is None:
                    return None
                parts.append(part)
                piece += 1
            found.append(parts)
        return found

    def remove(self, reference: Reference) -> None:
        """Delete buffers to which no record refers.  Not inside a transaction."""
        environment = self.environment(reference.shard)

        def delete(txn: Transaction) -> None:
            table = environment.tables.get(TABLE)
            for piece in range(reference.pieces):
                txn.delete(reference.id + _PIECE.pack(piece), b"", table)

        environment.write(delete, sum(reference.sizes) // PAGE_BYTES // 500, is_removal=True)

    # -- orphans --

    def tidy(self) -> None:
        """Sweep if there is more than records refer to, and not too often.  Cost: 0.1 us."""
        if self._is_littered:
            now_s = time.monotonic()
            if now_s - self._swept_s > _SWEEP_EVERY_S:
                self._swept_s = now_s
                self._is_littered = False
                self.sweep()

    def make_room(self) -> bool:
        """After a put that found none: whether there is more now.  Not inside a transaction."""
        now_s = time.monotonic()
        if now_s - self._swept_s < _FULL_SWEEP_EVERY_S:
            return False
        referred = sum(self._home.control[REFERENCED : REFERENCED + self.shards])
        there = sum(
            environment.read(partial(_entries, environment))
            for environment in self.environments() or [self._records]
        )
        if there <= referred:
            return False
        self._swept_s = now_s
        return self.sweep() > 0

    def sweep(self) -> int:
        """Remove what killed writers have left; returns how many pieces.

        Cost: it looks at all records, 0.4 us each.
        """

        def begin(txn: Transaction) -> int:
            self._begin_sweep(txn)
            self._home.control[SWEEPS] += 1
            return self._home.control[SWEEPS] & 0xFFFFFFFF

        now = struct.pack("<I", self._records.write(begin, 0, is_removal=True))
        referred = self._referred()
        removed = 0
        for shard in range(self.shards):
            if self._files and not self._home.control[ALLOCATED + 1 + shard]:
                continue
            removed += self._sweep_shard(shard, now, referred)
        return removed

    def _referred(self) -> set[bytes]:
        """Ids to which records refer, and perhaps some to which they did."""
        referred: set[bytes] = set()
        last = self._first_key
        while last:
            last = self._records.read(lambda txn: _referred_from(txn, last, referred), views=True)  # noqa: B023
        return referred

    def _sweep_shard(self, shard: int, now: bytes, referred: set[bytes]) -> int:
        environment = self.environment(shard)

        def orphans(txn: Transaction) -> list[bytes]:
            cursor = txn.cursor(environment.tables.get(TABLE))
            return [
                key
                for key in cursor.iternext(keys=True, values=False)
                if key[:4] != now and key[:16] not in referred and len(key) == _ID.size + 4
            ]

        found = environment.read(orphans)
        for at in range(0, len(found), _BATCH):
            batch = found[at : at + _BATCH]

            def delete(txn: Transaction) -> None:
                table = environment.tables.get(TABLE)
                for key in batch:  # noqa: B023
                    txn.delete(key, b"", table)

            environment.write(delete, len(batch), is_removal=True)
        self._recount(shard, environment)
        return len(found)

    def _recount(self, shard: int, environment: Environment) -> None:
        """What is there counts as referred to: what is on its way soon will be."""

        def count(txn: Transaction) -> None:
            self._home.control[REFERENCED + shard] = environment.read(
                partial(_entries, environment)
            )

        self._records.write(count, 0, is_removal=True)


def _entries(environment: Environment, txn: Transaction) -> int:
    """How many pieces there are."""
    table = environment.tables.get(TABLE)
    return int((txn.stat(table) if table else txn.stat())["entries"])


def _referred_from(txn: Transaction, start: bytes, referred: set[bytes]) -> bytes:
    """Add the ids of some records; returns the key to go on from, empty at the end."""
    cursor = txn.cursor()
    if not cursor.set_range(start):
        return b""
    for count, (key, record) in enumerate(cursor.iternext(keys=True, values=True)):
        if count == _BATCH:
            return bytes(key)
        if record[0] >= MARK:
            reference = parse(bytes(record)).reference
            if reference is not None:
                referred.add(reference.id)
    return b""


def _cut(buffer: Any) -> Sequence[Any]:
    """Pieces that LMDB can take."""
    flat = memoryview(buffer)
    if flat.nbytes <= PIECE_BYTES:
        return (buffer,)
    flat = flat.cast("B")
    return [flat[at : at + PIECE_BYTES] for at in range(0, len(flat), PIECE_BYTES)]
