"""The worker processes of this machine: starting, watching and ending them.

The pool owns the nursery's connection, each worker's socket and shared memory, and
knows how a worker ended.  It decides nothing: it tells its owner and does as it is told.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Protocol

from alamo import linux, runtime_dir
from alamo.core.terms import PLAIN, Binding
from alamo.manager.connection import Connection
from alamo.manager.loop import Loop
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol import bindings as protocol
from alamo.protocol import messages as msg
from alamo.protocol import nursery_messages
from alamo.protocol.layout import SINCE, SharedMemory, make_memory
from alamo.worker import output

log = logging.getLogger("alamo.manager")

#: What a worker is told that was started for nothing special.
PLAIN_WIRE = protocol.Binding()
#: How long to wait for the exit status of a worker whose connection has ended.
_STATUS_WAIT_S = 1.0
#: How long a nursery may take to start a worker.
_BIRTH_MAX_S = 10.0
#: How often the output of running tasks is looked at.
_TRIM_S = 0.25
#: Nurseries that die before they are up, in a row, until no further one is tried.
_NURSERIES_MAX = 10
#: Where the system has no room for another nursery: how long until it is tried again.
_NURSERY_AGAIN_S = 0.2
#: How long until strays that were killed are reaped.
_STRAYS_S = 0.1
#: At the end of the service: for the nursery to end its children, for the rest to be killed.
_NURSERY_END_S = 3.0
_LAST_SWEEP_S = 1.0


class PoolOwner(Protocol):
    """Who is told what workers do."""

    def on_worker_message(self, worker: WorkerProcess, message: msg.Message) -> None:
        """A worker sent a message."""

    def on_worker_dead(self, worker: WorkerProcess) -> None:
        """A worker's process is gone and all that it sent has been handed over."""

    def on_pool_broken(self, reason: str) -> None:
        """No worker can be started any more."""

    def on_start_failed(self, reason: str) -> None:
        """No worker can be started now; it is tried again."""


class Pool:
    """Workers of this machine."""

    def __init__(self, loop: Loop, owner: PoolOwner, setup: nursery_messages.NurserySetup) -> None:
        self._loop = loop
        self._owner = owner
        self._setup = setup
        self._numbers = 0
        self.workers: dict[int, WorkerProcess] = {}
        #: Workers read this end; when the manager dies the kernel kills them through it.
        self._lifeline_r, self._lifeline_w = os.pipe2(os.O_CLOEXEC)
        self._closing = False
        self._nurseries_failed = 0
        self._nursery: subprocess.Popen[bytes]
        self._start_nursery()
        self._trim_outputs()

    # -- the nursery -----------------------------------------------------------------

    def _start_nursery(self) -> None:
        """Start the process that starts workers.

        Raises:
            OSError: there are no descriptors left, no memory, or too many processes.
        """
        ours, theirs = socket.socketpair()
        root = os.path.dirname(os.path.dirname(os.path.abspath(linux.__file__)))
        code = (
            f"import sys; sys.path.insert(0, {root!r}); "
            "from alamo.worker.nursery import main; main()"
        )
        with theirs:
            try:
                self._nursery = subprocess.Popen(
                    [sys.executable, "-P", "-c", code, "alamo.nursery", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, runtime_dir.MARK: runtime_dir.name_of(self._setup.address)},
                )
            except BaseException:
                ours.close()
                raise
        self._link = Connection(
            self._loop,
            ours,
            nursery_messages.NurseryMessage,
            self._on_nursery_message,
            self._on_nursery_gone,
        )
        self._link.send(self._setup)

    def _on_nursery_message(self, message: msg.Message) -> None:
        if isinstance(message, nursery_messages.Spawned):
            worker = self.workers.get(message.worker)
            if worker is not None:
                worker.set_pid(message.pid)
        elif isinstance(message, nursery_messages.Exited):
            worker = self.workers.get(message.worker)
            if worker is not None:
                worker.pid, worker.status = message.pid, message.status
                worker.cause = message.cause or worker.cause
                self._bury(worker)
        elif isinstance(message, nursery_messages.NurseryReady):
            self._nurseries_failed = 0

    def _on_nursery_gone(self, reason: str) -> None:
        """Workers go on without it: they become our children; a new one starts new ones."""
        if self._closing:
            return
        self._nursery.kill()
        status: int | None = None
        try:
            status = self._nursery.wait(timeout=_LAST_SWEEP_S)
        except subprocess.TimeoutExpired:  # it hangs in the kernel
            pass
        self._nurseries_failed += 1
        if self._nurseries_failed >= _NURSERIES_MAX:
            self._owner.on_pool_broken(
                f"the process that starts workers died {_NURSERIES_MAX} times in a row "
                f"while starting (the last time with status {status})"
            )
            return
        log.warning("the nursery (pid %d) died; starting another", self._nursery.pid)
        self._replace_nursery()
        self.reap()

    def _replace_nursery(self) -> None:
        """Start another; where there is no room for it, again a little later: tasks go on."""
        unborn = [w for w in self.workers.values() if w.pid < 0]
        try:
            self._start_nursery()
        except OSError as error:
            log.info("no nursery can be started: %s", error)
            self._loop.call_later(_NURSERY_AGAIN_S, self._replace_nursery)
            self._owner.on_start_failed(f"the process that starts workers cannot start: {error}")
        for worker in unborn:
            self._bury(worker)

    def reap(self) -> None:
        """Collect children of the manager itself: workers and strays whose nursery died."""
        workers = {w.pid: w for w in self.workers.values()}
        children = [c for c in linux.children_of(os.getpid()) if c != self._nursery.pid]
        linux.kill_tree(*(child for child in children if child not in workers))
        has_strays = False
        for child in children:
            try:
                pid, status = os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                continue
            worker = workers.get(child)
            if worker is None:
                has_strays |= not pid
            elif pid:
                worker.status = status
                self._bury(worker)
        self._nursery.poll()
        if has_strays and not self._closing:
            self._loop.call_later(_STRAYS_S, self.reap)

    def limit_blocks(self, blocks_max: int) -> None:
        """Workers started from now on may have no more blocks in use than this."""
        if blocks_max < self._setup.blocks_max:
            self._setup.blocks_max = blocks_max
            self._link.send(self._setup)

    # -- workers ---------------------------------------------------------------------

    def spawn(self, binding: Binding = PLAIN, wire: protocol.Binding | None = None) -> None:
        """Start a worker; it says ``Ready`` when it is up.

        Args:
            wire: the binding as the worker is told it.

        Raises:
            OSError: there are no descriptors left, or no memory, or no nursery.
        """
        if self._link.closed:
            raise ChildProcessError("the process that starts workers could not be started")
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            memory_fd = make_memory()
            undo.callback(os.close, memory_fd)
            stdout = os.memfd_create("alamo-stdout", os.MFD_CLOEXEC)
            undo.callback(os.close, stdout)
            stderr = os.memfd_create("alamo-stderr", os.MFD_CLOEXEC)
            undo.callback(os.close, stderr)
            worker = WorkerProcess(self._numbers, SharedMemory(memory_fd), stdout, stderr, binding)
            fds = (theirs.fileno(), memory_fd, stdout, stderr, self._lifeline_r)
            self._link.send(nursery_messages.Spawn(worker.number, wire or PLAIN_WIRE), fds)
            undo.pop_all()
        theirs.close()
        os.close(memory_fd)
        worker.connection = Connection(
            self._loop,
            ours,
            msg.WorkerMessage,
            lambda message: self._owner.on_worker_message(worker, message),
            lambda reason: self._on_worker_silent(worker),
        )
        self._numbers += 1
        self.workers[worker.number] = worker
        nursery = self._nursery
        self._loop.call_later(_BIRTH_MAX_S, lambda: self._check_born(worker, nursery))

    def _check_born(self, worker: WorkerProcess, nursery: subprocess.Popen[bytes]) -> None:
        """Replace a nursery that takes too long: it is stuck or stopped."""
        if worker.pid < 0 and not worker.buried and nursery is self._nursery:
            log.warning("the nursery (pid %d) does not answer", nursery.pid)
            nursery.kill()  # that its connection ends does the rest

    def retire(self, number: int) -> None:
        """Have an idle worker end: it does when its connection does."""
        worker = self.workers.get(number)
        if worker is not None:
            worker.retired = True
            worker.connection.close(quiet=True)

    def kill(self, number: int) -> None:
        """End a worker at once, with the descendants of its task."""
        worker = self.workers.get(number)
        if worker is not None and worker.pid > 0:
            linux.kill_tree(worker.pid)

    def _on_worker_silent(self, worker: WorkerProcess) -> None:
        """Its connection ended; its exit status comes from whoever is its parent."""
        self.reap()
        self._loop.call_later(_STATUS_WAIT_S, lambda: self._give_up(worker))

    def _give_up(self, worker: WorkerProcess) -> None:
        if self.workers.get(worker.number) is not worker:
            return
        if worker.start_ticks and linux.process_start_ticks(worker.pid) == worker.start_ticks:
            linux.kill_tree(worker.pid)
            worker.cause = (
                "its connection to the manager ended while it ran, so it was killed: "
                "the function or a library closed descriptors that were not its own"
            )
        self._bury(worker)

    def _trim_outputs(self) -> None:
        """Bound what a task that prints without end takes of the machine's memory."""
        for worker in self.workers.values():
            if worker.memory.cells[SINCE]:
                output.trim(worker.stdout)
                output.trim(worker.stderr)
        self._loop.call_later(_TRIM_S, self._trim_outputs)

    def _bury(self, worker: WorkerProcess) -> None:
        if self.workers.get(worker.number) is not worker or worker.buried:
            return
        worker.buried = True
        if not worker.connection.closed:
            worker.connection.drain()
        # It stays in the table: what is learnt from its memory may still make the owner send to it.
        self._owner.on_worker_dead(worker)
        del self.workers[worker.number]
        worker.close()

    def end_all(self) -> None:
        """Kill every worker and descendant, and the nursery; for the end of the service."""
        self._closing = True
        for worker in self.workers.values():
            worker.connection.close(quiet=True)
        self._link.close(quiet=True)
        try:
            self._nursery.wait(timeout=_NURSERY_END_S)
        except subprocess.TimeoutExpired:
            pass
        # It, if it had to be killed, and children of one that had died.
        linux.end_children(_LAST_SWEEP_S)
