"""What a task may change in its process and must not leave to the next one.

Working directory, environment and umask are put back, child processes are ended.  The
calls that change them are wrapped to raise a flag, so an innocent task costs nothing; a task
long enough to hide it is looked at for what C code may have done past the wrappers: a child
process, another directory.  A process that cannot be put back, such as one in a new session,
ends.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from alamo import linux
from alamo.worker import output
from alamo.worker.alert import alert
from alamo.worker.stats import peak

#: Changes that cannot be undone.
_FOR_GOOD = (
    *("setsid", "setpgid", "setpgrp", "chroot", "nice", "setpriority", "initgroups", "setgroups"),
    *("setuid", "seteuid", "setreuid", "setresuid", "setgid", "setegid", "setregid", "setresgid"),
)
#: Tasks that ran longer are looked at even when no flag is up.
LOOK_AFTER_NS = 300_000
#: How long a stray child may take to end when it has been killed.
_STRAY_END_S = 0.2
#: How long strays that go on making others are killed here.
_STRAYS_MAX_S = 5.0


class Surroundings:
    """State of the process between tasks.

    Attributes:
        touched: a task called something that may have changed the state, or replaced a stream.
        spoiled: something cannot be put back; no further task may run in this process.
    """

    def __init__(self) -> None:
        self.touched = False
        self.spoiled = False
        self._changed = False  # more than a stream
        self._limits: dict[int, tuple[int, int]] = {}
        self._set_limit = resource.setrlimit
        self._pid = os.getpid()
        self._environ = dict(os.environ)
        self._raw_environ = raw_environ()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self.cwd = os.getcwd()
        for module, name in (
            (os, "chdir"),
            (os, "fchdir"),
            (os, "dup2"),
            (os, "putenv"),
            (os, "unsetenv"),
            (os, "umask"),
            (os, "posix_spawn"),
            (os, "posix_spawnp"),
            (os, "system"),
            (subprocess, "_fork_exec"),
            (signal, "alarm"),
            (signal, "setitimer"),
        ):
            self._watch(module, name, self._touch)
        for name in _FOR_GOOD:
            self._watch(os, name, self._spoil)
        self._watch(resource, "setrlimit", self._keep_limit)
        for name in ("write", "writev"):
            self._watch(os, name, self._wrote)
        output.watch_streams(self._touch_stream)
        peak.tell = self._touch_stream
        os.register_at_fork(after_in_parent=self._touch, after_in_child=self._touch)

    @property
    def changed(self) -> bool:
        """Whether a task called something that may have changed more than a stream."""
        return self._changed

    def look(self) -> None:
        """The running task is to be looked after when it has ended."""
        self._touch()

    def _touch(self, *_: Any) -> None:
        self.touched = self._changed = alert.raised = True

    def _touch_stream(self) -> None:
        self.touched = alert.raised = True

    def _spoil(self, *_: Any) -> None:
        self.touched = self._changed = self.spoiled = alert.raised = True

    @staticmethod
    def _wrote(fd: int, *_: Any) -> None:
        if fd == 1 or fd == 2:
            alert.raised = True

    def _keep_limit(self, kind: int, *_: Any) -> None:
        self.touched = self._changed = alert.raised = True
        self._limits.setdefault(kind, resource.getrlimit(kind))

    def _watch(self, module: Any, name: str, note: Callable[..., None]) -> None:
        original: Callable[..., Any] | None = getattr(module, name, None)
        if original is None:
            return

        def watched(*args: Any, **kwargs: Any) -> Any:
            note(*args)
            return original(*args, **kwargs)

        watched.__name__ = watched.__qualname__ = name
        watched.__doc__ = original.__doc__
        setattr(module, name, watched)

    def enter(self, cwd: str) -> None:
        """Go to the directory where a program's tasks run.

        Raises:
            OSError: it is not there.
            ValueError: no directory can have that name.
        """
        os.chdir(cwd)
        self.cwd = cwd
        self.touched = self._changed = False

    def tidy(self) -> None:
        """Put back what a task changed.  Cost: 3 us, 20 in cold caches, when it changed nothing."""
        self.end_child()
        output.put_streams_back()
        try:
            os.close(os.dup(0))
        except OSError:  # all descriptors are in use
            self.spoiled = True
        self.touched = False
        if self._changed or self._here() != self.cwd or _has_children():
            self._restore()

    def _restore(self) -> None:
        if self._here() != self.cwd:
            try:
                os.chdir(self.cwd)
            except OSError:
                os.chdir("/")
        if raw_environ() != self._raw_environ:
            os.environ.clear()
            os.environ.update(self._environ)
        os.umask(self._umask)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        if self._limits:
            self._put_limits_back()
        if self._end_children():
            output.take(1)  # what they wrote behind the end of their task
            output.take(2)
        self.touched = self._changed = False

    @staticmethod
    def _here() -> str:
        try:
            return os.getcwd()
        except OSError:
            return ""

    def end_child(self, error: BaseException | None = None) -> None:
        """End a forked child that comes out of its task: it is no worker.

        Args:
            error: what its task raised; its exit status is that of a script which does so.
        """
        if os.getpid() == self._pid:
            return
        status = 0
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = (error.code or 0) & 0xFF
        elif error is not None:
            traceback.print_exception(error)
            status = 1
        os._exit(status)

    def _put_limits_back(self) -> None:
        for kind, limits in self._limits.items():
            try:
                self._set_limit(kind, limits)
            except (OSError, ValueError):  # the hard limit was lowered
                self.spoiled = True
        self._limits.clear()

    def _end_children(self) -> bool:
        """Kill and reap what tasks left running, also in sessions of its own; whether any was."""
        spared = self._helpers()
        found = False
        deadline = time.monotonic() + _STRAYS_MAX_S
        while linux.reap_ended():
            strays = [c for c in linux.children_of(self._pid) if c not in spared]
            if not strays:
                break
            found = True
            linux.kill_tree(*strays)
            # One that does not end, or new ones without end, are left to the nursery.
            if not all(map(_has_ended, strays)) or time.monotonic() > deadline:
                self.spoiled = True
                break
        return found

    @staticmethod
    def _helpers() -> set[int | None]:
        """multiprocessing's helpers end with us by themselves; it takes them to live for ever."""
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        server = sys.modules.get("multiprocessing.forkserver")
        return {
            getattr(getattr(tracker, "_resource_tracker", None), "_pid", None),
            getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None),
        }


def _has_ended(stray: int) -> bool:
    try:
        return linux.reap(stray, _STRAY_END_S)
    except ChildProcessError:
        return True


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def raw_environ() -> dict[Any, Any]:
    """A copy of the environment as CPython keeps it: 1 us, where ``dict(os.environ)`` takes 40."""
    data = getattr(os.environ, "_data", None)
    return dict(data) if isinstance(data, dict) else dict(os.environ)


def default_signals() -> None:
    """Undo what the processes above set, so that tasks find an ordinary process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.set_wakeup_fd(-1)
