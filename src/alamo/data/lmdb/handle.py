"""A handle of an embedded dictionary: how it is made, opened, kept and closed; and what is done
with the dictionary as a whole."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from itertools import islice
from threading import get_ident
from types import TracebackType
from typing import Any, Final, Self

from alamo.data.checkpoints import read_checkpoint, write_checkpoint
from alamo.data.home import Home, share_home
from alamo.data.lmdb.control import ATTENTION, FROZEN
from alamo.data.lmdb.environment import Transaction
from alamo.data.lmdb.open_dict import OpenDict
from alamo.data.lmdb.records import table_key
from alamo.data.lmdb.room import buffer_files, make_roomy_home
from alamo.data.lmdb.snapshot import entries_at_once
from alamo.data.lmdb.transaction import WriteTransaction
from alamo.data.store import DictStore, Watch
from alamo.errors import UsageError

__all__ = ["Handle"]

_RESTORED_AT_ONCE: Final = 1000


class Handle(DictStore):
    """Those methods of a dictionary store that are about the whole."""

    def __init__(self, home: Home) -> None:
        """Take over one use of a home."""
        self._home = home
        self._is_closed = False
        files = buffer_files(home)
        self._dict = home.part("dict", lambda: OpenDict(home, files))
        self._records = self._dict.records
        self._current = self._dict.current
        self._control = home.control
        self.id = home.about.id
        self.place = home.path

    @classmethod
    def make(
        cls,
        *,
        name: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        total_mem: int | None = None,
    ) -> Self:
        """Make a dictionary, or open the one of that name; see :func:`make_roomy_home`."""
        home = make_roomy_home(
            "ddict",
            "DDict",
            name=name,
            directory=directory,
            total_mem=total_mem,
        )
        return cls._over(home)

    @classmethod
    def open(cls, path: str, uid: str) -> Self:
        """Open what a handle names; see :func:`share_home`."""
        return cls._over(share_home(path, uid))

    @classmethod
    def _over(cls, home: Home) -> Self:
        try:
            return cls(home)
        except BaseException:
            home.release()
            raise

    def handle(self) -> tuple[Any, ...]:
        self._home.keep()
        return "embedded", self._home.path, self.id

    def sibling(self) -> Self:
        base = os.path.dirname(os.path.dirname(self._home.path))
        return self.make(directory=base, total_mem=self._home.about.total_bytes or None)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._home.unkeep()
            self._home.release()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self._is_closed = True
            self._home.release()

    def destroy(self) -> None:
        if self._dict.inside() is not None:
            raise UsageError("a transaction destroys its DDict: leave the block first")
        self._dict.destroy()
        self._home.destroy()
        self.close()

    # -- several operations as one --

    def transaction(self) -> AbstractContextManager[None]:
        return _Block(self._dict)

    # -- waiting --

    def watch(self, key: bytes) -> AbstractContextManager[Watch]:
        if self._dict.inside() is not None:
            raise UsageError(
                "a transaction waits for a key, which nobody can put before it ends: wait first"
            )
        return self._dict.waiters.watch(table_key(key))

    # -- the whole --

    def freeze(self) -> None:
        self._set(FROZEN)

    def unfreeze(self) -> None:
        self._set(0)

    def _set(self, bit: int) -> None:
        def change(txn: Transaction, _: object) -> None:
            self._control[ATTENTION] = self._control[ATTENTION] & ~FROZEN | bit

        self._dict.change(change, 0, is_removal=True, is_upkeep=True)

    def is_frozen(self) -> bool:
        return bool(self._control[ATTENTION] & FROZEN)

    def shard_of(self, key: bytes) -> int:
        return self._dict.buffers.shard_of(key)

    def is_local(self, key: bytes) -> bool:
        return True

    def stats(self) -> dict[str, Any]:
        about = self._home.about
        used, allocated = self._dict.used_bytes()
        return {
            "items": self.count(),
            "shards": self._dict.buffers.shards,
            "bytes_used": used,
            "bytes_allocated": allocated,
            "bytes_limit": about.total_bytes or self._dict.limit_bytes(),
            "place": self.place,
            "id": self.id,
            "name": about.name or None,
            "made_by": about.creator[0],
            "frozen": self.is_frozen(),
            "readers": self._records.readers(),
        }

    def checkpoint(self, path: str) -> None:
        if self._dict.inside() is not None:
            raise UsageError("a checkpoint shows what is committed: take it after the transaction")
        with entries_at_once(self._dict) as entries:
            write_checkpoint(path, entries)

    def restore(self, path: str) -> None:
        entries = read_checkpoint(path)
        while some := list(islice(entries, _RESTORED_AT_ONCE)):
            self.put_many(some)


class _Block:
    """A transaction of the thread that enters it."""

    def __init__(self, opened: OpenDict) -> None:
        self._dict = opened

    def __enter__(self) -> None:
        inside = self._dict.inside()
        if inside is None:
            self._dict.home.hold()  # handles may be closed inside the block
            try:
                self._dict.current[get_ident()] = WriteTransaction(self._dict.records)
            except BaseException:
                self._dict.home.release()
                raise
        else:
            inside.depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        inside = self._dict.inside()
        assert inside is not None
        inside.depth -= 1
        if inside.depth:
            return
        del self._dict.current[get_ident()]
        try:
            if error is not None:
                self._dict.abort(inside)
            elif inside.is_own:
                self._dict.commit(inside)
        finally:
            self._dict.home.release()
