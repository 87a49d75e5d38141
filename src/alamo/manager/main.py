"""Entry of the manager process.

It is started by the primary client with one end of a socket pair, on which the first
message is ``Setup``; everything else follows from that.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from alamo import linux, runtime_dir
from alamo.core.session import End
from alamo.errors import AlamoError
from alamo.manager.clients import Client
from alamo.manager.door import Door
from alamo.manager.goodbye import ABORT_S, Goodbye
from alamo.manager.loop import Loop
from alamo.manager.service import Service
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader, encode, printable, send_all
from alamo.worker import shared_segments

_TRACE_MAX = 2000
_FILES_MAX = 1 << 20


def _read_setup(sock: socket.socket) -> msg.Setup:
    reader: MessageReader[msg.Message] = MessageReader(msg.Setup)
    while True:
        if not reader.receive(sock):
            sys.exit(0)
        for message in reader.messages():
            assert isinstance(message, msg.Setup)
            return message


class _ClientHandler(logging.Handler):
    """Log records go to the primary client."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = printable(self.format(record))
            self._service.logs.tell(msg.Logged(record.name, record.levelno, text))
        except Exception:
            self.handleError(record)


class _Outside:
    """What may end the service, or a worker, and is no message: signals, and the primary's end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._terminated)
        self._primary = -1
        try:
            self._primary = os.pidfd_open(service.setup.pid)
        except OSError:  # it is gone already, and so is its socket
            pass

    def watch(self, child_ended: Callable[[], None]) -> None:
        """Look at all that in the service's loop.

        Args:
            child_ended: called when children have ended, perhaps: workers, and strays that
                became ours because the nursery died.
        """

        def woken(_: int) -> None:
            os.read(self._wake_r, 4096)
            child_ended()

        self._service.loop.add(self._wake_r, woken)
        if self._primary >= 0:
            self._service.loop.add(self._primary, self._gone)

    def _terminated(self, number: int, _: object) -> None:
        self._end(f"the manager got signal {signal.Signals(number).name}")

    def _gone(self, fd: int) -> None:
        """The primary has ended, though a child of it may keep its end of the socket open."""
        self._service.loop.remove(self._primary)
        self._end("the primary client is gone")

    def _end(self, reason: str) -> None:
        self._service.session.broken(reason)
        self._service.loop.stop()


def _raise_file_limit() -> int:
    """As many open files as allowed: each worker and each shared block is some.

    Returns:
        The limit as it was, which tasks keep.
    """
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return files


def serve(sock: socket.socket) -> None:
    """Run a service from its setup to its end."""
    setup = _read_setup(sock)
    linux.become_subreaper()
    linux.set_process_name("alamo-manager")
    directory: Path | None = None
    try:
        directory = runtime_dir.make_runtime_dir(setup.runtime_root)
        service, outside = _open(setup, sock, directory)
        _run(service)
        if service.metrics is not None:
            service.metrics.close()
        _say_goodbye(service, outside)
        service.pool.end_all()
    except Exception as error:
        # Too early for the usual way: no disk space, no descriptors, no process.
        sock.settimeout(ABORT_S)
        send_all(sock, encode(msg.Ended(f"the manager could not start: {_describe(error)}")))
        os.closerange(3, _FILES_MAX)  # removing the directory takes some
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def _open(setup: msg.Setup, sock: socket.socket, directory: Path) -> tuple[Service, _Outside]:
    """Make the service ready for clients."""
    files = _raise_file_limit()
    address, secret_path = str(directory / "socket"), str(directory / "secret")
    loop = Loop()
    service = Service(loop, setup, address, files)
    outside = _Outside(service)
    outside.watch(service.pool.reap)
    logger = logging.getLogger("alamo")
    logger.setLevel(setup.log_level)
    logger.addHandler(_ClientHandler(service))
    runtime_dir.write_secret(directory / "secret", setup.secret)
    Door(service, address, secret_path)
    if setup.telemetry:
        from alamo.manager.metrics import Metrics  # nothing that others should load

        service.metrics = Metrics(service)
    Client(service, sock, True, address, secret_path)
    runtime_dir.sweep(setup.runtime_root)
    shared_segments.remove(shared_segments.listed())  # of jobs whose workers were killed
    return service, outside


def _run(service: Service) -> None:
    """Work until the end; an error in here ends the service, and everybody is told of it."""
    try:
        service.loop.run()
    except Exception as error:
        service.session.broken(
            f"the manager failed: {_describe(error)}\n{traceback.format_exc()[-_TRACE_MAX:]}"
        )


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error}: raise the limit (ulimit -n) or ask for fewer workers"
    return str(error) if isinstance(error, AlamoError) else f"{type(error).__name__}: {error}"


def _say_goodbye(service: Service, outside: _Outside) -> None:
    """Tell all clients.  When all work is done they get what is still queued for them."""
    done = service.session.verdict(service.scheduler.unfinished) is End.DONE
    reason = "" if done else service.session.reason or "the manager stopped"
    service.loop.begin_anew()
    outside.watch(lambda: None)
    Goodbye(service, reason, done).say()


def main() -> None:
    """Entry: the last argument is the descriptor of the primary client's socket."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # of the client's thread
    serve(socket.socket(fileno=int(sys.argv[-1])))


if __name__ == "__main__":
    main()
