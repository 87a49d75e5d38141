"""Running an MPI job: what a worker calls as the function of a task made by ``Batch.job``."""

from __future__ import annotations

import math
import os
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alamo import linux
from alamo.protocol import pickling
from alamo.protocol.bindings import Binding
from alamo.protocol.jobs import JobCommand
from alamo.protocol.launchers import RANK_VARIABLES
from alamo.worker import (
    bindings,
    child,
    executables,
    job_output,
    programs,
    shared_segments,
    stats,
    stragglers,
)
from alamo.worker.context import context
from alamo.worker.job_outcome import JobOutcome
from alamo.worker.rank_files import RankFiles

#: How often it is looked after ranks' output and ranks that failed.
_LOOK_MS = 50
#: How long the launcher may take to end the others when a rank has failed.
_ABORT_GRACE_S = 1.0
#: And how long to end itself, when all have ended well and nothing of them is left.
_LAUNCHER_END_S = 5.0
_RANK_PROGRAM = str(Path(__file__).with_name("rank.py"))


def run_program(command: JobCommand, argv: Sequence[Any]) -> int:
    """Run ``num_procs`` ranks of a program.

    Returns:
        0, or with ``check=False`` the code of the first rank that ended with another one.

    Raises:
        JobFailed: a rank failed, or the launcher.
        OSError: the program, the directory or the launcher is not there, or there is no room.
    """
    words = [os.fsdecode(executables.argument(word)) for word in argv]
    if not words[0].startswith("/"):
        where = command.cwd or os.getcwd()
        words[0] = programs.find(words[0], where, programs.search_path(command.env))
    with _files(command.num_procs, with_values=False) as files:
        status = _launch(command, files, words)
        return JobOutcome(command, files, words, status).code()


def run_function(command: JobCommand, function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Call a function in ``num_procs`` ranks; returns the list of what it returned, by rank.

    Raises:
        Exception: what it raised, of several ranks in the lowest.
        JobFailed: a rank ended otherwise, or the launcher failed.
        OSError: the directory or the launcher is not there, or there is no room.
    """
    with _files(command.num_procs, with_values=True) as files:
        setup = list(sys.path), RANK_VARIABLES, [files.path(fd) for fd in files.values]
        with open(files.input, "wb", closefd=False) as file:
            file.write(pickle.dumps(setup))
            file.write(pickling.dump_in_line((function, tuple(args))))
        argv = [sys.executable, "-P", _RANK_PROGRAM, files.path(files.input)]
        status = _launch(command, files, argv)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return JobOutcome(command, files, [f"{name}()"], status).values()


@contextmanager
def _files(num_procs: int, with_values: bool) -> Iterator[RankFiles]:
    """The ranks' files while the job runs; in the end their output is the task's."""
    files = RankFiles(num_procs, with_values)
    try:
        yield files
    finally:
        try:
            job_output.hand_over(files)
        finally:
            files.close()


def _environment(command: JobCommand) -> dict[str, str]:
    """The job's: what it was given or the worker's, with what it is bound to and threads a rank."""
    env = {os.fsdecode(k): os.fsdecode(v) for k, v in child.environment_of(command.env).items()}
    return bindings.environment_of(Binding(command.threads), env)


def _launch(command: JobCommand, files: RankFiles, argv: list[str]) -> int:
    """Start the ranks and wait for the end of all of them; returns the launcher's status."""
    given = _environment(command)
    launcher = command.launcher
    line = launcher.line(command.num_procs, os.geteuid() == 0, given.get("SLURMD_NODENAME", ""))
    line += files.wrapped(argv)
    before = shared_segments.listed()
    bystanders = frozenset(linux.children_of(os.getpid()))
    process = subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=files.launcher,
        stderr=files.launcher,
        cwd=command.cwd,
        env=launcher.environment(given),
        start_new_session=True,
    )
    try:
        asked = _wait(process, files, bystanders)
    finally:
        if process.poll() is None:  # this wait was interrupted
            linux.kill_tree(process.pid)
            process.wait()
        if context.worker >= 0:  # a subreaper: whoever was left behind is its child by now
            stragglers.end(bystanders)
        shared_segments.remove(shared_segments.listed() - before)
    return 0 if asked else process.returncode  # what it says of having been ended tells nothing


def _wait(process: subprocess.Popen[bytes], files: RankFiles, bystanders: frozenset[int]) -> bool:
    """Wait until the launcher has ended; whether it had to be made to.

    That is so when a rank has failed and others go on.  When all have ended it may wait for what
    they left running, which holds its pipes: that is ended first.
    """
    fd = os.pidfd_open(process.pid)
    end_s = ask_s = kill_s = math.inf
    seen = asked = False
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not poll.poll(_LOOK_MS):
            files.trim()
            if context.worker >= 0:  # what orphans of ranks leave
                linux.reap_ended(spared=process.pid)
            now_s = time.monotonic()
            if not seen and files.are_over():
                seen, end_s = True, now_s + _ABORT_GRACE_S
            if now_s > kill_s:
                linux.kill_tree(process.pid)
            elif now_s > ask_s:
                stragglers.ask(process.pid)
                asked, ask_s, kill_s = True, math.inf, now_s + stragglers.GRACE_S
            elif now_s > end_s:
                if context.worker >= 0:
                    stragglers.end(bystanders | {process.pid})
                end_s = math.inf
                ask_s = 0.0 if files.has_failed() else now_s + _LAUNCHER_END_S
    finally:
        os.close(fd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # That of the largest process of those that were waited for.
    if usage.ru_maxrss > child.own_peak_kib():
        stats.note_peak(usage.ru_maxrss << 10)
    return asked
