"""Several operations of one thread as one: the write transactions under them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

import lmdb

from alamo.data.lmdb.environment import Environment, NoRoom, Transaction
from alamo.data.lmdb.records import Reference
from alamo.errors import DataStoreError, UsageError

__all__ = ["After", "WriteTransaction"]

#: It begins with room for so much; what it takes beyond may find the file full.
_FIRST_PAGES: Final = 256
_LONG_S: Final = 1.0

_T = TypeVar("_T")
_log = logging.getLogger("alamo.data")


class After:
    """What is to be done after a commit.

    Attributes:
        doomed: buffers to which no record refers any more.
        names: waiters to wake.
        counts: by how much the number of buffers that are referred to changes, by shard.
    """

    __slots__ = ("counts", "doomed", "names")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.doomed: list[Reference] = []
        self.names: list[bytes] = []

    def count(self, reference: Reference, sign: int) -> None:
        """A record refers to it, or not any more."""
        shard = reference.shard
        self.counts[shard] = self.counts.get(shard, 0) + sign * reference.pieces


class WriteTransaction:
    """Write transactions in the environments of one home, that of the records first.

    Attributes:
        after: what its operations leave to be done.
        depth: how many blocks it is inside.
    """

    def __init__(self, records: Environment) -> None:
        self.after = After()
        self.depth = 1
        self._pid = os.getpid()
        self._started_s = time.monotonic()
        self._used: dict[Environment, int] = {}
        self._open: dict[Environment, Transaction] = {}
        self.of(records)

    def of(self, environment: Environment) -> Transaction:
        """The transaction in an environment, begun when it is first asked for."""
        if not self.is_own:
            raise UsageError(
                "this process was forked inside a transaction, which is its parent's: leave the "
                "block before you use the DDict"
            )
        found = self._open.get(environment)
        return self._begin(environment) if found is None else found

    def _begin(self, environment: Environment) -> Transaction:
        while True:
            raw, txn = environment.opened, None
            environment.holders += 1
            try:
                txn = environment.begin(None, None, True)
                environment.ensure(txn, _FIRST_PAGES)
                self._open[environment] = txn
                self._used[environment] = 0
                return txn
            except BaseException as error:
                environment.holders -= 1
                if txn is not None:
                    txn.abort()
                    txn = None
                if not isinstance(error, lmdb.Error | NoRoom):
                    raise
                environment.recover(error, raw, _FIRST_PAGES)

    def do(
        self,
        environment: Environment,
        work: Callable[[Transaction], _T],
        pages: int,
        is_removal: bool,
    ) -> _T:
        """As :meth:`Environment.write`, but inside."""
        txn = self.of(environment)
        used = self._used[environment] = self._used[environment] + pages + 1
        try:
            environment.ensure(txn, used, is_removal)
            return work(txn)
        except (NoRoom, lmdb.MapFullError) as error:
            raise environment.no_room() from error
        except lmdb.Error as error:
            raise DataStoreError(f"{environment.home.path}: {error}") from error

    @property
    def is_own(self) -> bool:
        """Whether it is not that of a parent."""
        return self._pid == os.getpid()

    def commit(self) -> None:
        """Make it last; the records go last, so that what they refer to is there."""
        try:
            for txn in reversed(list(self._open.values())):
                txn.commit()
        except lmdb.Error as error:
            self.abort()
            raise DataStoreError(f"a transaction could not be committed: {error}") from error
        self._end()

    def abort(self) -> None:
        """Undo it."""
        if self.is_own:
            for txn in reversed(list(self._open.values())):
                txn.abort()
            self._end()

    def _end(self) -> None:
        for environment in self._open:
            environment.holders -= 1
        self._open.clear()
        took_s = time.monotonic() - self._started_s
        if took_s > _LONG_S:
            _log.warning(
                "a transaction of a DDict has taken %.1f s, while all other writers waited: "
                "compute before it, and only read and write inside",
                took_s,
            )
