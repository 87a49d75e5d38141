"""The directories of embedded stores: made, held, swept, removed.

Every process that has one open holds a shared lock on it, so whoever can lock it alone knows
that nobody is left.  A lock ends with its process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from alamo.errors import DataStoreError, UsageError

DIRECTORY_VARIABLE: Final = "ALAMO_DATA_DIR"
DEFAULT_DIRECTORY: Final = "/dev/shm"
#: A directory that has not got its name after this long never will.
_UNFINISHED_S: Final = 60.0


class Gone(DataStoreError):
    """The directory of a store is not there any more."""


def user_directory(directory: str | os.PathLike[str] | None) -> str:
    """This user's directory under the base, made and checked.

    Raises:
        UsageError: it cannot be made, or others could write to it.
    """
    chosen = directory or os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY
    base = os.path.realpath(os.fspath(chosen))
    path = f"{base}/alamo-{os.geteuid()}"
    remedy = f"choose another directory with directory= or {DIRECTORY_VARIABLE}"
    try:
        if not os.path.isdir(path):
            os.makedirs(base, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        state = os.lstat(path)
    except OSError as error:
        raise UsageError(
            f"the data directory {path} cannot be made: {error.strerror}; {remedy}"
        ) from error
    if state.st_uid != os.geteuid() or not stat.S_ISDIR(state.st_mode) or state.st_mode & 0o077:
        raise UsageError(
            f"{path} is not a private directory of this user (owner {state.st_uid}, mode "
            f"{stat.S_IMODE(state.st_mode):o}); {remedy}"
        )
    return path


def sweep(parent: str, own: Container[str]) -> list[str]:
    """Remove the directories that nobody has open; returns their paths.

    Args:
        own: those that this process has open.

    Cost: 5 us for each that is there.
    """
    removed = []
    with os.scandir(parent) as entries:
        for entry in entries:
            if entry.path in own:
                continue
            if entry.name.startswith("."):
                try:
                    age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
                if age_s < _UNFINISHED_S:
                    continue
            if remove_if_left(entry.path):
                removed.append(entry.path)
    return removed


def remove_if_left(path: str) -> bool:
    """Remove a home if nobody has it open."""
    try:
        with _locked(_open_directory(path), fcntl.LOCK_EX | fcntl.LOCK_NB) as fd:
            if not is_at(path, os.fstat(fd)):
                return False
            remove(path)
    except OSError:
        return False
    return True


def remove(path: str) -> None:
    """Remove a directory, its name first: nobody finds a half of it."""
    doomed = f"{os.path.dirname(path)}/.{secrets.token_hex(8)}"
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def hold(path: str) -> int:
    """Open a directory and hold a shared lock on it.

    Raises:
        Gone: there is none.
    """
    try:
        fd = _open_directory(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise gone(path) from error
    except PermissionError as error:
        raise UsageError(
            f"{path} cannot be opened: {error.strerror}; only its owner may open what lies there"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextmanager
def locked_file(path: str) -> Iterator[None]:
    """Be the only one, of all threads of all processes, who has locked a file.

    Raises:
        Gone: it is not there.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise gone(os.path.dirname(path)) from error
    with _locked(fd, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(fd: int, how: int) -> Iterator[int]:
    """Hold a lock, and close the descriptor.

    A child that another thread forks meanwhile has the lock too: to unlock it is to unlock it
    for both, and should this process be killed before, the child must not hold it.
    """
    _locks.add(fd)
    try:
        fcntl.flock(fd, how)
        yield fd
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
        _locks.discard(fd)
        os.close(fd)


def _after_fork_in_child() -> None:
    for fd in _locks:
        os.close(fd)
    _locks.clear()


#: Descriptors that are locked for a moment.
_locks: set[int] = set()
os.register_at_fork(after_in_child=_after_fork_in_child)


def write_file(path: str, content: bytes) -> None:
    """Write a file whose blocks are there for good: what is mapped must not fail later."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)


def is_at(path: str, state: os.stat_result) -> bool:
    """Whether the directory still has that name."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_ino, found.st_dev) == (state.st_ino, state.st_dev)


def gone(path: str) -> Gone:
    return Gone(
        f"{path} is gone: it was destroyed, or the process that made it and all others that had "
        "it open have closed it or ended"
    )


def size_of_file_system(path: str) -> int:
    state = os.statvfs(path)
    return state.f_blocks * state.f_frsize
