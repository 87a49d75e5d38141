"""Where a Batch keeps its socket and secret, and the sweeping of what others left.

    <root>/alamo-<uid>/<pid>-<start ticks>-<random>/   mode 0700
        socket                                          where further clients connect
        secret                                          mode 0600

The directory's name tells its owner, so whoever starts the next Batch removes those
whose owner is dead.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from alamo import linux
from alamo.errors import UsageError

#: A Unix socket path has at most 108 bytes, the final zero included.
SOCKET_PATH_MAX_BYTES = 107
_NAME_BYTES = 50


def runtime_root() -> str:
    """The directory under which runtime directories lie: ALAMO_RUNTIME_DIR, else a temporary one.

    A root too long for a socket path is replaced by ``/tmp``.
    """
    chosen = os.environ.get("ALAMO_RUNTIME_DIR")
    if chosen:
        return os.path.abspath(chosen)
    root = os.path.abspath(tempfile.gettempdir())
    return root if len(os.fsencode(root)) + _NAME_BYTES <= SOCKET_PATH_MAX_BYTES else "/tmp"


def user_dir(root: str) -> Path:
    """This user's directory under the root, made and checked.

    Raises:
        UsageError: it belongs to somebody else, or the path is too long for a socket.
    """
    path = Path(root) / f"alamo-{os.getuid()}"
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
    if len(os.fsencode(path)) + _NAME_BYTES > SOCKET_PATH_MAX_BYTES:
        raise UsageError(
            f"{path} is too long for a Unix socket (at most {SOCKET_PATH_MAX_BYTES} bytes "
            "with the name in it); "
            "set ALAMO_RUNTIME_DIR to a shorter one"
        )
    return path


def make_runtime_dir(root: str) -> Path:
    """A new directory owned by this process."""
    pid = os.getpid()
    path = user_dir(root) / f"{pid}-{linux.process_start_ticks(pid)}-{secrets.token_hex(4)}"
    path.mkdir(mode=0o700)
    return path


def write_secret(path: Path, secret: bytes) -> None:
    """Write the secret readable for this user alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(secret)


def sweep(root: str) -> list[Path]:
    """Remove directories whose owner is dead; returns them."""
    removed = []
    parent = Path(root) / f"alamo-{os.getuid()}"
    try:
        entries = list(parent.iterdir())
    except OSError:
        return []
    for path in entries:
        pid, _, rest = path.name.partition("-")
        ticks, _, _ = rest.partition("-")
        if pid.isdigit() and ticks.isdigit() and linux.process_start_ticks(int(pid)) != int(ticks):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed
