"""How a client registers: it and the manager prove to each other that they know the secret."""

from __future__ import annotations

import os
import socket
import time

from alamo.errors import AuthenticationFailed, BatchBroken, ProtocolError
from alamo.protocol import auth
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader, encode, send_all
from alamo.worker.context import context

#: How long the manager may take to answer.
_HANDSHAKE_S = 30.0
#: How long it is left alone when too many clients wait there.
_BUSY_S = 0.01


def connect(address: str) -> socket.socket:
    """A socket to the manager at this path.

    Raises:
        BatchBroken: nobody answers there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect(sock, address)
    except OSError as error:
        raise BatchBroken(
            f"no manager answers at {address}: {error}; "
            "the Batch has ended, or belongs to another user or machine"
        ) from error
    return sock


def _connect(sock: socket.socket, address: str) -> None:
    """Connect; while too many others wait there, try again."""
    deadline = time.monotonic() + _HANDSHAKE_S
    sock.setblocking(False)  # for a Unix socket there is no timeout
    try:
        while True:
            try:
                sock.connect(address)
                sock.setblocking(True)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it is busy since {_HANDSHAKE_S} s") from None
            time.sleep(_BUSY_S)
    except BaseException:
        sock.close()
        raise


def await_welcome(sock: socket.socket, reader: MessageReader[msg.Message]) -> msg.Welcome:
    """The first words of a manager to the process that started it, on their socket pair.

    Raises:
        BatchBroken: it could not start, or ended meanwhile.
    """
    sock.settimeout(_HANDSHAKE_S)
    welcome = _next_message(sock, reader)
    sock.settimeout(None)
    if not isinstance(welcome, msg.Welcome):
        raise ProtocolError(f"the manager began with {type(welcome).__name__}")
    return welcome


def register(
    sock: socket.socket, reader: MessageReader[msg.Message], address: str, secret_path: str
) -> msg.Welcome:
    """Be let in by a manager.

    Raises:
        AuthenticationFailed: this process may not use the Batch, or who answers is not its manager.
        BatchBroken: the manager ended meanwhile.
    """
    sock.settimeout(_HANDSHAKE_S)
    challenge = _next_message(sock, reader)
    if isinstance(challenge, msg.Refused):
        raise AuthenticationFailed(f"the manager refused this client: {challenge.reason}")
    if not isinstance(challenge, msg.Challenge):
        raise ProtocolError(f"the manager began with {type(challenge).__name__}")
    try:
        with open(secret_path, "rb") as file:
            secret = file.read()
    except OSError as error:
        raise AuthenticationFailed(f"the secret of the Batch cannot be read: {error}") from error
    nonce = auth.make_secret()
    worker = context.worker if context.address == address else -1
    answer = auth.proof(secret, b"client", challenge.nonce)
    send_all(sock, encode(msg.Hello(msg.VERSION, answer, nonce, os.getpid(), worker)))
    welcome = _next_message(sock, reader)
    if isinstance(welcome, msg.Refused):
        raise AuthenticationFailed(f"the manager refused this client: {welcome.reason}")
    if not isinstance(welcome, msg.Welcome) or not auth.is_proof(
        secret, b"manager", nonce, welcome.proof
    ):
        raise AuthenticationFailed(f"whoever answers at {address} is not the manager of this Batch")
    sock.settimeout(None)
    return welcome


def _next_message(sock: socket.socket, reader: MessageReader[msg.Message]) -> msg.Message:
    try:
        while True:
            for message in reader.messages():
                if isinstance(message, msg.Ended):
                    raise BatchBroken(message.reason or "the Batch has ended")
                return message
            if not reader.receive(sock):
                raise BatchBroken("the manager ended while this client registered")
    except OSError as error:
        raise BatchBroken(
            f"the manager did not answer while this client registered: {error}"
        ) from error
