"""Where an embedded DDict or Queue lies, and what this process has open of it.

    <base>/alamo-<uid>/<kind>-<id>/        mode 0700; <kind>-n<hash of the name> if it has one
        about                              what it is (About); locked while files are opened
        control                            a page of words that all processes share; locked
                                           while files grow
        ...                                files and sockets of the store

<base> is the argument ``directory=``, else ALAMO_DATA_DIR, else /dev/shm.  The last process that
closes a home removes it, and whoever makes one sweeps those that killed processes have left.

A process opens a home once and counts its users, the handles.  The process that made it keeps
it open beyond them once somebody else may know of it (it has a name, or a handle was pickled):
until it ends or closes it.  The children of a fork share the lock of their parent, so what it
had open stays until they have ended too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from alamo import leaving, linux
from alamo.data import directories
from alamo.data.directories import DIRECTORY_VARIABLE, Gone
from alamo.errors import DataStoreError, UsageError

__all__ = ["About", "Home", "Part", "make_home", "share_home"]

CONTROL_BYTES: Final = 4096
#: An address of a Unix socket has 108 bytes, the final zero included.
_ADDRESS_MAX_BYTES: Final = 107
_FORMAT: Final = 1
_PROBES_MAX: Final = 100


class About(msgspec.Struct, frozen=True):
    """What a home is.

    Attributes:
        format: of the files; others are not opened.
        kind: "ddict" or "queue".
        id: names it for ever.
        name: by which it is found, empty without.
        creator: pid and start ticks of the process that made it, for messages.
        total_bytes: what its files may take together; 0: what the file system has.
        map_bytes: address space for each of its files, the same in every process.
        settings: what the store wants to be known to whoever opens it.
    """

    format: int
    kind: str
    id: str
    name: str
    creator: tuple[int, int]
    total_bytes: int
    map_bytes: int
    settings: dict[str, Any]


class Part(Protocol):
    """Something of a home that this process has open."""

    def close(self) -> None:
        """Its last user is done."""

    def after_fork(self) -> None:
        """This process is a new child of the one that opened it."""

    def leave(self) -> None:
        """The interpreter ends; threads may still be at work."""


_P = TypeVar("_P", bound=Part)


class Home:
    """One store's directory, held open by this process.

    Attributes:
        path: the directory.
        about: what it is.
        control: words that all processes share, zero at first; whoever changes one holds the
            lock that its meaning names.
        is_maker: this process has made it.
        users: those in this process who have it open.
    """

    def __init__(self, path: str, fd: int, is_maker: bool) -> None:
        """Take over a locked descriptor of the directory."""
        self.path = path
        self.is_maker = is_maker
        self.users = 1
        self._is_kept = False
        self._parts: dict[str, Any] = {}
        self.about = _read_about(path)
        control = os.open(f"{path}/control", os.O_RDWR | os.O_CLOEXEC)
        try:
            address = linux.map_shared(control, CONTROL_BYTES, populate=True)
        finally:
            os.close(control)
        unmap = partial(linux.unmap, address, CONTROL_BYTES)
        self.control = linux.view_of(address, CONTROL_BYTES, unmap).cast("Q")
        self._fd = fd

    def part(self, name: str, make: Callable[[], _P]) -> _P:
        """The part of that name, made by whoever asks first in this process."""
        found: _P | None = self._parts.get(name)
        if found is None:
            with _lock:
                found = self._parts.get(name)
                if found is None:
                    found = self._parts[name] = make()
        return found

    def socket_path(self, name: str) -> str:
        """An address for a socket of that name, however long the path of the directory is."""
        path = f"{self.path}/{name}"
        if len(os.fsencode(path)) <= _ADDRESS_MAX_BYTES:
            return path
        return f"/proc/self/fd/{self._fd}/{name}"

    def opening(self) -> AbstractContextManager[None]:
        """Be the only one who makes or opens files."""
        return directories.locked_file(f"{self.path}/about")

    def growing(self) -> AbstractContextManager[None]:
        """Be the only one who changes the sizes of files.  Taken behind all other locks."""
        return directories.locked_file(f"{self.path}/control")

    def keep(self) -> None:
        """Others may come to know of it: the process that made it keeps it open till it ends."""
        with _lock:
            if self.is_maker and not self._is_kept and self.users:
                self._is_kept = True
                self.users += 1

    def unkeep(self) -> None:
        """The process that made it does not mean to keep it any longer."""
        with _lock:
            if self._is_kept:
                self._is_kept = False
                self.release()

    def hold(self) -> None:
        """One user more, in a process that has it open: it stays open until its ``release``.

        Not inside a write transaction: another thread may be closing, and wait for that to end.
        """
        with _lock:
            self.users += 1

    def release(self) -> None:
        """One user is done.  With the last one the process closes it, and the last process
        removes it."""
        with _lock:
            self.users -= 1
            if self.users:
                return
            if _homes.get(self.path) is self:
                del _homes[self.path]
            parts, self._parts = self._parts, {}
            for part in parts.values():
                part.close()
            self._let_go()

    def destroy(self) -> None:
        """Remove it, whoever has it open; those who have can go on reading what they had."""
        with _lock:
            if _homes.get(self.path) is self and self._fd >= 0:
                del _homes[self.path]
                if directories.is_at(self.path, os.fstat(self._fd)):
                    directories.remove(self.path)

    def is_there(self) -> bool:
        """Whether the directory still has its name."""
        return self._fd >= 0 and directories.is_at(self.path, os.fstat(self._fd))

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            directories.remove_if_left(self.path)

    def after_fork(self) -> None:
        """The child has what its parent had, but has not made it."""
        self.is_maker = False
        if self._is_kept:
            self._is_kept = False
            self.users -= 1
        for part in self._parts.values():
            part.after_fork()

    def leave(self) -> None:
        """The interpreter ends."""
        for part in self._parts.values():
            part.leave()
        self._let_go()


def make_home(
    kind: str,
    *,
    name: str | None = None,
    directory: str | os.PathLike[str] | None = None,
    total_bytes: int | None = None,
    map_bytes: Callable[[int], int] = lambda room: room,
    settings: dict[str, Any] | None = None,
) -> Home:
    """Make a home, or share the one of that name; the caller is one of its users.

    Args:
        kind: "ddict" or "queue".
        directory: the base; ``None``: as the environment says.
        total_bytes: what its files may take together.
        map_bytes: the size of each file's mapping, given the most that there will be room for.

    Raises:
        UsageError: the directory cannot be used.
        DataStoreError: there is no room, or what is there cannot be read.

    Cost: 150 us, and 5 us for each home of this user that others have open.
    """
    parent = directories.user_directory(directory)
    with _lock:
        directories.sweep(parent, _homes)
    uid = secrets.token_hex(8)
    final = f"{parent}/{kind}-{uid if name is None else _hash_of(name)}"
    about = About(
        format=_FORMAT,
        kind=kind,
        id=uid,
        name=name or "",
        creator=(os.getpid(), linux.process_start_ticks(os.getpid())),
        total_bytes=total_bytes or 0,
        map_bytes=map_bytes(total_bytes or directories.size_of_file_system(parent)),
        settings=settings or {},
    )
    for _ in range(_PROBES_MAX):
        if name is not None:
            with suppress(Gone):
                return share_home(final)
        with _lock:
            made = _make_at(final, about)
            if made is not None:
                _homes[final] = made
                if name is not None:
                    made.keep()
                return made
    raise DataStoreError(
        f"the {kind} named {name!r} comes and goes in {parent} faster than it can be opened"
    )


def share_home(path: str, uid: str | None = None) -> Home:
    """Open a home that somebody has made; the caller is one of its users.

    Args:
        uid: the one it must have.

    Raises:
        Gone: it is not there, or another one has its name.
        UsageError: it belongs to another user.
    """
    with _lock:
        home = _homes.get(path)
        if home is None or not home.is_there():
            _homes[path] = home = _open(path)
        else:
            home.users += 1
        if uid is not None and home.about.id != uid:
            home.release()
            raise directories.gone(path)
        return home


def _make_at(final: str, about: About) -> Home | None:
    """``None``: somebody else was faster."""
    unfinished = f"{os.path.dirname(final)}/.{secrets.token_hex(8)}"
    fd = -1
    try:
        os.mkdir(unfinished, 0o700)
        fd = directories.hold(unfinished)
        directories.write_file(f"{unfinished}/about", msgspec.json.encode(about))
        directories.write_file(f"{unfinished}/control", bytes(CONTROL_BYTES))
        os.rename(unfinished, final)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        shutil.rmtree(unfinished, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return None
        raise DataStoreError(
            f"a {about.kind} cannot be made in {os.path.dirname(final)}: {error.strerror}; "
            f"choose another directory with directory= or {DIRECTORY_VARIABLE}"
        ) from error
    return Home(final, fd, is_maker=True)


def _open(path: str) -> Home:
    fd = directories.hold(path)
    try:
        state = os.fstat(fd)
        if state.st_uid != os.geteuid() or state.st_mode & 0o077:
            raise UsageError(
                f"{path} is not a private directory of this user (owner {state.st_uid}, mode "
                f"{stat.S_IMODE(state.st_mode):o}): only its owner may open what lies there"
            )
        if not directories.is_at(path, state):  # removed while we waited for the lock
            raise directories.gone(path)
        return Home(path, fd, is_maker=False)
    except FileNotFoundError as error:
        os.close(fd)
        raise directories.gone(path) from error
    except BaseException:
        os.close(fd)
        raise


def _read_about(path: str) -> About:
    """Read and check the description."""
    with open(f"{path}/about", "rb") as file:
        written = file.read()
    try:
        found = msgspec.json.decode(written)["format"]
        if found == _FORMAT:
            return msgspec.json.decode(written, type=About)
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise DataStoreError(f"{path}/about cannot be read: {error}") from error
    raise DataStoreError(
        f"{path} is of format {found}, this version of alamo reads {_FORMAT}: use the same "
        "version in all processes"
    )


def _hash_of(name: str) -> str:
    return f"n{hashlib.blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


#: What this process has open, by path.
_homes: dict[str, Home] = {}
_lock = threading.RLock()


def _leave_all() -> None:
    for home in list(_homes.values()):
        home.leave()
    _homes.clear()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for home in list(_homes.values()):
        home.after_fork()
    if "multiprocessing.util" in sys.modules:  # its children end without atexit
        from multiprocessing import util

        util.register_after_fork(_leave_at_end_of_child, _leave_at_end_of_child)


def _leave_at_end_of_child(_: object) -> None:
    from multiprocessing import util

    util.Finalize(None, _leave_all, exitpriority=0)


leaving.at_last(_leave_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
