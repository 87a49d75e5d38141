"""How elements end that alamo limits, cancels or tries again, where nothing can be interrupted."""

from __future__ import annotations

import os
import socket

from alamo.core.chunks import Chunk
from alamo.core.terms import ONE_CORE, Terms
from alamo.manager.programs import ProgramData
from alamo.manager.retrying import to_retry
from alamo.manager.stopping import stopped_record
from alamo.manager.terms import core_terms
from alamo.protocol import messages as msg
from alamo.protocol.records import CANCELLED, TIMEOUT, StopInfo, as_record


class Ends:
    """What becomes of an element that has run.

    A time limit shows only when the element has ended by itself, and so does cancelling one that
    runs: what it has left is then thrown away.
    """

    def __init__(self) -> None:
        self._stops: dict[int, int] = {}

    def stop(self, worker: int, seq: int) -> None:
        """The element that runs there at ``seq`` was cancelled."""
        self._stops[worker] = seq

    def settled(
        self,
        data: ProgramData,
        worker: int,
        chunk: Chunk,
        position: int,
        outcome: bytes,
        ran_s: float,
    ) -> bytes | None:
        """The outcome that stands instead of the one that the element left, if one does."""
        element = chunk.elements[position]
        if self._stops.get(worker) == chunk.seq + position:
            del self._stops[worker]
            info = StopInfo(
                CANCELLED, socket.gethostname(), os.getpid(), reason=data.why_cancelled(element)
            )
        else:
            terms = data.terms.of(element) if data.terms is not None else None
            if terms is None or not 0 < terms.timeout_s < ran_s:
                return None
            info = StopInfo(TIMEOUT, socket.gethostname(), os.getpid(), terms.timeout_s, ran_s)
        record = as_record(outcome)
        stdout, stderr = (b"", b"") if record is None else (record.stdout, record.stderr)
        return stopped_record(info, stdout, stderr)


def is_tried_again(chunk: Chunk, data: ProgramData, position: int, outcome: bytes) -> bool:
    """Whether an element that failed has another attempt."""
    element = chunk.elements[position]
    return bool(to_retry(chunk.program, data, [element], [outcome], [0]))


def terms_here(message: msg.TermsDefined) -> Terms:
    """Terms as they count where one task runs at a time and has all of the machine."""
    terms = core_terms(message)
    return Terms(ONE_CORE, terms.retries, terms.backoff_s, terms.factor, terms.jitter)
