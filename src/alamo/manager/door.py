"""Where further clients come in, and how long and how many strangers may stand there."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections import deque
from pathlib import Path

from alamo.manager.clients import Client
from alamo.manager.service import Service
from alamo.protocol.framing import encode
from alamo.protocol.messages import Ended

log = logging.getLogger("alamo.manager")

#: A stranger has this long to prove that it knows the secret.
PROOF_S = 10.0
#: Strangers at once; the one that came first goes for one more, unless it has come just now:
#: then the others wait outside.  So nobody who means well is sent away, however many come.
STRANGERS_MAX = 128
NEW_S = 1.0
_LOOK_AGAIN_S = 0.01
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


class Door:
    """Listens on the Batch's socket."""

    def __init__(self, service: Service, address: str, secret_path: str) -> None:
        self._service = service
        self._address = address
        self._secret_path = secret_path
        self._strangers: deque[tuple[float, Client]] = deque()
        self._watching = False
        #: Given up for a moment to tell a client that there are no descriptors left.
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(address)
        Path(address).chmod(0o600)
        self._listener.listen(128)
        self._open()

    def _open(self) -> None:
        self._service.loop.add(self._listener.fileno(), lambda _: self._accept())

    def _accept(self) -> None:
        if not self._has_room():
            self._service.loop.remove(self._listener.fileno())
            self._service.loop.call_later(_LOOK_AGAIN_S, self._open)
            return
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _TOO_MANY_FILES:
                self._turn_away()
            return  # else the peer has gone again
        client = Client(self._service, sock, False, self._address, self._secret_path)
        self._strangers.append((time.monotonic() + PROOF_S, client))
        self._watch()

    def _has_room(self) -> bool:
        """Whether one more may come in, for which another one may have to go."""
        if len(self._strangers) >= STRANGERS_MAX:
            self._forget_known()
        if len(self._strangers) < STRANGERS_MAX:
            return True
        if time.monotonic() < self._strangers[0][0] - PROOF_S + NEW_S:
            return False
        self._strangers.popleft()[1].expire("too many others came after it")
        return True

    def _turn_away(self) -> None:
        """Say why there is no room; to leave the client waiting would be worse."""
        log.warning("a client was turned away: too many open files (see ulimit -n)")
        os.close(self._spare)
        try:
            sock, _ = self._listener.accept()
            with sock:
                sock.setblocking(False)
                sock.send(encode(Ended("the manager has too many open files (see ulimit -n)")))
        except OSError:
            pass
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY)

    # -- strangers -------------------------------------------------------------------------

    def _forget_known(self) -> None:
        self._strangers = deque([s for s in self._strangers if s[1].is_stranger])

    def _watch(self) -> None:
        if self._strangers and not self._watching:
            self._watching = True
            self._service.loop.call_at(self._strangers[0][0], self._expire)

    def _expire(self) -> None:
        self._watching = False
        now = time.monotonic()
        while self._strangers and (
            not self._strangers[0][1].is_stranger or self._strangers[0][0] <= now
        ):
            self._strangers.popleft()[1].expire(f"it did not say who it is within {PROOF_S} s")
        self._watch()
