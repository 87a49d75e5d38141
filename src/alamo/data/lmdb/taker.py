"""The taking side of a queue: what one process takes, its threads together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

import lmdb

from alamo.data.lmdb.consumer import BUSY_UNTIL, Consumer
from alamo.data.lmdb.control import ATTENTION, DESTROYED, WAITERS
from alamo.data.lmdb.environment import Transaction
from alamo.data.lmdb.files import LAST_PAGE, OTHER_LAST_PAGE
from alamo.data.lmdb.records import MARK, parse
from alamo.data.lmdb.taking import Taking, copy_mark, may_be_leased, take_alone, take_in
from alamo.data.store import Packed
from alamo.errors import DataStoreError

if TYPE_CHECKING:
    from alamo.data.lmdb.line import Line

__all__ = ["ROOM", "Taker"]

#: The topic of those who wait for room.
ROOM: Final = b"room"
#: How often one who waits for the end of a lease looks whether it ended early.
_LEASE_NAP_S: Final = 0.000_2
#: A consumer that is faster than its producer lets some messages come before it takes the next.
_NAP_S: Final = 0.000_05
#: Where messages come faster than this, the next will be there soon.
_BUSY_PACE_NS: Final = 100_000


class Taker:
    """Takes messages for one process; a slot in the line is asked for with the first one."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._control = line.control
        self._environment = line.environment
        self._consumer: Consumer | None = None
        self._empty_at = -1
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give back what is on lease."""
        with self._lock:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                if (consumer.generation or consumer.copied) and not self._line.is_destroyed():
                    self._transact(consumer, 0, None, 0, monotonic_ns())
                consumer.close()

    def after_fork(self) -> None:
        """What the parent holds on lease is not the child's to hand out."""
        self._lock = threading.Lock()
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def is_busy(self) -> bool:
        """Whether messages have come so fast lately that the next will be there soon."""
        consumer = self._consumer
        return consumer is not None and consumer.pace_ns < _BUSY_PACE_NS

    def is_empty(self) -> bool:
        """Whether nothing can have come since nothing was found.  It costs no transaction."""
        return self._environment.is_newest(self._empty_at)

    def take_one(self) -> Packed | None:
        """As :meth:`alamo.data.store.QueueStore.take_one`."""
        with self._lock:
            consumer = self._consumer
            if consumer is not None and consumer.next < len(consumer.bodies):
                pending = consumer.bodies[consumer.next]
                handed_out = consumer.next + 1
                control = self._control
                # In this order (core/leases.py): first the store, then the clock.
                control[consumer.word_at] = consumer.base + handed_out
                consumer.next = handed_out
                if control[BUSY_UNTIL] <= monotonic_ns() < consumer.end_ns:
                    return pending, ()
                taken = self._take(1, pending)
            else:
                taken = self._take(1, None)
        return self._message(taken[0]) if taken else None

    def take(self, limit: int) -> list[Packed]:
        """As :meth:`alamo.data.store.QueueStore.take`."""
        with self._lock:
            taken = self._take(limit, None)
        return [self._message(record) for record in taken]

    def _take(self, limit: int, pending: bytes | None) -> Sequence[bytes]:
        """Take in transactions; wait while another consumer has all on lease."""
        consumer = self._consumer
        if consumer is None:
            self._line.check()
            consumer = self._consumer = Consumer(self._line.home)
        if pending is None and limit == 1 and consumer.is_hasty():
            time.sleep(_NAP_S)
        while True:
            now_ns = monotonic_ns()
            ahead = consumer.ahead(now_ns) if limit == 1 and not self._line.maxsize else 0
            if not consumer.generation:
                if self._environment.is_newest(self._empty_at):
                    return ()
                if limit == 1 and (not ahead or self._control[BUSY_UNTIL] > now_ns):
                    record = self._take_alone(consumer, now_ns)
                    if record is not None:
                        return (record,)
            taking = self._transact(consumer, limit, pending, ahead, now_ns)
            if taking.records:
                return taking.records
            if not taking.until_ns:
                return ()
            pending = None
            left_s = (taking.until_ns - monotonic_ns()) / 1e9
            time.sleep(min(max(left_s, 0.0), _LEASE_NAP_S))

    def _take_alone(self, consumer: Consumer, now_ns: int) -> bytes | None:
        """Take one message and nothing on lease in the quickest way.

        Returns:
            ``None``: there is none, something may be on lease, or there is more to be done.
        """
        if self._line.maxsize:
            return None
        environment = self._environment
        words = environment.words
        txn = None
        try:
            txn = environment.begin(None, None, True)
            if (
                not self._control[ATTENTION] & DESTROYED
                and words[LAST_PAGE] <= environment.small_last >= words[OTHER_LAST_PAGE]
                and not may_be_leased(self._control)
            ):
                record = take_alone(txn, self._control, consumer, now_ns)
                if record is not None:
                    txn.commit()
                    consumer.note(1, now_ns)
                    return record
            txn.abort()
        except lmdb.Error:
            if txn is not None:
                txn.abort()
        except BaseException:
            if txn is not None:
                txn.abort()
            raise
        return None

    def _transact(
        self, consumer: Consumer, limit: int, pending: bytes | None, ahead: int, now_ns: int
    ) -> Taking:
        line, control = self._line, self._control

        def work(txn: Transaction) -> tuple[Taking, Sequence[bytes], int]:
            line.check()
            taking = take_in(txn, control, consumer, limit, pending, ahead)
            names: Sequence[bytes] = ()
            if taking.apart:
                line.buffers.count(taking.apart)
            if line.maxsize and taking.records and control[ATTENTION] & WAITERS:
                names = line.waiters.take(txn, ROOM, len(taking.records))
            return taking, names, txn.id()

        taking, names, number = self._environment.write(work, 0, is_removal=True)
        if taking.records:
            consumer.note(len(taking.records), now_ns)
        elif not taking.until_ns:
            # Nothing was there before this transaction, which has left nothing either.
            self._empty_at = number - 1
        consumer.is_new = consumer.is_new and bool(taking.until_ns)
        del consumer.copied[: taking.forgotten]
        if taking.lease is None:
            consumer.drop()
        else:
            consumer.hold(taking.lease, taking.bodies)
        if names:
            line.waiters.wake(names)
        return taking

    def _message(self, record: bytes) -> Packed:
        """The message of a record that is taken; large buffers are copied out and removed."""
        if record[0] < MARK:
            return record, ()
        parsed = parse(record)
        reference = parsed.reference
        assert reference is not None
        buffers = self._line.buffers
        kind = bytes if parsed.head == b"\x02" else bytearray
        loaded = buffers.load(reference, None, kind)
        if loaded is None:
            self._line.check()
            raise DataStoreError(
                f"the buffers of a message of {self._line.home.path} are not there: has somebody "
                "removed files of it?"
            )
        buffers.remove(reference)
        consumer = self._consumer
        if consumer is not None:
            consumer.copied.append(copy_mark(consumer.number, reference.id))
        if parsed.is_head_apart:
            return bytes(loaded[0]), loaded[1:]
        return parsed.head, loaded
