"""A process that takes messages from a queue: its slot, and what it holds on lease."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from alamo.core import leases
from alamo.core.leases import Lease
from alamo.data.home import Home
from alamo.data.lmdb.control import OWN

__all__ = ["BUSY_UNTIL", "LAST_TAKER", "SLOTS", "Consumer"]

#: Words of the control page, changed inside a write transaction: which consumer took last,
#: and until when several are taken to be at work, in ns.  The second one is also written by who
#: waits for the end of a lease.
LAST_TAKER: Final = OWN
BUSY_UNTIL: Final = OWN + 1
#: From here on a word for each slot: what its consumer has handed out (``leases.word``).
SLOTS: Final = OWN + 8
SLOTS_MAX: Final = 256

#: struct flock
_FLOCK: Final = struct.Struct("hhqqi")


class Consumer:
    """What one process knows of its own takings.

    A slot is a byte of the control file that its process has locked, so it is free again when the
    process ends, however that ends.  A process that finds none takes messages without leases.

    Attributes:
        number: of the slot, -1 without one.
        word_at: where its word is in the control page.
        generation: of the lease; 0: there is none.
        base: what its word is when nothing is handed out.
        bodies: the messages on lease.
        next: how many of them are handed out.
        end_ns: of the lease.
        taken_ns: when it took last, in a transaction; ``got`` messages until now.
    """

    def __init__(self, home: Home) -> None:
        self._fd = os.open(f"{home.path}/control", os.O_RDWR | os.O_CLOEXEC)
        self.number = next(filter(self._lock, range(SLOTS_MAX)), -1)
        self.word_at = SLOTS + self.number
        self.bodies: list[bytes]
        self.taken_ns = 0
        self.got = 0
        self.drop()

    def _lock(self, number: int) -> bool:
        """Lock a byte of the control file for this open file, whichever process may have it."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, asked)
        except OSError:
            return False
        return True

    def hold(self, lease: Lease, bodies: list[bytes]) -> None:
        """The line has these messages on lease for this consumer."""
        self.generation = lease.generation
        self.base = leases.word(lease.generation, 0)
        self.end_ns = lease.end_ns
        self.bodies = bodies
        self.next = 0

    def drop(self) -> None:
        """Nothing is on lease."""
        self.generation = self.base = self.end_ns = self.next = 0
        self.bodies = []

    @property
    def stored(self) -> int:
        """The word that says what it has handed out."""
        return self.base + self.next

    def close(self) -> None:
        """Leave the slot to others."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
