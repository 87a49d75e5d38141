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

__all__ = ["BUSY_UNTIL", "LAST_TAKER", "LEASED", "SLOTS", "SLOTS_MAX", "Consumer", "is_slot_free"]

#: Words of the control page, changed inside a write transaction: which consumer took last;
#: until when several are taken to be at work, in ns; and whether there may be a lease.
LAST_TAKER: Final = OWN
BUSY_UNTIL: Final = OWN + 1
LEASED: Final = OWN + 2
#: From here on a word for each slot: what its consumer has handed out (``leases.word``).
SLOTS: Final = OWN + 8
SLOTS_MAX: Final = 256

_IDLE_NS: Final = 1 << 62
#: From message to message where many come, and how many of them are worth a transaction.
_RUSH_NS: Final = 15_000
_MANY: Final = 24
#: struct flock
_FLOCK: Final = struct.Struct("hhqqi")


class Consumer:
    """What one process knows of its own takings.

    A slot is a byte of the control file that its process has locked, so it is free again when the
    process ends, however that ends.  A process that finds none takes messages without leases.

    Attributes:
        number: of the slot, -1 without one.
        word_at: where its word is in the control page.
        is_new: it has not taken anything yet.
        generation: of the lease; 0: there is none.
        base: what its word is when nothing is handed out.
        bodies: the messages on lease.
        next: how many of them are handed out.
        end_ns: of the lease.
        pace_ns: from message to message, lately.
        copied: keys of marks that are not needed any more.
    """

    def __init__(self, home: Home) -> None:
        self._fd = _open(home)
        self.number = next(filter(self._lock, range(SLOTS_MAX)), -1)
        self.word_at = SLOTS + self.number
        self.is_new = True
        self.bodies: list[bytes]
        self.copied: list[bytes] = []
        self.pace_ns = _IDLE_NS
        self._taken_ns = 0
        self._got = 0
        self.drop()

    def _lock(self, number: int) -> bool:
        """Lock a byte of the control file for this open file, whichever process may have it."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(number))
        except OSError:
            return False
        return True

    def ahead(self, now_ns: int) -> int:
        """How many messages more than one to take now."""
        if self.number < 0:
            return 0
        return leases.next_size(self._got + self.next, now_ns - self._taken_ns) - 1

    def is_hasty(self) -> bool:
        """Whether it has got a few messages on lease, of many that come: it would take the next
        few, and be in the way of whoever puts them, where a little later it takes them at once."""
        return 0 < self.next < _MANY and self.pace_ns < _RUSH_NS

    def note(self, got: int, now_ns: int) -> None:
        """It takes that many messages in a transaction, and has dealt with those on lease."""
        before = self._got + self.next
        self.pace_ns = (now_ns - self._taken_ns) // before if before else _IDLE_NS
        self._taken_ns, self._got = now_ns, got

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


def is_slot_free(home: Home, number: int) -> bool:
    """Whether no process has that slot."""
    fd = _open(home)
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(number))
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(found)[0] == fcntl.F_UNLCK)


def _open(home: Home) -> int:
    return os.open(f"{home.path}/control", os.O_RDWR | os.O_CLOEXEC)


def _flock(number: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
