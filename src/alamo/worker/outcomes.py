"""Outcomes on their way from a worker to its manager, in memory that outlives the worker.

Outcomes of one chunk are appended to a shared buffer and announced with one message
when the chunk ends, the buffer is full or some milliseconds have passed.  What a killed
worker had recorded is still there for the manager to read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from alamo.protocol.framing import FRAME_MAX_BYTES, encode
from alamo.protocol.layout import (
    BUFFER,
    BUFFERS,
    CHUNK,
    ENDS_MAX,
    FIRST_POSITION,
    FIRST_SEQ,
    FREE,
    NEXT,
    PAYLOAD_BYTES,
    SharedMemory,
)
from alamo.protocol.messages import Finished
from alamo.worker.outbox import Outbox
from alamo.worker.stats import Meter

#: Outcomes are announced after this long even when the chunk goes on.
FLUSH_NS = 5_000_000
_LAG_S = 0.0002
#: Outcomes larger than this go through the socket alone instead of a shared buffer.
ALONE_BYTES = PAYLOAD_BYTES // 2
#: Outcomes larger than this do not travel at all; what is printed and framing need some room.
OUTCOME_MAX_BYTES = FRAME_MAX_BYTES - (1 << 22)


class OutcomeBuffer:
    """The buffer being filled.

    Attributes:
        count, size: outcomes in it, and their bytes.
        ends, payload: its memory.
        flush_at_ns: announce when the clock is past this.
        meter: notes when the outcomes came to be.

    Invariant: an outcome is complete before the NEXT cell counts its element as
    finished, so after a kill everything below NEXT can be read.
    """

    def __init__(self, memory: SharedMemory, outbox: Outbox) -> None:
        self._memory = memory
        self._cells = memory.cells
        self._outbox = outbox
        self._buffer = 0
        self.meter = Meter()
        self.ends = memory.ends[0]
        self.payload = memory.payloads[0]
        self._position = 0
        self._first = 0
        self._chunk = 0
        self._failed: list[int] = []
        self._blocks: list[tuple[int, int]] = []
        self._begun_ns = 0
        self.count = 0
        self.flush_at_ns = 0
        self.size = 0

    def begin(self, chunk: int, seq: int, position: int, now_ns: int) -> None:
        """Start filling a buffer with outcomes from this position of the chunk on."""
        cells = self._cells
        buffer = (self._buffer + 1) % BUFFERS
        while not cells[FREE + buffer]:  # the manager lags behind by all buffers
            time.sleep(_LAG_S)
        self._buffer = buffer
        self.meter.begin(self._memory.marks[buffer], now_ns)
        self.ends = self._memory.ends[buffer]
        self.payload = self._memory.payloads[buffer]
        # FIRST_SEQ first: it equals NEXT now, so a kill in between leaves "nothing recorded".
        cells[FIRST_SEQ] = seq
        cells[CHUNK] = self._chunk = chunk
        cells[FIRST_POSITION] = self._first = position
        cells[BUFFER] = buffer
        self.count = self.size = 0
        self._begun_ns = now_ns
        self.flush_at_ns = now_ns + FLUSH_NS
        self._failed, self._blocks = [], []

    def append(self, data: bytes) -> bool:
        """Record the next element's outcome, if it fits; the caller then stores NEXT."""
        count = self.count
        if count == ENDS_MAX:
            return False
        if data:
            size = self.size
            end = size + len(data)
            if end > PAYLOAD_BYTES or end - size > ALONE_BYTES:
                return False
            self.payload[size:end] = data
            self.size = end
        self.ends[count] = self.size
        self.count = count + 1
        return True

    def cursor(self) -> tuple[int, int, memoryview, memoryview]:
        """Count, size, ends and payload, for a loop that records by itself and then advances."""
        return self.count, self.size, self.ends, self.payload

    def advance(self, count: int, size: int) -> None:
        """So much has been recorded."""
        self.count, self.size = count, size

    def mark_failed(self) -> None:
        """The outcome recorded last is a failure."""
        self._failed.append(self._first + self.count - 1)

    def mark_block(self, block: int) -> None:
        """The outcome recorded last refers to this block."""
        self._blocks.append((self._first + self.count - 1, block))

    def flush(self, now_ns: int) -> None:
        """Announce what was recorded since ``begin``, which must be called again after this."""
        if not self.count:
            return
        self.meter.end(self.count, now_ns)
        message = Finished(
            self._chunk,
            self._first,
            self._first + self.count,
            now_ns - self._begun_ns,
            self._buffer,
            self.size,
            tuple(self._failed),
            blocks=tuple(self._blocks),
        )
        self._cells[FREE + self._buffer] = 0
        # From here on a kill loses nothing: salvage reads the buffer until the message is seen.
        self._outbox.sendall(encode(message))

    def send_alone(
        self, chunk: int, position: int, data: bytes, failed: bool, block: int, elapsed_ns: int
    ) -> None:
        """Send an outcome too large for a buffer through the socket.

        The caller has flushed, and measured its task.
        """
        ends = len(data).to_bytes(4, "little")
        message = Finished(
            chunk, position, position + 1, elapsed_ns, -1, len(data), ends=ends, payload=data
        )
        message.marks = self.meter.put_alone()
        if failed:
            message.failed = (position,)
        if block >= 0:
            message.blocks = ((position, block),)
        self._outbox.sendall(encode(message))


def salvage(memory: SharedMemory, reported: Callable[[int], int]) -> Finished | None:
    """What a worker, dead or alive, has recorded and not announced.

    Args:
        reported: chunk number -> positions already reported of it, -1 for an unknown chunk.

    Returns:
        The message that the worker would send; failures are not marked in it.
    """
    cells = memory.cells
    first_seq, buffer = cells[FIRST_SEQ], cells[BUFFER]
    chunk, first = cells[CHUNK], cells[FIRST_POSITION]
    count = cells[NEXT] - first_seq
    # A worker that is alive may have begun another buffer meanwhile, which changes FIRST_SEQ
    # first, or may have been in the middle of that when we began: then the others change.
    if cells[FIRST_SEQ] != first_seq or cells[BUFFER] != buffer or cells[CHUNK] != chunk:
        return None
    if cells[FIRST_POSITION] != first or not 0 < count <= ENDS_MAX:
        return None
    if not first <= reported(chunk) < first + count:
        return None
    size = memory.ends[buffer][count - 1]
    return Finished(chunk, first, first + count, 0, buffer, size)
