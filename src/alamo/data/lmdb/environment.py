"""One LMDB environment, which is one file, as this process has it open.

It is opened once a process and opened anew at the first use in the child of a fork.  A fork needs
no locks here: the child leaves alone what it has inherited, whatever other threads of its parent
were doing with it.

**Room.** A write transaction makes sure of blocks for the pages that it may take (`ensure`).
When the file cannot grow, the environment becomes *tight*: its map then ends where the blocks
end, so that LMDB itself refuses what does not fit into pages that were freed.  It is opened anew
for that, as nothing of this process may be inside meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

import lmdb

from alamo.data.home import Home
from alamo.data.lmdb.control import ALLOCATED
from alamo.data.lmdb.files import (
    EVEN_TRANSACTION,
    PAGE_BYTES,
    WAKE_MASK,
    MetaPages,
    keep_for_ever,
    make_lock_file,
    open_file,
    open_tables,
)
from alamo.data.lmdb.space import SMALL_PAGES, Space, reserve
from alamo.data.lmdb.write_lock import WriteLock
from alamo.errors import DataStoreError, UsageError

__all__ = ["Environment", "NoRoom", "Transaction"]

#: What the binding's `begin` gives: its stubs make it generic where it is not at run time.
Transaction = Any

_RETRIES_MAX: Final = 100
#: A key that nothing else has.
_NOTHING: Final = b"\x01"
#: How long a write waits for readers who hold the pages that it could use.
_REMOVAL_WAITS_S: Final = 2.0
_PUT_WAITS_S: Final = 0.1
_T = TypeVar("_T")


class NoRoom(Exception):
    """The pages that a transaction asked for are not there."""


class Environment:
    """One file of a home.

    Args:
        file: its name.
        slot: its number in the home, from 0.
        tables: named tables beside the main one, whose keys have several values each.
        full: makes the error that says that there is no room, given the text.
        single_tables: more tables, whose keys have one value.

    Attributes:
        begin: begins a transaction: ``begin(None, None, is_write, gives_views)``.
        words: the two meta pages (:class:`MetaPages`).
        small_last: while the last page in use is not beyond it there is room for a small put.
        tables: by name; they are others when the file has been opened anew.
        holders: transactions of this process that last, under which nothing may be closed.
    """

    begin: Callable[..., Transaction]
    words: Any

    def __init__(
        self,
        home: Home,
        file: str,
        slot: int,
        tables: Sequence[str] = (),
        full: Callable[[str], Exception] = DataStoreError,
        single_tables: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.tables: dict[str, Any] = {}
        self.holders = 0
        self.small_last = -1
        self._full = full
        self._tables = (tables, single_tables)
        self._path = f"{home.path}/{file}"
        self._space = Space(home, self._path, slot)
        self._gate = threading.RLock()
        self._is_tight = False
        self._is_closed = False
        self._raw: lmdb.Environment | None = None
        self._open()

    # -- opening and closing --

    def _open(self) -> None:
        try:
            with self.home.opening():
                is_new = self.home.control[ALLOCATED + self._space.slot] == 0
                if is_new:
                    make_lock_file(self._path)
                self._take(self.home.about.map_bytes)
                if is_new and not self._space.begin():
                    raise self.no_room()
            # That may wait for a writer, who may wait to open another file.
            self.tables = open_tables(self._raw_now(), *self._tables)
        except BaseException as error:
            raw, self._raw = self._raw, None
            if raw is not None:
                raw.close()
            if isinstance(error, lmdb.Error | OSError):
                raise DataStoreError(f"{self._path} cannot be opened: {error}") from error
            raise
        self._know_pages()
        self.begin = self._raw_now().begin

    def _take(self, map_bytes: int) -> None:
        self._raw = opened = open_file(self._path, map_bytes, sum(map(len, self._tables)))
        opened.reader_check()
        self._meta = MetaPages(opened, self._path)
        self._lock = WriteLock(self._path)
        self.words = self._meta.words

    def _know_pages(self) -> None:
        """Bring up to date what follows from how many pages are allocated."""
        pages = self._space.pages = self.home.control[ALLOCATED + self._space.slot]
        self.small_last = -1 if self._is_tight else pages - reserve(pages) - SMALL_PAGES

    def close(self) -> None:
        """Close it for this process; waits for other threads' writes."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self.begin = partial(_refuse, self.home.path)
                raw, self._raw = self._raw, None
                if raw is not None:
                    raw.close()
                    del self._meta, self.words

    def leave(self) -> None:
        """The interpreter ends: threads may be inside for ever, so it is not closed."""
        self._is_closed = True
        if self._raw is not None:
            keep_for_ever(self._raw)

    def after_fork(self) -> None:
        """Leave what this child has inherited to its parent."""
        self._gate = threading.RLock()
        self.holders = 0
        if not self._is_closed and self._raw is not None:
            keep_for_ever(self._raw)
            self._raw = None
            self.begin = self._begin_anew

    def _begin_anew(self, *args: Any) -> Transaction:
        """Open the file at the first use in a child; wait while a thread opens it anew."""
        with self._gate:
            if self._raw is None and not self._is_closed:
                self._is_tight = False
                self._open()
        return self.begin(*args)

    # -- writing --

    def write(self, work: Callable[[Transaction], _T], pages: int, is_removal: bool = False) -> _T:
        """Do some work in a write transaction; it may be done more than once.

        Args:
            work: given the transaction, which it neither commits nor aborts.
            pages: it may take beyond those that every write does.
            is_removal: it makes room in the end, so it may use what is kept back for that.

        Raises:
            what ``full`` makes: there is no room; nothing has changed.
        """
        patience: Iterator[bool] | None = None
        for _ in range(_RETRIES_MAX):
            raw = self._raw
            txn = None
            try:
                txn = self.begin(None, None, True)
                self.ensure(txn, pages, is_removal)
                result = work(txn)
                txn.commit()
                if not self.words[EVEN_TRANSACTION] & WAKE_MASK:
                    self.wake_writer()
                return result
            except (lmdb.Error, NoRoom) as error:
                if txn is not None:
                    txn.abort()
                    txn = None  # the binding does not close under a transaction that is left
                if isinstance(error, lmdb.MapFullError):
                    patience = patience or self._patience(is_removal)
                    if next(patience, False):
                        continue
                self.recover(error, raw, pages)
            except BaseException:
                if txn is not None:
                    txn.abort()
                raise
        raise DataStoreError(f"{self._path} has been opened anew {_RETRIES_MAX} times in one call")

    def wake_writer(self) -> None:
        """Have one who waits to write look again: he may have been forgotten."""
        self._lock.wake_one()

    def _patience(self, is_removal: bool) -> Iterator[bool]:
        """What to do before it is believed that LMDB has no page: freed ones may be used after
        one more commit, and when nobody reads any more who began before they were freed."""
        deadline_s = time.monotonic() + (_REMOVAL_WAITS_S if is_removal else _PUT_WAITS_S)
        pause_s = 0.000_5
        self._advance()
        yield True
        while self._is_read() and time.monotonic() < deadline_s:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
            self._advance()
            yield True

    def _advance(self) -> None:
        """Commit something."""
        txn = None
        try:
            txn = self.begin(None, None, True)
            txn.put(_NOTHING, b"")
            txn.delete(_NOTHING)
            txn.commit()
        except lmdb.Error:
            if txn is not None:
                txn.abort()

    def _is_read(self) -> bool:
        """Whether any process is inside a read transaction, after the dead were removed."""
        raw = self._raw_now()
        raw.reader_check()
        lines = raw.readers().splitlines()[1:]
        return any(line.split()[-1] != "-" for line in lines if line.strip())

    def read(self, work: Callable[[Transaction], _T], views: bool = False) -> _T:
        """Do some work in a read transaction; it may be done more than once."""
        for _ in range(_RETRIES_MAX):
            raw = self._raw
            try:
                return work(self.begin(None, None, False, views))
            except lmdb.Error as error:
                self.recover(error, raw, 0)
        raise DataStoreError(f"{self._path} has been opened anew {_RETRIES_MAX} times in one call")

    def ensure(self, txn: Transaction, pages: int, is_removal: bool = False) -> None:
        """Inside a write transaction: make sure of blocks for so many pages more.

        Raises:
            NoRoom: there are not enough; the transaction can go on.
        """
        if self._is_tight:
            unused = self._space.pages - self.used_pages(txn)
            if not is_removal and pages + reserve(self._space.pages) > unused:
                raise NoRoom
            return
        last = self._meta.last()
        wanted = last + pages + SMALL_PAGES + (last >> 8)
        if not is_removal:
            wanted += reserve(last)
        if wanted <= self._space.pages:
            return
        self._raw_now().reader_check()  # what dead readers held is used again from now on
        if not self._space.grow(wanted):
            raise NoRoom
        self._know_pages()

    def last_page(self) -> int:
        """The last page in use."""
        return self._meta.last()

    def is_newest(self, number: int) -> bool:
        """Whether nothing has been committed since the transaction of that number began."""
        return self._meta.newest() == number

    def used_pages(self, txn: Transaction) -> int:
        """Pages that hold something, the list of those that are free by estimate."""
        used = 2 + 8 + (self._space.pages >> 8)
        for table in (None, *self.tables.values()):
            figures = txn.stat() if table is None else txn.stat(table)
            used += figures["branch_pages"] + figures["leaf_pages"] + figures["overflow_pages"]
        return int(used)

    def allocated_pages(self) -> int:
        """Pages with blocks."""
        return int(self.home.control[ALLOCATED + self._space.slot])

    def limit_pages(self) -> int:
        """Pages that there may be for all files of the home."""
        return self._space.taken_pages() + max(0, self._space.free_pages())

    def readers(self) -> int:
        """How many threads read or have read, in all processes."""
        return int(self.read(lambda _: self._raw_now().info()["num_readers"]))

    def clear(self, txn: Transaction) -> None:
        """Empty the main table, named tables and all: nobody uses it again."""
        txn.drop(self._raw_now().open_db(None, txn), delete=False)

    # -- what may go wrong --

    def recover(self, error: BaseException, raw: Any, pages: int) -> None:
        """After an error of a transaction, which has been aborted: return to try again, or raise.

        Args:
            raw: what was open when the transaction began.
            pages: that it asked for.
        """
        with self._gate:
            if self._is_closed:
                _refuse(self.home.path)
            if raw is None or raw is not self._raw:
                return  # opened anew meanwhile
            is_full = isinstance(error, lmdb.ReadersFullError | lmdb.MapFullError)
            if is_full and self._raw_now().reader_check():
                return
            if isinstance(error, lmdb.MapResizedError):
                self._reopen(is_tight=False)
                return
            if isinstance(error, lmdb.ReadersFullError):
                raise DataStoreError(
                    f"{self._path} is read by as many threads as it can be: close what is not used"
                ) from error
            if isinstance(error, NoRoom | lmdb.MapFullError):
                self._find_room(error, pages)
                return
        raise DataStoreError(f"{self._path}: {error}") from error

    def _find_room(self, error: BaseException, pages: int) -> None:
        """Let the environment become tight, or end that; raise if neither helps."""
        if not self._is_tight and not self.holders:
            self._reopen(is_tight=True)
            return
        if self._is_tight and not self.holders:
            last = self._meta.last()
            if self._space.grow(last + pages + SMALL_PAGES + (last >> 8) + reserve(last)):
                self._reopen(is_tight=False)
                return
        raise self.no_room() from error

    def _reopen(self, is_tight: bool) -> None:
        """Open with a map that ends at the blocks, or with the whole one."""
        self.begin = self._begin_anew
        if self.holders:  # one has just begun
            self.begin = self._raw_now().begin
            raise self.no_room()
        self._raw_now().close()
        self._raw = None
        if not is_tight:
            self._is_tight = False
            self._open()
            return
        with self.home.growing():  # the file is cut to that size, so it must stay the right one
            pages = self.home.control[ALLOCATED + self._space.slot]
            self._take(pages * PAGE_BYTES)
        self._is_tight = True
        self.tables = open_tables(self._raw_now(), *self._tables)
        self._know_pages()
        self.begin = self._raw_now().begin

    @property
    def opened(self) -> Any:
        """What is open now, to be given to :meth:`recover`."""
        return self._raw

    def _raw_now(self) -> lmdb.Environment:
        raw = self._raw
        if raw is None:
            raise DataStoreError(f"{self._path} is not open")
        return raw

    def no_room(self) -> Exception:
        """What is raised when it is full."""
        used, free = self._space.taken_pages(), max(0, self._space.free_pages())
        total = self.home.about.total_bytes
        limit = f"total_mem={total}" if total else "what the file system has"
        return self._full(
            f"no room in {self.home.path}: its files have {used * PAGE_BYTES} bytes, "
            f"{free * PAGE_BYTES} more are left of {limit}; delete something, give a larger "
            "total_mem=, or choose a directory with more room with directory= or ALAMO_DATA_DIR"
        )


def _refuse(path: str, *_: Any) -> NoReturn:
    raise UsageError(f"this process has closed {path}")
