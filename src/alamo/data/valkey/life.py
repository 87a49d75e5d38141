"""Who has a store open, and when it goes.

A named store stays until it is destroyed.  One without a name goes when nobody has it open any
more: each store object that is open is a member of a set on the server, and who leaves last removes
the store.  A process that was killed leaves its members behind; those of this machine are known to
be dead by their process, and what only the dead have open is swept when the next store is made.
For the rest there is a lease: a store that nobody has used for a week is swept too.  Whoever has it
open renews the lease when it uses the server, once an hour.

    alamo:{<id>}            hash: what the store is
    alamo:{<id>}:open       set: <machine>:<pid>:<start ticks>:<random> of each object
    alamo:{unnamed}         set: <kind> <buckets> <id> of each store without a name
    alamo:{<kind> <name>}   the id of the store of that name
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import time
from pathlib import Path
from urllib.parse import quote

from alamo import linux
from alamo.data.valkey.buckets import Buckets
from alamo.data.valkey.functions import function
from alamo.data.valkey.servers import PATIENCE_S, Servers
from alamo.errors import AlamoError, DataStoreError, UsageError

__all__ = ["Life", "refuse_limit"]

_FORMAT = "1"
_LEASE_MS = 7 * 24 * 3600 * 1000
_UNNAMED = b"alamo:{unnamed}"
#: Looked at for sweeping when a store is made, at most once in so many seconds.
_SWEPT_AT_ONCE = 16
_SWEEP_EVERY_S = 1.0

_OPEN = function("open_store")
_CLOSE = function("close_store")
_NAME = function("name_store")
_UNNAME = function("unname_store")

#: Closing must not hold up the end of a program when servers are gone.
_LEAVE_S = 1.0

_swept_s = 0.0


class Life:
    """One store object's part in the life of a store.

    Args:
        id: of the store, which must be there.

    Attributes:
        facts: what the store was made with.

    Raises:
        DataStoreError: there is no such store.
    """

    def __init__(self, servers: Servers, id: str, kind: str) -> None:
        self.servers = servers
        self.id = id
        self._kind = kind
        self._about, self._open = _about_names(id)
        self._member = b""
        self._pid = 0
        self.facts: dict[str, str] = {}
        self.renew()
        servers.renewed.add(self)

    @classmethod
    def make(cls, servers: Servers, kind: str, name: str | None, facts: dict[str, str]) -> Life:
        """Make a store, or open the one of that name: then ``facts`` are as it was made."""
        while True:
            id = secrets.token_hex(8)
            about = {"format": _FORMAT, "kind": kind, "name": name or "", **facts}
            _write_about(servers, id, about)
            if name is None:
                _sweep(servers)
                made = cls(servers, id, kind)
                # Not before somebody has it open, or others would sweep it.
                entry = f"{kind} {facts['buckets']} {id}"
                servers.change(_UNNAMED, "SADD", _UNNAMED, entry, again=True)
                return made
            base = _name_key(kind, name)
            found = servers.change(base, b"FCALL", _NAME, 1, base, id, again=True).decode()
            if found == id:
                return cls(servers, id, kind)
            servers.change(_about_names(id)[0], "DEL", _about_names(id)[0], again=True)
            try:
                return cls(servers, found, kind)
            except DataStoreError:
                # Who destroyed it was killed before the name went too.
                servers.change(base, b"FCALL", _UNNAME, 1, base, found, again=True)

    @property
    def is_named(self) -> bool:
        """Whether it stays when nobody has it open."""
        return bool(self.facts["name"])

    @property
    def buckets(self) -> Buckets:
        """Where it lies."""
        return Buckets(self.servers, self._kind, self.id, int(self.facts["buckets"]))

    def renew(self) -> None:
        """Say that this process has it open.

        Raises:
            DataStoreError: it is gone.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._member = f"{_process()}:{secrets.token_hex(4)}".encode()
        reply = self.servers.call(
            self._about, b"FCALL", _OPEN, 2, self._about, self._open, self._member, _LEASE_MS
        )
        if not reply:
            raise DataStoreError(
                f"the {self._kind} {self.id} is no more at {self.servers.address.place}: it was "
                "destroyed, or whoever had it open has ended. To keep one, give it a name"
            )
        texts = [text.decode() for text in reply]
        self.facts = dict(zip(texts[::2], texts[1::2]))

    def close(self) -> None:
        """This object is done with; the last one removes a store without a name."""
        self.servers.renewed.discard(self)
        if self._pid != os.getpid():
            return  # a forked child that never used it
        with contextlib.suppress(AlamoError):  # the lease ends it
            if _leave(self.servers, self.id, [self._member], _LEAVE_S):
                _remove(self.servers, self._kind, int(self.facts["buckets"]), self.id, in_use=False)

    def destroy(self) -> None:
        """Remove the store for everybody."""
        if self.is_named:
            base = _name_key(self._kind, self.facts["name"])
            self.servers.change(base, b"FCALL", _UNNAME, 1, base, self.id, again=True)
        self.servers.change(self._about, "DEL", self._about, again=True)
        self.servers.change(self._open, "DEL", self._open, again=True)
        _remove(self.servers, self._kind, int(self.facts["buckets"]), self.id, in_use=True)


def refuse_limit(total_mem: int | None) -> None:
    """Refuse a limit that a server cannot keep for one store.

    Raises:
        UsageError: there is one.
    """
    if total_mem is not None:
        raise UsageError(
            "total_mem limits memory of this machine; a server's is limited by its own setting "
            "'maxmemory'"
        )


def _about_names(id: str) -> tuple[bytes, bytes]:
    return b"alamo:{%b}" % id.encode(), b"alamo:{%b}:open" % id.encode()


def _name_key(kind: str, name: str) -> bytes:
    return f"alamo:{{{kind} {quote(name, safe='')}}}".encode()


def _write_about(servers: Servers, id: str, about: dict[str, str]) -> None:
    """Say what the store is; a name makes it stay once it is opened."""
    base, _ = _about_names(id)
    fields = [text for pair in about.items() for text in pair]
    servers.change(base, "HSET", base, *fields, again=True)
    servers.change(base, "PEXPIRE", base, _LEASE_MS, again=True)


def _leave(servers: Servers, id: str, members: list[bytes], patience_s: float = PATIENCE_S) -> bool:
    """Take members out, and the dead ones of this machine; whether the store has ended."""
    about, opened = _about_names(id)
    [found] = servers.exchange(opened, [("SMEMBERS", opened)], True, patience_s=patience_s)
    gone = [*members, *filter(_is_dead, found)]
    return bool(servers.change(about, b"FCALL", _CLOSE, 2, about, opened, *gone))


def _remove(servers: Servers, kind: str, buckets: int, id: str, in_use: bool) -> None:
    Buckets(servers, kind, id, buckets).destroy(in_use)
    servers.change(_UNNAMED, "SREM", _UNNAMED, f"{kind} {buckets} {id}", again=True)


def _sweep(servers: Servers) -> None:
    """Remove some of the stores that nobody has open any more."""
    global _swept_s
    if time.monotonic() < _swept_s + _SWEEP_EVERY_S:
        return
    _swept_s = time.monotonic()
    for entry in servers.call(_UNNAMED, "SRANDMEMBER", _UNNAMED, _SWEPT_AT_ONCE):
        kind, buckets, id = entry.decode().split()
        about, _ = _about_names(id)
        if _leave(servers, id, [b""]) or not servers.call(about, "EXISTS", about):
            _remove(servers, kind, int(buckets), id, in_use=False)


@functools.cache
def _machine() -> str:
    """What tells in which system process ids mean the same as here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"


def _process() -> str:
    pid = os.getpid()
    return f"{_machine()}:{pid}:{linux.process_start_ticks(pid)}"


def _is_dead(member: bytes) -> bool:
    """Whether it belonged to a process of this machine that has ended."""
    machine, pid, ticks, _ = member.decode().split(":")
    return machine == _machine() and linux.process_start_ticks(int(pid)) != int(ticks)
