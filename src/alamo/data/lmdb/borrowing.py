"""Reading a value where it lies."""

from __future__ import annotations

import logging
import os
import time
from types import TracebackType
from typing import Any, Final

import lmdb

from alamo.data.lmdb.environment import Environment, Transaction
from alamo.data.lmdb.open_dict import OpenDict
from alamo.data.lmdb.records import Reference
from alamo.data.store import Packed

__all__ = ["Borrow"]

_LONG_S: Final = 5.0
_log = logging.getLogger("alamo.data")


class Borrow:
    """A read transaction that lasts as long as the block; ``None`` if there is no such key.

    Its views are read-only and end with the block.  While it lasts, pages of what others replace
    or delete are not used again, so it is warned about when it is long.
    """

    def __init__(self, opened: OpenDict, key: bytes) -> None:
        self._dict = opened
        self._key = key
        self._environment: Environment | None = None
        self._txn: Transaction = None

    def __enter__(self) -> Packed | None:
        while True:
            record = self._dict.look_up(self._key)
            if record is None:
                return None
            if record.reference is None or self._dict.inside() is not None:
                value = self._dict.value_of(record)
                if value is not None:
                    return value
                continue
            views = self._begin(record.reference)
            if views is not None:
                if record.is_head_apart:
                    return bytes(views[0]), views[1:]
                return record.head, views

    def _begin(self, reference: Reference) -> list[Any] | None:
        """Views of the buffers; ``None``: they have been removed meanwhile."""
        environment = self._dict.buffers.environment(reference.shard)
        while True:
            raw = environment.opened
            environment.holders += 1
            self._dict.home.hold()  # handles may be closed inside the block
            txn = None
            try:
                txn = environment.begin(None, None, False, True)
                found = self._dict.buffers.view(txn, environment, reference)
                if found is not None:
                    self._environment, self._txn = environment, txn
                    self._pid, self._started_s = os.getpid(), time.monotonic()
                    return [parts[0] if len(parts) == 1 else b"".join(parts) for parts in found]
            except lmdb.Error as error:
                self._let_go(environment, txn)
                txn = None
                environment.recover(error, raw, 0)
                continue
            except BaseException:
                self._let_go(environment, txn)
                raise
            self._let_go(environment, txn)
            return None

    def _let_go(self, environment: Environment, txn: Transaction) -> None:
        if txn is not None:
            txn.abort()
        environment.holders -= 1
        self._dict.home.release()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        environment, txn = self._environment, self._txn
        self._environment = self._txn = None
        if environment is None:
            return
        if self._pid != os.getpid():  # a parent's transaction
            self._dict.home.release()
            return
        self._let_go(environment, txn)
        took_s = time.monotonic() - self._started_s
        if took_s > _LONG_S:
            _log.warning(
                "a value of the DDict in %s was borrowed for %.1f s, while nothing that others "
                "replaced could be used again: copy what you need for longer",
                self._dict.home.path,
                took_s,
            )
