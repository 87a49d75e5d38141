"""The transactions in which a consumer takes messages from the front of a line.

<8 bytes: a transaction's number> [<4 bytes: index>]   a message; keys sort as they were put
fe "lease"                                             the lease (core/leases.py), if any
fe "taken" <2 bytes: slot>                             the word that was seen when the lease
                                                       of that slot was taken back
fe "copy" <2 bytes: slot> <16 bytes: id>               a message taken by that slot, until its
                                                       buffers are copied out
"""

from __future__ import annotations

import struct
from time import monotonic_ns
from typing import Any, Final

from alamo.core import leases
from alamo.core.leases import Lease
from alamo.data.lmdb.consumer import BUSY_UNTIL, LAST_TAKER, LEASED, SLOTS, Consumer
from alamo.data.lmdb.environment import Transaction
from alamo.data.lmdb.records import MARK, parse

__all__ = ["Taking", "copy_mark", "forget_copies", "lease_in", "may_be_leased", "take_alone"]
__all__ += ["take_in"]

_LEASE_KEY: Final = b"\xfelease"
_TAKEN_KEY: Final = b"\xfetaken"
_COPY_KEY: Final = b"\xfecopy"
_LEASE: Final = struct.Struct(">4Q")
_WORD: Final = struct.Struct(">Q")
_SLOT: Final = struct.Struct(">h")
#: After a second consumer has come, each takes one message at a time for so long: it costs a
#: transaction each, but keeps no message from anybody.
_BUSY_NS: Final = 100_000_000
#: What is on lease is copied at once, so it must not be much.
_LEASED_MAX_BYTES: Final = 1 << 16


class Taking:
    """What came of a transaction.

    Attributes:
        records: taken for good.
        lease: the messages behind them are on lease, with their ``bodies``.
        until_ns: another consumer has all that there is on lease until then; 0: it has not.
        apart: by how much the number of buffers that are referred to changes, by shard.
        forgotten: how many marks of ``Consumer.copied`` are gone.
    """

    __slots__ = ("apart", "bodies", "forgotten", "lease", "records", "until_ns")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.lease: Lease | None = None
        self.bodies: list[bytes] = []
        self.until_ns = 0
        self.apart: dict[int, int] = {}
        self.forgotten = 0


def copy_mark(slot: int, uid: bytes) -> bytes:
    """The key that keeps buffers from being swept while a consumer copies them."""
    return _COPY_KEY + _SLOT.pack(slot) + uid


def forget_copies(txn: Transaction, slot: int) -> None:
    """Delete the marks of a consumer that is no more: a sweep then finds what it has left."""
    cursor = txn.cursor()
    prefix = _COPY_KEY + _SLOT.pack(slot)
    while cursor.set_range(prefix) and cursor.key().startswith(prefix):
        cursor.delete()
    cursor.close()


def lease_in(txn: Transaction) -> Lease | None:
    """The lease that a transaction sees."""
    found = txn.get(_LEASE_KEY)
    return None if found is None else Lease(*_LEASE.unpack(found))


def may_be_leased(control: Any) -> bool:
    """Inside a write transaction: whether it must be looked for a lease."""
    return bool(control[LEASED])


def take_alone(txn: Transaction, control: Any, consumer: Consumer, now_ns: int) -> bytes | None:
    """Take one message without buffers while nothing is on lease; ``None``: there is none."""
    cursor = txn.cursor()
    cursor.first()
    record: bytes = cursor.value()
    if cursor.key()[0] or record[0] >= MARK:
        cursor.close()
        return None
    cursor.delete()
    cursor.close()
    _note_taker(control, consumer, now_ns)
    return record


def take_in(
    txn: Transaction,
    control: Any,
    consumer: Consumer,
    limit: int,
    pending: bytes | None,
    ahead: int,
) -> Taking:
    """Take messages, after ending the lease of this consumer, or one that may be taken back.

    Nothing but the transaction and the control page is changed.

    Args:
        txn: a write transaction.
        pending: the message on lease that the consumer has counted as handed out when it was late.
        ahead: how many messages more it would like on lease.
    """
    taking = Taking()
    now_ns = monotonic_ns()
    lease = found = lease_in(txn) if control[LEASED] else None
    if found is None:
        control[LEASED] = 0
    handed_out = 0
    if consumer.generation:
        mark = _TAKEN_KEY + _SLOT.pack(consumer.number)
        seen = txn.pop(mark)
        taken_back = None if seen is None else _WORD.unpack(seen)[0]
        if pending is not None and leases.settle(lease, taken_back, consumer.stored):
            taking.records.append(pending)
        if lease is not None and lease.generation == consumer.generation:
            handed_out, lease = consumer.next, None
    if lease is not None:
        word = control[SLOTS + lease.slot]
        if not leases.may_take_back(lease, word, now_ns):
            control[BUSY_UNTIL] = now_ns + _BUSY_NS
            taking.until_ns = lease.end_ns + leases.GRACE_NS
            return taking
        handed_out = lease.handed_out(word)
        word = leases.word(lease.generation, handed_out)
        txn.put(_TAKEN_KEY + _SLOT.pack(lease.slot), _WORD.pack(word))
    _forget(txn, consumer, taking)
    cursor = txn.cursor()
    cursor.first()
    for _ in range(handed_out):
        cursor.delete()
    while len(taking.records) < limit and not cursor.key()[0]:
        taking.records.append(cursor.value())
        cursor.delete()
    if taking.records:
        _note_taker(control, consumer, now_ns)
        if ahead and control[BUSY_UNTIL] <= now_ns:
            _lease_in(txn, cursor, taking, consumer.number, ahead, now_ns)
            control[LEASED] = 1
    cursor.close()
    if found is not None and taking.lease is None:
        txn.delete(_LEASE_KEY)
    _mark_copies(txn, consumer, taking)
    return taking


def _forget(txn: Transaction, consumer: Consumer, taking: Taking) -> None:
    """Delete marks of what the consumer has copied, or of those that had its slot before."""
    if consumer.is_new and consumer.number >= 0:
        forget_copies(txn, consumer.number)
    taking.forgotten = len(consumer.copied)
    for mark in consumer.copied[: taking.forgotten]:
        txn.delete(mark)


def _note_taker(control: Any, consumer: Consumer, now_ns: int) -> None:
    taker = consumer.number + 2
    if control[LAST_TAKER] != taker:
        if control[LAST_TAKER]:
            control[BUSY_UNTIL] = now_ns + _BUSY_NS
        control[LAST_TAKER] = taker


def _lease_in(
    txn: Transaction, cursor: Any, taking: Taking, slot: int, ahead: int, now_ns: int
) -> None:
    """Put the next messages on lease."""
    bodies = taking.bodies
    size = 0
    for key, body in cursor.iternext():
        size += len(body)
        if key[0] or body[0] >= MARK or size > _LEASED_MAX_BYTES:
            break
        bodies.append(body)
        if len(bodies) == ahead:
            break
    if bodies:
        taking.lease = Lease(txn.id(), slot, len(bodies), now_ns + leases.LENGTH_NS)
        txn.put(_LEASE_KEY, _LEASE.pack(*taking.lease))


def _mark_copies(txn: Transaction, consumer: Consumer, taking: Taking) -> None:
    """Mark those that are taken now and have buffers to be copied."""
    for record in taking.records:
        if record[0] >= MARK:
            reference = parse(record).reference
            assert reference is not None
            txn.put(copy_mark(consumer.number, reference.id), record)
            shard = reference.shard
            taking.apart[shard] = taking.apart.get(shard, 0) - reference.pieces
