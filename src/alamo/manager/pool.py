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
from typing import Protocol

from alamo import linux
from alamo.manager.connection import Connection
from alamo.manager.loop import Loop
from alamo.protocol import messages as msg
from alamo.protocol.layout import (
    CHUNK,
    LIMIT,
    NEXT,
    NO_LIMIT,
    SINCE,
    SharedMemory,
    make_memory,
)

log = logging.getLogger("alamo.manager")

#: How long to wait for the exit status of a worker whose connection has ended.
_STATUS_WAIT_S = 1.0


class PoolOwner(Protocol):
    """Who is told what workers do."""

    def on_worker_message(self, worker: WorkerProcess, message: msg.Message) -> None:
        """A worker sent a message."""

    def on_worker_dead(self, worker: WorkerProcess) -> None:
        """A worker's process is gone and all that it sent has been handed over."""


class WorkerProcess:
    """One worker as the manager holds it.

    Attributes:
        memory: cells and buffers shared with it.
        stdout, stderr: descriptors of what its running task has printed so far.
        status: of ``waitpid``; ``None`` while unknown.
        epoch: chunks sent with an older epoch are dropped by the worker.
        end_seq: one past the last sequence number dealt.
        known_functions, known_objects: what has been sent to it.
        recall: identity of the recall under way.
        cause: why it ended, where the status does not tell.
        retired: it was asked to end.
        buried: its owner has been told of its death.
    """

    def __init__(self, number: int, memory: SharedMemory, stdout: int, stderr: int) -> None:
        self.number = number
        self.pid = -1
        self.memory = memory
        self.stdout = stdout
        self.stderr = stderr
        self.connection: Connection
        self.status: int | None = None
        self.epoch = 0
        self.end_seq = 0
        self.known_functions: set[int] = set()
        self.known_objects: set[tuple[int, int]] = set()
        self.recall: object | None = None
        self.cause = ""
        self.retired = False
        self.buried = False

    @property
    def next_seq(self) -> int:
        """Sequence number of the element that runs, or runs next."""
        return int(self.memory.cells[NEXT])

    def running_seq(self, chunks: list[tuple[int, int, int]]) -> int:
        """Sequence number of the element that runs, -1 between two.

        Args:
            chunks: number, first and one past the last sequence number of each that it holds.
        """
        cells, seq = self.memory.cells, self.next_seq
        for number, first, end in chunks:
            # At the end of a chunk NEXT is the first of the next, which has not been begun
            # before its number is in the cell.
            if first <= seq < end and number == cells[CHUNK] and cells[SINCE]:
                return seq
        return -1

    @property
    def is_explained(self) -> bool:
        """Whether anything is known of its end; not so when it went down with its nursery."""
        return self.status is not None or bool(self.cause)

    def lower_limit(self, seq: int) -> int:
        """Have the worker stop before ``seq``, or where it stops already; returns where.

        A limit that rose could let an element begin that has been given to another worker.
        """
        limit = min(seq, int(self.memory.cells[LIMIT]))
        self.memory.cells[LIMIT] = limit
        return limit

    def lift_limit(self) -> None:
        """The worker has stopped and may go on."""
        self.memory.cells[LIMIT] = NO_LIMIT

    def close(self) -> None:
        """Free what the manager holds for it."""
        self.recall = None  # a recall under way must not look at the memory any more
        self.connection.close(quiet=True)
        self.memory.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Pool:
    """Workers of this machine."""

    def __init__(self, loop: Loop, owner: PoolOwner, setup: msg.NurserySetup) -> None:
        self._loop = loop
        self._owner = owner
        self._setup = setup
        self._numbers = 0
        self.workers: dict[int, WorkerProcess] = {}
        #: Workers read this end; when the manager dies the kernel kills them through it.
        self._lifeline_r, self._lifeline_w = os.pipe2(os.O_CLOEXEC)
        self._closing = False
        self._nursery: subprocess.Popen[bytes] | None = None
        self._start_nursery()

    # -- the nursery -----------------------------------------------------------------

    def _start_nursery(self) -> None:
        ours, theirs = socket.socketpair()
        root = os.path.dirname(os.path.dirname(os.path.abspath(linux.__file__)))
        code = (
            f"import sys; sys.path.insert(0, {root!r}); "
            "from alamo.worker.nursery import main; main()"
        )
        self._nursery = subprocess.Popen(
            [sys.executable, "-P", "-c", code, "alamo.nursery", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._link = Connection(
            self._loop, ours, msg.NurseryMessage, self._on_nursery_message, self._on_nursery_gone
        )
        self._link.send(self._setup)

    def _on_nursery_message(self, message: msg.Message) -> None:
        if isinstance(message, msg.Spawned):
            worker = self.workers.get(message.worker)
            if worker is not None:
                worker.pid = message.pid
        elif isinstance(message, msg.Exited):
            worker = self.workers.get(message.worker)
            if worker is not None:
                worker.pid, worker.status = message.pid, message.status
                self._bury(worker)

    def _on_nursery_gone(self, reason: str) -> None:
        """Workers go on without it: they become our children; a new one starts new ones."""
        if self._closing or self._nursery is None:
            return
        try:
            self._nursery.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._nursery.kill()
            self._nursery.wait()
        log.warning("the nursery (pid %d) died; starting another", self._nursery.pid)
        unborn = [w for w in self.workers.values() if w.pid < 0]
        self._start_nursery()
        for worker in unborn:
            self._bury(worker)
        self.reap()

    def reap(self) -> None:
        """Collect children of the manager itself: workers and strays whose nursery died."""
        nursery = self._nursery.pid if self._nursery is not None else -1
        pids = {w.pid: w for w in self.workers.values()}
        for child in linux.children_of(os.getpid()):
            if child == nursery:
                continue
            worker = pids.get(child)
            if worker is None:
                linux.kill_tree(child)
            try:
                pid, status = os.waitpid(child, 0 if worker is None else os.WNOHANG)
            except ChildProcessError:
                continue
            if pid and worker is not None:
                worker.status = status
                self._bury(worker)
        if self._nursery is not None:
            self._nursery.poll()

    # -- workers ---------------------------------------------------------------------

    def spawn(self) -> int:
        """Start a worker; it says ``Ready`` when it is up."""
        number = self._numbers
        self._numbers += 1
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        memory_fd = make_memory()
        stdout = os.memfd_create("alamo-stdout", os.MFD_CLOEXEC)
        stderr = os.memfd_create("alamo-stderr", os.MFD_CLOEXEC)
        worker = WorkerProcess(number, SharedMemory(memory_fd), stdout, stderr)
        worker.connection = Connection(
            self._loop,
            ours,
            msg.WorkerMessage,
            lambda message: self._owner.on_worker_message(worker, message),
            lambda reason: self._on_worker_silent(worker),
        )
        self.workers[number] = worker
        fds = (theirs.fileno(), memory_fd, stdout, stderr, self._lifeline_r)
        self._link.send(msg.Spawn(number), fds)
        theirs.close()
        os.close(memory_fd)
        return number

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
        if self.workers.get(worker.number) is worker:
            if worker.pid > 0:
                linux.kill_tree(worker.pid)
            self._bury(worker)

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
        nursery = self._nursery
        if nursery is None:
            return
        self._link.close(quiet=True)
        try:
            nursery.wait(timeout=3.0)
        except subprocess.TimeoutExpired:
            linux.kill_tree(nursery.pid)
            nursery.wait()
        for child in linux.children_of(os.getpid()):
            linux.kill_tree(child)
