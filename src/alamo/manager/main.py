"""Entry of the manager process.

It is started by the primary client with one end of a socket pair, on which the first
message is ``Setup``; everything else follows from that.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import socket
import sys

from alamo import linux, runtime_dir
from alamo.core.session import End
from alamo.manager.clients import Client
from alamo.manager.loop import Loop
from alamo.manager.service import Service
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader


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


def _accept(service: Service, listener: socket.socket, address: str, secret_path: str) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors, or the peer has gone again
            logging.getLogger("alamo.manager").warning("a client could not be accepted: %s", error)
            return
        Client(service, sock, False, address, secret_path)


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


def _raise_file_limit() -> None:
    """As many open files as allowed: each worker and each shared block is some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def serve(sock: socket.socket) -> None:
    """Run a service from its setup to its end."""
    setup = _read_setup(sock)
    _raise_file_limit()
    linux.become_subreaper()
    linux.set_process_name("alamo-manager")
    directory = runtime_dir.make_runtime_dir(setup.runtime_root)
    address, secret_path = str(directory / "socket"), str(directory / "secret")
    try:
        loop = Loop()
        service = Service(loop, setup, address)
        _watch_children(loop, service)
        _terminate_on_signal(service)
        logger = logging.getLogger("alamo")
        logger.setLevel(setup.log_level)
        logger.addHandler(_ClientHandler(service))
        runtime_dir.write_secret(directory / "secret", setup.secret)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(address)
        listener.listen(128)
        loop.add(listener.fileno(), lambda _: _accept(service, listener, address, secret_path))
        Client(service, sock, True, address, secret_path)
        runtime_dir.sweep(setup.runtime_root)
        loop.run()
        _say_goodbye(service)
        service.pool.end_all()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _say_goodbye(service: Service) -> None:
    verdict = service.session.verdict(service.scheduler.unfinished)
    reason = "" if verdict is End.DONE else service.session.reason or "the manager stopped"
    for client in list(service.clients.values()):
        client.connection.send(msg.Ended(reason))
        client.connection.flush_blocking(1.0)


def main() -> None:
    """Entry: the last argument is the descriptor of the primary client's socket."""
    serve(socket.socket(fileno=int(sys.argv[-1])))


if __name__ == "__main__":
    main()
