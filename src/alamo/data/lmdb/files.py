"""Opening LMDB's files, and reading what the binding does not tell quickly."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import lmdb
from lmdb import _envid

from alamo import linux

#: As LMDB chooses it.
PAGE_BYTES: Final = min(os.sysconf("SC_PAGESIZE"), 0x8000)
#: Where in the two meta pages the last page in use stands, in words.
LAST_PAGE: Final = 17
OTHER_LAST_PAGE: Final = PAGE_BYTES // 8 + LAST_PAGE

_READERS_MAX: Final = 512
#: What the lock file takes with so many readers.
_LOCK_FILE_BYTES: Final = 9 * 4096
_GLANCES_MAX: Final = 1000
#: The number of the last transaction, if that is even.
EVEN_TRANSACTION: Final = LAST_PAGE + 1
#: So often, in transactions, one of those who wait for the write lock is woken for no reason.
WAKE_MASK: Final = 255


def make_lock_file(path: str) -> None:
    """Make the lock file of a new environment.

    LMDB would leave holes in it, and to fill one is SIGBUS where no block is left.

    Raises:
        OSError: there is no room for it.
    """
    fd = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _LOCK_FILE_BYTES)
    finally:
        os.close(fd)


def open_file(path: str, map_bytes: int, tables_max: int) -> lmdb.Environment:
    """Open an environment.

    Raises:
        lmdb.Error, OSError: it cannot be opened.
    """
    if not _is_child:
        return _open(path, map_bytes, tables_max)
    # The binding refuses to open a file twice in a process, for the locks of the first one would
    # go with the second.  A child of a fork has inherited environments, or the opening of one that
    # another thread of its parent was about, but no locks.
    known = _envid.env_keys
    _envid.env_keys = lambda path, subdir: ()
    try:
        return _open(path, map_bytes, tables_max)
    finally:
        _envid.env_keys = known


def _open(path: str, map_bytes: int, tables_max: int) -> lmdb.Environment:
    return lmdb.Environment(
        path,
        map_size=map_bytes,
        subdir=False,
        mode=0o600,
        writemap=True,
        sync=False,
        metasync=False,
        map_async=True,
        meminit=False,
        readahead=False,
        max_readers=_READERS_MAX,
        max_spare_txns=1,
        max_dbs=tables_max,
        lib_version=0,
    )


def keep_for_ever(opened: lmdb.Environment) -> None:
    """Have an environment never closed, not even when the interpreter ends.

    For threads that may be inside then; and for what the child of a fork has inherited: to close it
    would end the transactions in it, which frees the slots of the parent's readers, and would wait
    for threads of the parent that are not here.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened))


def open_tables(
    opened: lmdb.Environment, multiple: Iterable[str], single: Iterable[str] = ()
) -> dict[str, Any]:
    """Open the named tables; make those that are not there.

    Their names are entries of the main table, before all keys of :mod:`alamo.core.keys`.
    In a write transaction, also if they are there: tables that the binding opens in a read
    transaction cannot be written to.

    Args:
        multiple: tables whose keys have several values each, of at most 511 bytes.
        single: tables whose keys have one.
    """
    kinds = {**dict.fromkeys(multiple, True), **dict.fromkeys(single, False)}

    txn = opened.begin(write=True)
    try:
        made = {
            name: opened.open_db(b"\x01" + name.encode(), txn=txn, dupsort=kind)
            for name, kind in kinds.items()
        }
        txn.commit()
        return made
    except BaseException:
        txn.abort()
        raise


class MetaPages:
    """The last page in use of a file, 1 us faster than the binding tells it.

    Attributes:
        words: the two meta pages.  If this build of LMDB has them in another form, something
            that looks like a file too long for whoever compares.
    """

    words: Any

    def __init__(self, opened: lmdb.Environment, path: str) -> None:
        self._opened = opened
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            address = linux.map_shared(fd, 2 * PAGE_BYTES, populate=True)
        finally:
            os.close(fd)
        unmap = partial(linux.unmap, address, 2 * PAGE_BYTES)
        self.words = linux.view_of(address, 2 * PAGE_BYTES, unmap).cast("Q")
        self._are_known = self._agree()
        if not self._are_known:
            self.words = array("Q", [(1 << 64) - 1]) * len(self.words)

    def _agree(self) -> bool:
        """Whether LMDB says what the words say, looked at while nobody changed them."""
        words = self.words
        for _ in range(_GLANCES_MAX):
            before = (words[LAST_PAGE], words[OTHER_LAST_PAGE])
            told = self._opened.info()["last_pgno"]
            if before == (words[LAST_PAGE], words[OTHER_LAST_PAGE]):
                return bool(told == max(before) or told in before)
        return False

    def last(self) -> int:
        """The last page in use; exact inside a write transaction."""
        if self._are_known:
            return int(max(self.words[LAST_PAGE], self.words[OTHER_LAST_PAGE]))
        return int(self._opened.info()["last_pgno"])

    def newest(self) -> int:
        """The number of the last transaction that was committed; 0 if it is not known."""
        if self._are_known:
            return int(max(self.words[LAST_PAGE + 1], self.words[OTHER_LAST_PAGE + 1]))
        return 0


def _after_fork_in_child() -> None:
    global _is_child
    _is_child = True


#: This process has been forked from one that had this module.
_is_child = False
os.register_at_fork(after_in_child=_after_fork_in_child)
