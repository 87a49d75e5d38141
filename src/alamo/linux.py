"""The few Linux calls that Python does not offer."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import time
import weakref
from collections.abc import Callable

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NAME = 15
_F_SETSIG = 10
_IONBF = 2

_SYS_CLOSE_RANGE = 436  # on every architecture; C libraries before glibc 2.34 lack the function
_CLOSE_RANGE_CLOEXEC = 4
_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine)
_FUTEX_WAKE = 1
_FD_MAX = (1 << 32) - 1

_MADV_DONTNEED = 4
_MADV_POPULATE_WRITE = 23
_PUNCH_HOLE_KEEP_SIZE = 3
_READ_BYTES = 1 << 14
#: When memory runs out: what tasks start goes first, then workers; manager and client last.
WORKER_OOM_SCORE = 800
CHILD_OOM_SCORE = 1000
#: Some kernels are built without this list; then all processes are looked at.
_KEEPS_CHILDREN = os.path.exists("/proc/thread-self/children")
#: Marked processes are looked for this often: one may have been forked while others were killed.
_MARKED_ROUNDS = 5
#: How often it is looked whether a child that was killed has ended.
_REAP_FIRST_S = 0.000_1
_REAP_MOST_S = 0.01
_MAP_POPULATE = 0x8000
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, so that it can end them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_process_name(name: str) -> None:
    """What ``ps -o comm`` and ``top`` show, at most 15 characters."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def raise_oom_score(score: int, pid: int | None = None) -> None:
    """When memory runs out, the kernel shall rather take this process than one of a lower score.

    What it starts from then on begins with the same score.  A higher one stays.  Cost: 10 us.

    Args:
        score: from 0, as most processes are, to 1000, the first to go.
        pid: another process of ours; ``None``: this one.
    """
    try:
        fd = os.open(f"/proc/{pid or 'self'}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            if int(os.read(fd, 16)) < score:
                os.pwrite(fd, str(score).encode(), 0)
        finally:
            os.close(fd)
    except OSError:  # it has ended, or the system forbids it: then the kernel chooses by size
        pass


def unbuffer_c_stdout() -> None:
    """C code's ``printf`` goes to the descriptor at once, so nothing is to be flushed a task."""
    stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
    _libc.setvbuf(stdout, None, _IONBF, 0)


def die_with_writer(pipe_fd: int) -> int:
    """Have the kernel kill this process when the last writer of the pipe is gone.

    The pipe's release signals its asynchronous readers; F_SETSIG makes that SIGKILL.  So
    a worker ends with its manager at once, also in the middle of C code, and without
    depending on its parent process.  The pipe is opened anew because the owner of the
    signal belongs to the open file, which all workers share.

    Returns:
        The descriptor that this hangs on.  It is closed when a program is executed.
    """
    fd = os.open(f"/proc/self/fd/{pipe_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(pipe_fd)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, _F_SETSIG, int(signal.SIGKILL))
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        if os.read(fd, 1) == b"":  # it was gone before we asked to be told
            os._exit(1)
    except BlockingIOError:
        pass
    return fd


def close_on_exec(first: int) -> None:
    """Have no program that is executed inherit descriptors from ``first`` on.

    Cost: 1 us, as long as there are few.
    """
    if _libc.syscall(_SYS_CLOSE_RANGE, first, ctypes.c_uint(_FD_MAX), _CLOSE_RANGE_CLOEXEC) == 0:
        return
    for name in os.listdir("/proc/self/fd"):  # before Linux 5.11
        fd = int(name)
        if fd >= first:
            with contextlib.suppress(OSError):  # that of the list itself
                os.set_inheritable(fd, False)


def leave_process_group() -> None:
    """Move into a process group of one's own whose leader has ended.

    ``killpg(0, ...)`` then hits nobody else, and ``setsid`` still works, as it does not
    for a leader.  Cost: a fork, 1 ms.
    """
    leader = os.fork()
    if leader == 0:
        os._exit(0)
    os.setpgid(leader, leader)
    os.setpgid(0, leader)
    os.waitpid(leader, 0)


def keep_freed_memory() -> None:
    """Freed memory stays with the process up to 64 MiB: a megabyte of fresh pages costs 300 us."""
    _libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
    _libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)


def futex_wake(address: int) -> None:
    """Have one of those who wait for the word at this address, in any process, look at it again.

    Cost: 1 us.
    """
    if _SYS_FUTEX is not None:
        _libc.syscall(_SYS_FUTEX, ctypes.c_void_p(address), _FUTEX_WAKE, 1)


def map_shared(fd: int, size: int, populate: bool) -> int:
    """Map a file to be written too, on request with all its pages at once; returns the address.

    Raises:
        OSError: no address space or too many mappings.
    """
    flags = mmap.MAP_SHARED | (_MAP_POPULATE if populate else 0)
    return _map(fd, size, mmap.PROT_READ | mmap.PROT_WRITE, flags)


def map_private(fd: int, size: int) -> int:
    """Map a file copy-on-write; returns the address.  ``mmap.mmap`` would keep a descriptor.

    Raises:
        OSError: no address space or too many mappings.
    """
    return _map(fd, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE)


def _map(fd: int, size: int, protection: int, flags: int) -> int:
    address = _libc.mmap(None, size, protection, flags, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot map {size} bytes: {os.strerror(error)}")
    return int(address)


def view_of(address: int, size: int, at_end: Callable[[], None] | None = None) -> memoryview:
    """A writable view of mapped memory; ``at_end`` is called when nothing refers to it."""
    array = (ctypes.c_ubyte * size).from_address(address)
    if at_end is not None:
        weakref.finalize(array, at_end).atexit = False
    return memoryview(array).cast("B")


def forget_private_pages(address: int, size: int) -> None:
    """What was written to a private mapping is dropped; the file shows again."""
    _libc.madvise(address, size, _MADV_DONTNEED)


def populate(address: int, size: int) -> None:
    """Have all pages of a mapping there to be written: 1.3 us a page instead of 1.9 as each is
    touched.  Does nothing before Linux 5.14."""
    _libc.madvise(address, size, _MADV_POPULATE_WRITE)


def unmap(address: int, size: int) -> None:
    """End a mapping."""
    _libc.munmap(address, size)


def punch_hole(fd: int, start: int, end: int) -> None:
    """Give back the memory of a part of a file, which then reads as zeros; its size stays."""
    _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, start, end - start)


def children_of(pid: int) -> list[int]:
    """Direct children of all threads of a process; empty when it is gone."""
    if not _KEEPS_CHILDREN:
        return [child for child in _all_pids() if parent_of(child) == pid]
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        found += map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())
    return found


def tree_of(pid: int) -> list[int]:
    """A process and all its descendants, it first.  Cost: 15 us and 6 a thread, each of them."""
    found, at = [pid], 0
    if not _KEEPS_CHILDREN:
        children: dict[int, list[int]] = {}
        for child in _all_pids():
            children.setdefault(parent_of(child), []).append(child)
    while at < len(found):
        found += children_of(found[at]) if _KEEPS_CHILDREN else children.get(found[at], ())
        at += 1
    return found


def read_file(path: str) -> bytes:
    """A small file of the kernel's; empty when it is gone.  A fifth of the cost of ``open``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    pieces = []
    try:
        while piece := os.read(fd, _READ_BYTES):
            pieces.append(piece)
    except OSError:  # the process has ended
        pass
    finally:
        os.close(fd)
    return b"".join(pieces)


def parent_of(pid: int) -> int:
    """A process's parent, -1 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return -1


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def kill_tree(*pids: int) -> None:
    """SIGKILL processes and all their descendants.

    All are stopped first, parents before their children, so that none forks anew while others
    die.  Those that it may not kill (they have become another user's) are left.

    Cost: 50 us each of them.
    """
    pending, stopped = list(pids), []
    while pending:
        victim = pending.pop()
        with contextlib.suppress(OSError):
            os.kill(victim, signal.SIGSTOP)
            stopped.append(victim)
            pending += children_of(victim)
    for victim in stopped:
        with contextlib.suppress(OSError):
            os.kill(victim, signal.SIGKILL)


def reap(pid: int, timeout_s: float) -> bool:
    """Wait for the end of a child that was killed; ``False`` when it has not ended in time.

    Not every child can be killed: one may hang in the kernel or belong to another user.

    Raises:
        ChildProcessError: there is no such child.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _REAP_FIRST_S
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _REAP_MOST_S)
    return True


def reap_ended(spared: int = -1) -> bool:
    """Reap the children that have ended; whether there are others.

    A subreaper whose tasks make orphans has to: each of them is its zombie until then, and takes
    one of the machine's process numbers.

    Args:
        spared: a child that is waited for elsewhere.  When it has ended others may be left too.

    Cost: 1 us, and 3 for each of them.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if ended is None or ended.si_pid == spared:
            return True
        with contextlib.suppress(ChildProcessError):  # another thread waited for it
            os.waitpid(ended.si_pid, os.WNOHANG)


def end_children(timeout_s: float) -> None:
    """Kill and reap all children and their descendants; what cannot be killed is left."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        kill_tree(*children_of(os.getpid()))
        try:
            reap(-1, deadline - time.monotonic())
        except ChildProcessError:
            return
        reap_ended()  # whoever ended meanwhile: a look at all children for each would be too much


def kill_marked(mark: bytes) -> None:
    """SIGKILL every process whose environment at its start held ``mark`` (``NAME=value``).

    Cost: 10 us a process of the machine.
    """
    for _ in range(_MARKED_ROUNDS):
        marked = [pid for pid in _all_pids() if _has(pid, mark)]
        if not marked:
            return
        for pid in marked:
            kill_tree(pid)


def _has(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return pid != os.getpid() and mark in file.read().split(b"\0")
    except OSError:
        return False


def process_start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it does not exist or is a zombie.

    With the pid this names a process for ever, where a pid alone is used again.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def process_cpu_ns(pid: int) -> int:
    """CPU time of a process's threads so far, in nanoseconds; -1 when it does not exist.

    Cost: 0.5 us.

    Example:
        >>> process_cpu_ns(os.getpid()) > 0, process_cpu_ns(-1)
        (True, -1)
    """
    if pid <= 0:
        return -1
    try:
        # What clock_getcpuclockid(3) makes of a pid: its clock by the scheduler's count.
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return -1
