"""Starting an executable as a child of this process, and waiting for its end.

posix_spawn costs the same however large this process is, and a third less than Popen.  What it
cannot do in the child (directory, umask, processors) is set here around the call; who asks for
another user gets Popen.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from alamo import linux
from alamo.protocol.bindings import Binding
from alamo.protocol.commands import Command
from alamo.worker import bindings, output, stats
from alamo.worker.context import context
from alamo.worker.surroundings import raw_environ

#: What children are bound to; ``None`` for what this process is bound to.
binding: Binding | None = None
#: The most memory that the last child took, or one of those descendants; 0: nobody knows.
peak_bytes = 0


#: Called when a child has ended and left others running.
def left_running() -> None:
    return None


#: Not the one that tasks find, which has what they may have changed put back: this changes nothing.
_posix_spawn = os.posix_spawn
#: What Python ignores in this process and programs do not expect to be ignored.
_RESTORED = [s for s in (getattr(signal, n, None) for n in ("SIGPIPE", "SIGXFSZ")) if s]
#: How long the output may grow before its middle is dropped the first time, and between times.
_LOOK_FIRST_S, _LOOK_MOST_S = 0.02, 0.05
#: How often it is looked whether a child has ended, where nothing tells.
_PAUSE_S = 0.002
#: How long a child may take to end when it was killed because this process was interrupted.
_END_S = 1.0


def run(
    command: Command,
    program: str,
    argv: tuple[str | bytes, ...],
    cwd: str | None,
    fds: Sequence[int],
    captured: Sequence[int],
) -> int:
    """Run an executable to its end.

    Args:
        argv, cwd: those of the command, its handles resolved.
        fds: what become its stdin, stdout and stderr.
        captured: files of output that are bounded: the middle of a long one is dropped.

    Returns:
        Its exit code; of a signal that ended it the number, negative.

    Raises:
        OSError: it cannot be started.

    Cost: 70 us of this process.
    """
    if command.close_fds:
        linux.close_on_exec(3)
    return _wait(_spawn(command, program, argv, cwd, fds), captured)


def _spawn(
    command: Command,
    program: str,
    argv: tuple[str | bytes, ...],
    cwd: str | None,
    fds: Sequence[int],
) -> int:
    if command.identity is not None:
        return _spawn_as_other(command, program, argv, cwd, fds)
    group: dict[str, Any] = {"setsid": True} if command.new_session else {"setpgroup": 0}
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
    with _placed(cwd, command.umask):
        return _posix_spawn(
            program,
            argv,
            environment_of(command.env),
            file_actions=actions,
            setsigdef=_RESTORED if command.restore_signals else (),
            **group,
        )


def environment_of(env: Mapping[Any, Any] | None) -> dict[bytes, bytes]:
    """The environment of a child: the worker's, or that which was given; with what is bound."""
    if env is None and binding is None:
        return raw_environ()
    bound = binding or bindings.own
    base = os.environ if env is None else env
    if bound is not None:
        base = bindings.environment_of(
            bound, {os.fsdecode(name): os.fsdecode(value) for name, value in base.items()}
        )
    return {os.fsencode(name): os.fsencode(value) for name, value in base.items()}


@contextmanager
def _placed(cwd: str | None, umask: int) -> Iterator[None]:
    """This process in the place and state that a child is to inherit."""
    cpus = binding.cpus if binding is not None else ()
    if cwd is None and umask < 0 and not cpus:
        yield
        return
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    own_umask = os.umask(umask) if umask >= 0 else -1
    own_cpus = os.sched_getaffinity(0) if cpus else None
    try:
        if cwd is not None:
            os.chdir(cwd)
        if cpus:
            os.sched_setaffinity(0, cpus)
        yield
    finally:
        if own_cpus is not None:
            os.sched_setaffinity(0, own_cpus)
        if own_umask >= 0:
            os.umask(own_umask)
        os.fchdir(here)
        os.close(here)


def _spawn_as_other(
    command: Command, program: str, argv: Sequence[Any], cwd: str | None, fds: Sequence[int]
) -> int:
    identity = command.identity
    assert identity is not None
    with _placed(None, -1):
        child = subprocess.Popen(
            argv,
            executable=program,
            stdin=fds[0],
            stdout=fds[1],
            stderr=fds[2],
            close_fds=command.close_fds,
            cwd=cwd,
            env=environment_of(command.env),
            restore_signals=command.restore_signals,
            start_new_session=command.new_session,
            process_group=None if command.new_session else 0,
            user=identity.user,
            group=identity.group,
            extra_groups=identity.extra_groups,
            umask=command.umask,
        )
    child.returncode = 0  # it is waited for below, and nothing is left to do for Popen
    return child.pid


def _wait(pid: int, captured: Sequence[int]) -> int:
    """The end of a child; meanwhile what it writes is kept within bounds, and orphans reaped."""
    global peak_bytes
    high_bytes, own_kib = 0, own_peak_kib()
    is_worker = context.worker >= 0
    try:
        for _ in _looks(pid):
            for stream in captured:
                output.trim(stream)
            high_bytes = max(high_bytes, _high_water(pid))
            if is_worker:  # a subreaper; elsewhere other children are somebody else's
                linux.reap_ended(spared=pid)
        _, status, usage = os.wait4(pid, 0)
        if is_worker and linux.reap_ended():
            left_running()
    except BaseException:  # Ctrl-C where there is no worker around it
        linux.kill_tree(pid)
        with suppress(ChildProcessError):
            linux.reap(pid, _END_S)
        raise
    peak_bytes = usage.ru_maxrss << 10 if usage.ru_maxrss > own_kib else high_bytes
    if peak_bytes and is_worker:
        stats.note_peak(peak_bytes)
    return os.waitstatus_to_exitcode(status)


def own_peak_kib() -> int:
    """The most memory that this process has had; a child's ``ru_maxrss`` is never less.

    For a spawned child is counted from when it still shared our memory.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _high_water(pid: int) -> int:
    """The most memory that a process that runs has taken, in bytes."""
    _, _, rest = linux.read_file(f"/proc/{pid}/status").partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) << 10 if rest else 0


def _looks(pid: int) -> Iterator[None]:
    """Now and then, until a child has ended; it is not reaped."""
    pause_s = _LOOK_FIRST_S
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # no more descriptors, or an old kernel
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            yield
            time.sleep(_PAUSE_S)
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not poll.poll(pause_s * 1000):
            yield
            pause_s = min(2 * pause_s, _LOOK_MOST_S)
    finally:
        os.close(fd)
