"""The nursery: a small single-threaded process that forks workers for the manager.

It opens and unpickles nothing, so a fork is safe and costs a millisecond, whatever the
user's process holds.  It reaps workers, and kills descendants that outlived their worker.
When the manager is gone it kills all of them and ends.  When the nursery itself fails
the workers go on as children of the manager, which starts another nursery.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

from alamo import linux
from alamo.protocol.framing import MessageReader, encode
from alamo.protocol.messages import Message
from alamo.protocol.nursery_messages import (
    Exited,
    NurseryReady,
    NurserySetup,
    Spawn,
    Spawned,
    ToNursery,
)
from alamo.worker.process import worker_main

#: When the manager has gone, descendants get this long to be found and killed.
_LAST_SWEEP_S = 2.0


class Nursery:
    """Forks and reaps workers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader: MessageReader[Message] = MessageReader(ToNursery)
        self._workers: dict[int, int] = {}
        self._setup: NurserySetup | None = None
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake_w)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def serve(self) -> None:
        """Work until the manager closes the connection."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        try:
            while self._round([fd for fd, _ in poll.poll()]):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        linux.end_children(_LAST_SWEEP_S)

    def _round(self, ready: list[int]) -> bool:
        """Handle what is ready; ``False`` when the manager is gone."""
        if self._wake_r in ready:
            os.read(self._wake_r, 4096)
            self._reap()
        return self._sock.fileno() not in ready or self._receive()

    def _receive(self) -> bool:
        if not self._reader.receive(self._sock):
            return False
        for message in self._reader.messages():
            if isinstance(message, NurserySetup):
                self._setup = message
                self._tell(NurseryReady())
            elif isinstance(message, Spawn):
                self._spawn(message, self._reader.take_descriptors(message))
        return True

    def _spawn(self, message: Spawn, fds: list[int]) -> None:
        assert self._setup is not None
        worker = message.worker
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, no memory: the other workers go on
            for fd in fds:
                os.close(fd)
            self._tell(Exited(worker, 0, 1 << 8, f"the system cannot start a process: {error}"))
            return
        if pid == 0:
            # Siblings must not hold each other's sockets, or nobody would see an end of stream.
            self._reader.close()
            self._sock.close()
            os.close(self._wake_r)
            os.close(self._wake_w)
            worker_main(worker, fds, self._setup, message.binding)
        for fd in fds:
            os.close(fd)
        self._workers[pid] = worker
        self._tell(Spawned(worker, pid))

    def _tell(self, message: Message) -> None:
        self._sock.sendall(encode(message))

    def _reap(self) -> None:
        """Report dead workers; kill whatever else became our child: its worker is dead."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._tell(Exited(worker, pid, status))
        strays = [child for child in linux.children_of(os.getpid()) if child not in self._workers]
        linux.kill_tree(*strays)  # the end of each wakes us again


def main() -> None:
    """Entry of the nursery process: the last argument is the descriptor of its socket."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    linux.become_subreaper()
    linux.set_process_name("alamo-nursery")
    sock = socket.socket(fileno=int(sys.argv[-1]))
    Nursery(sock).serve()


if __name__ == "__main__":
    main()
