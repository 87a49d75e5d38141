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
import time
import traceback
from pathlib import Path

from alamo import linux, runtime_dir
from alamo.core.session import End
from alamo.errors import AlamoError
from alamo.manager.clients import Client
from alamo.manager.door import Door
from alamo.manager.loop import Loop
from alamo.manager.service import Service
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader, encode, send_all

#: For telling clients that the service ends before its work is done.
_GOODBYE_S = 1.0
#: For each client other than the primary to take the last results.
_LAST_RESULTS_S = 30.0
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
        self._service.tell_log(msg.Logged(record.name, record.levelno, self.format(record)))


def _watch_children(loop: Loop, service: Service) -> None:
    """Reap workers and strays that became our children because the nursery died."""
    wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_w)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    def woken(_: int) -> None:
        os.read(wake_r, 4096)
        service.pool.reap()

    loop.add(wake_r, woken)


def _terminate_on_signal(service: Service) -> None:
    def handler(number: int, _: object) -> None:
        service.session.broken(f"the manager got signal {signal.Signals(number).name}")
        service.loop.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def _watch_primary(loop: Loop, service: Service) -> None:
    """End with the primary client, also when a child of it keeps its end of the socket open."""

    def gone(_: int) -> None:
        loop.remove(fd)
        service.session.broken("the primary client is gone")
        loop.stop()

    try:
        fd = os.pidfd_open(service.setup.pid)
    except OSError:  # it is gone already, and so is its socket
        return
    loop.add(fd, gone)


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
        service = _open(setup, sock, directory)
        _run(service)
        _say_goodbye(service)
        service.pool.end_all()
    except Exception as error:
        # Too early for the usual way: no disk space, no descriptors, no process.
        sock.settimeout(_GOODBYE_S)
        send_all(sock, encode(msg.Ended(f"the manager could not start: {_describe(error)}")))
        os.closerange(3, _FILES_MAX)  # removing the directory takes some
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def _open(setup: msg.Setup, sock: socket.socket, directory: Path) -> Service:
    """Make the service ready for clients."""
    files = _raise_file_limit()
    address, secret_path = str(directory / "socket"), str(directory / "secret")
    loop = Loop()
    service = Service(loop, setup, address, files)
    _watch_children(loop, service)
    _watch_primary(loop, service)
    _terminate_on_signal(service)
    logger = logging.getLogger("alamo")
    logger.setLevel(setup.log_level)
    logger.addHandler(_ClientHandler(service))
    runtime_dir.write_secret(directory / "secret", setup.secret)
    Door(service, address, secret_path)
    Client(service, sock, True, address, secret_path)
    runtime_dir.sweep(setup.runtime_root)
    return service


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


def _say_goodbye(service: Service) -> None:
    """Tell all clients.  When all work is done they get what is still queued for them."""
    done = service.session.verdict(service.scheduler.unfinished) is End.DONE
    reason = "" if done else service.session.reason or "the manager stopped"
    deadline = time.monotonic() + (_LAST_RESULTS_S if done else _GOODBYE_S)
    for number, client in list(service.clients.items()):
        client.connection.send(msg.Ended(reason))
        left_s = max(_GOODBYE_S / 10, deadline - time.monotonic())
        client.connection.flush_blocking(
            None if done and number == service.session.primary else left_s
        )


def main() -> None:
    """Entry: the last argument is the descriptor of the primary client's socket."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # of the client's thread
    serve(socket.socket(fileno=int(sys.argv[-1])))


if __name__ == "__main__":
    main()
