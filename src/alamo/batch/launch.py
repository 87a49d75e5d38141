"""Starting a manager process, and ending one."""

from __future__ import annotations

import importlib.util
import os
import resource
import select
import shutil
import socket
import subprocess
import sys

from alamo import linux, runtime_dir
from alamo.errors import UsageError
from alamo.manager.machine import granted_cores
from alamo.protocol import auth
from alamo.protocol import messages as msg
from alamo.protocol.framing import encode
from alamo.protocol.importable import importable

#: Open files that a manager needs a worker, and besides.
_FILES_A_WORKER = 6
_FILES_BESIDE = 64
#: How long the exit status of a manager is waited for whose connection has ended.
_STATUS_WAIT_S = 2.0
_POLL_MAX_MS = 2**31 - 1
#: How long a manager may take that has begun to end: it waits for its nursery itself.
_END_WAIT_S = 5.0


def check_num_workers(num_workers: int | None) -> int:
    """The number of slots of a new Batch; ``None`` is one a core.

    Raises:
        UsageError: as ``check_slots``.
    """
    if num_workers is None:
        return granted_cores()
    return check_slots(num_workers, f"leave it out for one a core ({granted_cores()} here)")


def check_slots(num_workers: int, otherwise: str) -> int:
    """The number of slots.

    Args:
        otherwise: what may be done instead of giving a number too small.

    Raises:
        UsageError: not a whole number of at least 1, or more than this machine can hold.
    """
    if isinstance(num_workers, bool) or not hasattr(num_workers, "__index__"):
        raise UsageError(
            f"num_workers must be a whole number of at least 1, not {num_workers!r}; {otherwise}"
        )
    number = num_workers.__index__()
    if number < 1:
        raise UsageError(f"num_workers must be at least 1, not {number}; {otherwise}")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = msg.SLOTS_MAX
    if files != resource.RLIM_INFINITY:
        most = max(0, min(most, (files - _FILES_BESIDE) // _FILES_A_WORKER))
    if number > most:
        raise UsageError(
            f"num_workers={number} is more than this machine can hold: at most {most} "
            f"(each needs {_FILES_A_WORKER} open files of the {files} allowed, see `ulimit "
            "-n`, and a process)"
        )
    return number


def check_telemetry(enable_telem: bool | None) -> bool:
    """Whether metrics are to be served.

    Raises:
        UsageError: they are, and what they need is not installed.
    """
    if enable_telem and importlib.util.find_spec("prometheus_client") is None:
        raise UsageError(
            "enable_telem=True needs prometheus_client, which is not installed: "
            "pip install alamo[metrics]"
        )
    return bool(enable_telem)


def start_manager(
    slots: int, log_level: int, telemetry: bool
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a manager in a session of its own.

    Args:
        telemetry: whether it serves metrics.

    Returns:
        The process and our end of its socket.

    Raises:
        UsageError: there is no place for its runtime directory.
    """
    root = runtime_dir.runtime_root()
    runtime_dir.user_dir(root)
    secret = auth.make_secret()
    package_parent = os.path.dirname(os.path.dirname(os.path.abspath(linux.__file__)))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from alamo.manager.main import main; main()"
    )
    path = [os.path.abspath(entry) for entry in sys.path]
    importable.fix_path(path)
    raw_path = [os.fsencode(entry) for entry in path]
    setup = msg.Setup(
        msg.VERSION, secret, root, slots, log_level, raw_path, os.getcwdb(), os.getpid(), telemetry
    )
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    code,
                    package_parent,
                    "alamo.manager",
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            ours.sendall(encode(setup))
        except OSError:  # it has ended; to read from it tells the same, more clearly
            pass
    except BaseException:
        ours.close()  # a manager without a client ends
        raise
    return process, ours


def abandon(process: subprocess.Popen[bytes], sock: socket.socket) -> None:
    """End a manager that has got no client."""
    try:
        sock.shutdown(socket.SHUT_RDWR)  # it ends at this, and removes what it has made
    except OSError:  # closed already
        pass
    end(process, "", under_way=True)
    sock.close()


def bury(process: subprocess.Popen[bytes] | None, address: str) -> str:
    """What is known of a manager's end; if it was killed, what it has left behind is removed."""
    if process is None:
        return ""
    try:
        status = process.wait(timeout=_STATUS_WAIT_S)
    except subprocess.TimeoutExpired:
        return ""
    if status >= 0:
        return f", it exited with status {status}"
    _clear(address)
    return f", ended by signal {-status}; killed from outside, perhaps for lack of memory"


def await_end(
    process: subprocess.Popen[bytes] | None, address: str, timeout_s: float | None
) -> bool:
    """Wait until a manager has ended, which it is about to; ``False`` when the time is over."""
    if process is None:
        return True
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:  # it has been waited for already, or no descriptors are left
        process.wait()
        return True
    poll = select.poll()  # Popen.wait with a timeout would look every 50 ms
    poll.register(fd, select.POLLIN)
    try:
        ended = poll.poll(None if timeout_s is None else min(timeout_s * 1000, _POLL_MAX_MS))
    finally:
        os.close(fd)
    if not ended:
        return False
    if process.wait() < 0:
        _clear(address)
    return True


def end(process: subprocess.Popen[bytes], address: str, under_way: bool) -> None:
    """Wait until a manager has ended; kill it, with all its descendants, if it takes long."""
    try:
        process.wait(timeout=_END_WAIT_S if under_way else _STATUS_WAIT_S / 2)
    except subprocess.TimeoutExpired:
        linux.kill_tree(process.pid)
        process.wait()
    if process.returncode < 0:
        _clear(address)


def _clear(address: str) -> None:
    """Remove what a killed manager could not: processes, if its nursery died too, and files."""
    if not address:  # it had not yet said where it is
        return
    runtime_dir.kill_processes_of(runtime_dir.name_of(address))
    shutil.rmtree(os.path.dirname(address), ignore_errors=True)
