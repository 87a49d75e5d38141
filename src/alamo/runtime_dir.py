"""Where a Batch keeps its socket and secret, and the sweeping of what others left.

    <root>/alamo-<uid>/<pid>-<start ticks>-<random>/   mode 0700
        socket                                          where further clients connect
        secret                                          mode 0600
        lock                                            locked while the owner lives

The directory's name tells its owner, so whoever starts the next Batch removes those
whose owner is dead.  The lock tells it to those who do not see the owner's pid: in
another container, or on another host with the same file system.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path

from alamo import linux
from alamo.errors import UsageError

#: Variable in the environment of a Batch's workers and all that they start: the name of its
#: directory.  Finds them when manager and nursery have been killed at once.
MARK = "ALAMO_BATCH"
#: A Unix socket path has at most 108 bytes, the final zero included.
SOCKET_PATH_MAX_BYTES = 107
#: What comes behind ``alamo-<uid>`` at most: pid, ticks and random number, and the socket.
_NAME_BYTES = len("/4194304-999999999999-01234567/socket")
#: A directory that has not got its name after this long never will.
_UNFINISHED_S = 60.0


def runtime_root() -> str:
    """The directory under which runtime directories lie: ALAMO_RUNTIME_DIR, else a temporary one.

    A temporary one too long for a socket path is replaced by ``/tmp``.

    Raises:
        UsageError: no temporary directory can be written.
    """
    chosen = os.environ.get("ALAMO_RUNTIME_DIR")
    if chosen:
        return os.path.abspath(chosen)
    try:
        root = os.path.abspath(tempfile.gettempdir())
    except OSError as error:
        raise UsageError(
            f"no temporary directory can be written: {error}; "
            "set ALAMO_RUNTIME_DIR to a writable directory"
        ) from error
    return root if _fits(_user_path(root)) else "/tmp"


def _user_path(root: str) -> Path:
    return Path(root) / f"alamo-{os.getuid()}"


def _fits(user_path: Path) -> bool:
    return len(os.fsencode(user_path)) + _NAME_BYTES <= SOCKET_PATH_MAX_BYTES


def user_dir(root: str) -> Path:
    """This user's directory under the root, made and checked.

    Raises:
        UsageError: it belongs to somebody else, or the path is too long for a socket.
    """
    path = _user_path(root)
    if not _fits(path):
        raise UsageError(
            f"{path} is too long for a Unix socket (at most {SOCKET_PATH_MAX_BYTES} bytes with "
            "the name in it); set ALAMO_RUNTIME_DIR to a shorter one"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the path {str(path)!r} is no UTF-8; set ALAMO_RUNTIME_DIR to another directory"
        ) from error
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = path.lstat()
    except OSError as error:
        raise UsageError(
            f"the runtime directory {path} cannot be made: {error}; set ALAMO_RUNTIME_DIR "
            "to a writable directory"
        ) from error
    if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode) or state.st_mode & 0o077:
        raise UsageError(
            f"{path} is not a private directory of this user (owner {state.st_uid}, mode "
            f"{stat.S_IMODE(state.st_mode):o}); "
            "set ALAMO_RUNTIME_DIR to another directory"
        )
    return path


def make_runtime_dir(root: str) -> Path:
    """A new directory owned by this process, which holds its lock until it ends."""
    pid = os.getpid()
    parent = user_dir(root)
    name = f"{pid}-{linux.process_start_ticks(pid)}-{secrets.token_hex(4)}"
    unfinished = parent / f".{name}"
    unfinished.mkdir(mode=0o700)
    try:
        lock = os.open(unfinished / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)  # never closed: it lasts as long as the process
        unfinished.rename(parent / name)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return parent / name


def name_of(address: str) -> str:
    """The name of the directory in which the socket lies."""
    return os.path.basename(os.path.dirname(address))


def kill_processes_of(name: str) -> None:
    """Kill what the workers of a Batch that is no more have left running."""
    linux.kill_marked(f"{MARK}={name}".encode())


def write_secret(path: Path, secret: bytes) -> None:
    """Write the secret readable for this user alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(secret)


def sweep(root: str) -> list[Path]:
    """Remove directories whose owner is dead, and what its tasks left; returns them."""
    removed = []
    try:
        entries = list(_user_path(root).iterdir())
    except OSError:
        return []
    for path in entries:
        pid, _, rest = path.name.lstrip(".").partition("-")
        ticks, _, _ = rest.partition("-")
        if not pid.isdigit() or not ticks.isdigit():
            continue
        if linux.process_start_ticks(int(pid)) != int(ticks) and _is_unlocked(path):
            kill_processes_of(path.name)
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _is_unlocked(path: Path) -> bool:
    """Whether no process, wherever it is, holds the directory's lock."""
    try:
        if path.name.startswith(".") and time.time() - path.stat().st_mtime < _UNFINISHED_S:
            return False
        fd = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
