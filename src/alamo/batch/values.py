"""Outcomes of one program in its client: columns of where each lies, decoded when asked for.

Outcomes stay the bytes in which they came until ``get`` wants one; a million results
cost what their pickles weigh plus 8 bytes each.  ``get`` keeps the object, and drops the
bytes where they are many.
"""

from __future__ import annotations

import threading
from array import array
from typing import Any

import msgspec

from alamo.batch.failures import FailedAttempt, did_not_run, final_error, unloadable
from alamo.batch.spill import ResultMemory
from alamo.errors import UsageError
from alamo.protocol import pickling
from alamo.protocol.output_form import PLAIN, OutputForm
from alamo.protocol.pickling import ATOMS
from alamo.protocol.records import OK, STDOUT, Record

_decode_record = msgspec.msgpack.Decoder(Record).decode

#: Bytes of outcomes from this size on are dropped when their objects are kept.
LARGE_BYTES = 4096

#: In the column of positions, without an outcome: it did not run because of another task, or was
#: cancelled.  Others, all of them smaller, are 0, or the frame and one more than k.
SKIPPED = (1 << 64) - 1
CANCELLED = SKIPPED - 1
_POSITION = (1 << 32) - 1

#: Stdout and stderr of an outcome, and where the parts of ranks end in them.
_Texts = tuple[bytes, bytes, tuple[tuple[int, ...], ...]]


class Values:
    """Results and output of the elements of a program.

    Attributes:
        skipped: element -> the failed element because of which it did not run.
        cancelled: element -> why, as the user said; before it began or while it ran.
        attempts: element -> its failed attempts that others followed.
        forms: element -> how its output is to be read, of those that are not as functions' is.
    """

    def __init__(self, memory: ResultMemory) -> None:
        self._memory = memory
        self._where = array("Q")
        self._frames: list[Any] = []
        self._values: dict[int, Any] = {}
        self._texts: dict[int, _Texts] = {}  # of outcomes whose bytes may be gone
        self._opened: dict[int, int] = {}  # frame -> bytes of large outcomes whose object is kept
        self._opening = threading.RLock()
        self._unread_blocks: dict[int, int] = {}
        self.skipped: dict[int, int] = {}
        self.cancelled: dict[int, str] = {}
        self.attempts: dict[int, list[FailedAttempt]] = {}
        self.forms: dict[int, OutputForm] = {}

    def __del__(self) -> None:
        """Nobody can ask for the outcomes any more: give back what they hold."""
        for frame in self._frames:
            self._memory.dropped(frame)
        if self._unread_blocks:
            self._memory.give_up(self._unread_blocks.values())

    @property
    def count(self) -> int:
        """Elements, joins included."""
        return len(self._where)

    def title(self, element: int) -> str:
        """How messages name a task."""
        raise NotImplementedError

    def uid_of(self, element: int) -> int:
        """The uid of the task at an element."""
        raise NotImplementedError

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._opening = threading.RLock()
        self._unread_blocks = {}

    def place(self, element: int) -> tuple[int, int] | None:
        """Frame and position of an element's outcome; ``None`` if there is none."""
        position = self._where[element]
        if not position or position >= CANCELLED:
            return None
        return position >> 32, (position & _POSITION) - 1

    def value(self, element: int) -> Any:
        """The result of a task whose outcome is known; raises its exception.

        Cost: 0.2 us for ``None``, one unpickling else; the object is kept for the next call,
        in place of its bytes if they are many.
        """
        position = self._where[element]
        if position >= CANCELLED:
            raise did_not_run(self, element)
        frame = self._frames[position >> 32]
        if frame.__class__ is not tuple:
            return self._spilled_value(element)
        ends, payload = frame
        k = (position & _POSITION) - 1
        start = ends[k - 1] if k else 0
        end = ends[k]
        if start == end:
            return None
        if self._values and element in self._values:
            return self._values[element]
        return self._decode(element, payload[start:end])

    def _spilled_value(self, element: int) -> Any:
        with self._opening:  # the file must not be emptied meanwhile
            if element in self._values:
                return self._values[element]
            data = self._data(element)
            return self._decode(element, data) if data else None

    def _decode(self, element: int, data: bytes) -> Any:
        if data[0] != 0x80:
            return self._open(element, _decode_record(data), len(data))
        try:
            value = pickling.load(data)
        except Exception as error:
            raise unloadable(self.title(element), error) from error
        if value.__class__ in ATOMS and len(data) < LARGE_BYTES:
            return value
        return self._keep(element, value, len(data))

    def text(self, element: int, stream: int, rank: int | None = None) -> str | bytes:
        """What a task printed: the whole of it or its head and tail; bytes if it was to be so.

        Args:
            rank: of a job, the one that printed it.

        Raises:
            UsageError: it has no such rank.
        """
        form = self.forms.get(element, PLAIN)
        if rank is not None and not 0 <= rank < form.ranks:
            has = f"it has {form.ranks}, from 0 on" if form.ranks else "only jobs have ranks"
            raise UsageError(f"{self.title(element)} has no rank {rank}: {has}")
        if self._where[element] >= CANCELLED:
            return form.shown(b"")
        return form.given(stream, self._captured(element, stream, rank))

    def _captured(self, element: int, stream: int, rank: int | None) -> bytes:
        with self._opening:
            texts = self._texts.get(element)
            if texts is None:
                data = self._data(element)
                if not data or data[0] == 0x80:
                    return b""
                record = _decode_record(data)
                texts = record.stdout, record.stderr, record.splits
        stdout, stderr, splits = texts
        data = stdout if stream == STDOUT else stderr
        if rank is None:
            return data
        ends = (0, *splits[stream != STDOUT]) if splits else ()
        return data[ends[rank] : ends[rank + 1]] if rank + 1 < len(ends) else b""

    def _data(self, element: int) -> bytes:
        position = self._where[element]
        return self._memory.read(self._frames[position >> 32], (position & _POSITION) - 1)

    def _open(self, element: int, record: Record, size: int) -> Any:
        """The value in a Record, or its error: made anew each time, for the traceback of one
        that were kept here would keep the tasks in its frames alive for ever."""
        if record.status != OK:
            raise final_error(self, element, record)
        with self._opening:  # a block must be given back once
            if element not in self._values:
                try:
                    value = self._load(element, record)
                except Exception as error:
                    raise unloadable(self.title(element), error) from error
                self._keep(element, value, size, (record.stdout, record.stderr, record.splits))
            return self._values[element]

    def _keep(self, element: int, value: Any, size: int, texts: _Texts | None = None) -> Any:
        """Keep an object instead of its ``size`` bytes; returns the one that is kept.

        Bytes go a frame at a time, and only large ones are counted: a frame that holds a small
        outcome, or a failure, stays.
        """
        if size < LARGE_BYTES:
            return self._values.setdefault(element, value)
        with self._opening:
            if element in self._values:
                return self._values[element]
            self._values[element] = value
            if texts is not None:
                self._texts[element] = texts
            number = self._where[element] >> 32
            frame = self._frames[number]
            opened = self._opened[number] = self._opened.get(number, 0) + size
            if opened == frame[0][-1]:
                del self._opened[number]
                self._frames[number] = (frame[0], b"")
                self._memory.dropped(frame)
        return value

    def _load(self, element: int, record: Record) -> Any:
        if record.block == -1:
            return pickling.load(record.value) if record.value else None
        buffers, confirm = self._memory.open_block(record)
        value = pickling.load(record.value or bytes(buffers.pop(0)), buffers)
        self._unread_blocks.pop(element, None)
        confirm()
        return value
