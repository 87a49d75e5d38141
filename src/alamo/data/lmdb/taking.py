"""The transaction in which a consumer takes messages from the front of a line.

<8 bytes: a transaction's number> [<4 bytes: index>]   a message; keys sort as they were put
fe "lease"                                             the lease (core/leases.py), if any
fe "taken" <2 bytes: slot>                             the word that was seen when the lease
                                                       of that slot was taken back
"""

from __future__ import annotations

import struct
from typing import Any, Final

from alamo.core import leases
from alamo.core.leases import Lease
from alamo.data.lmdb.consumer import BUSY_UNTIL, LAST_TAKER, SLOTS, Consumer

__all__ = ["BUFFERS_APART", "BUSY_NS", "Taking", "take_in"]

_LEASE_KEY: Final = b"\xfelease"
_TAKEN_KEY: Final = b"\xfetaken"
_LEASE: Final = struct.Struct(">4Q")
_WORD: Final = struct.Struct(">Q")
_SLOT: Final = struct.Struct(">H")
#: The first byte of a record whose message has buffers apart from it: no form of a head.
BUFFERS_APART: Final = 0xF0
#: After a second consumer has come, each takes one message at a time for so long: it costs a
#: transaction each, but keeps no message from anybody.
BUSY_NS: Final = 100_000_000
#: What is on lease is copied at once, so it must not be much.
_LEASED_MAX_BYTES: Final = 1 << 16


class Taking:
    """What came of a transaction.

    Attributes:
        records: taken for good.
        lease: the messages behind them are on lease, with their ``bodies``.
        until_ns: another consumer has all that there is on lease until then; 0: it has not.
    """

    __slots__ = ("bodies", "lease", "records", "until_ns")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.lease: Lease | None = None
        self.bodies: list[bytes] = []
        self.until_ns = 0


def take_in(
    txn: Any,
    control: Any,
    consumer: Consumer,
    limit: int,
    pending: bytes | None,
    ahead: int,
    now_ns: int,
) -> Taking:
    """Take messages, after ending the lease of this consumer, or one that may be taken back.

    Nothing but the transaction and the control page is changed.

    Args:
        txn: a write transaction.
        pending: the message on lease that the consumer has counted as handed out when it was late.
        ahead: how many messages more it would like on lease.
        now_ns: the clock, read before.
    """
    taking = Taking()
    found = txn.get(_LEASE_KEY)
    lease = None if found is None else Lease(*_LEASE.unpack(found))
    handed_out = 0
    if consumer.generation:
        mark = _TAKEN_KEY + _SLOT.pack(consumer.number)
        seen = txn.get(mark)
        taken_back = None if seen is None else _WORD.unpack(seen)[0]
        if pending is not None and leases.settle(lease, taken_back, consumer.stored):
            taking.records.append(pending)
        if seen is not None:
            txn.delete(mark)
        if lease is not None and lease.generation == consumer.generation:
            handed_out, lease = consumer.next, None
    if lease is not None:
        word = control[SLOTS + lease.slot]
        if not leases.may_take_back(lease, word, now_ns):
            control[BUSY_UNTIL] = now_ns + BUSY_NS
            taking.until_ns = lease.end_ns + leases.GRACE_NS
            return taking
        handed_out = lease.handed_out(word)
        word = leases.word(lease.generation, handed_out)
        txn.put(_TAKEN_KEY + _SLOT.pack(lease.slot), _WORD.pack(word))
    cursor = txn.cursor()
    cursor.first()
    for _ in range(handed_out):
        cursor.delete()
    while len(taking.records) < limit and cursor.key()[:1] == b"\0":
        taking.records.append(cursor.value())
        cursor.delete()
    if taking.records:
        if control[LAST_TAKER] != consumer.number + 1:
            if control[LAST_TAKER]:
                control[BUSY_UNTIL] = now_ns + BUSY_NS
            control[LAST_TAKER] = consumer.number + 1
        if ahead and control[BUSY_UNTIL] <= now_ns:
            _lease_in(txn, cursor, taking, consumer.number, ahead, now_ns)
    if found is not None and taking.lease is None:
        txn.delete(_LEASE_KEY)
    cursor.close()
    return taking


def _lease_in(txn: Any, cursor: Any, taking: Taking, slot: int, ahead: int, now_ns: int) -> None:
    """Put the next messages on lease."""
    bodies = taking.bodies
    size = 0
    for key, body in cursor.iternext():
        size += len(body)
        if key[0] or body[0] == BUFFERS_APART or size > _LEASED_MAX_BYTES:
            break
        bodies.append(body)
        if len(bodies) == ahead:
            break
    if bodies:
        lease = Lease(txn.id(), slot, len(bodies), now_ns + leases.LENGTH_NS)
        txn.put(_LEASE_KEY, _LEASE.pack(*lease))
        taking.lease = lease


def lease_in(txn: Any) -> Lease | None:
    """The lease that a transaction sees."""
    found = txn.get(_LEASE_KEY)
    return None if found is None else Lease(*_LEASE.unpack(found))
