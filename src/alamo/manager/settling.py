"""Outcomes on their way through the manager: which are a stop's, which are tried again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from alamo.core.attempts import backoff_s
from alamo.core.chunks import Chunk
from alamo.manager.retrying import to_retry
from alamo.manager.worker_process import WorkerProcess
from alamo.protocol.marks import Timing

if TYPE_CHECKING:
    from alamo.manager.service import Service


class Outcomes(NamedTuple):
    """What elements have come to, in columns as in ``messages.Results``."""

    elements: Sequence[int]
    ends: bytes
    payload: bytes
    failed: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    timing: Timing | None = None

    def pieces(self) -> list[bytes]:
        """The outcomes one by one."""
        found, start = [], 0
        for end in memoryview(self.ends).cast("I"):
            found.append(self.payload[start:end])
            start = end
        return found

    def only(self, positions: Sequence[int]) -> Outcomes:
        """Those at these positions, which ascend."""
        pieces = self.pieces()
        at = {position: k for k, position in enumerate(positions)}
        return Outcomes(
            [self.elements[p] for p in positions],
            array("I", accumulate([len(pieces[p]) for p in positions])).tobytes(),
            b"".join([pieces[p] for p in positions]),
            tuple([at[p] for p in self.failed if p in at]),
            tuple([(at[p], block) for p, block in self.blocks if p in at]),
            self._timing_of(positions),
        )

    def _timing_of(self, positions: Sequence[int]) -> Timing | None:
        timing = self.timing
        if timing is None:
            return None
        at = [timing.skip + p for p in positions]  # it has no column yet: this comes of a worker
        return Timing(timing.pid, timing.marks, positions=array("I", at).tobytes())


def settle(
    service: Service, worker: WorkerProcess, chunk: Chunk, base: int, found: Outcomes
) -> tuple[Outcomes, list[int], Outcomes]:
    """Look at outcomes some of which failed, or of which one may be that of a stopped element.

    Args:
        base: position in the chunk of the first.

    Returns:
        All of them as they are to be understood; positions of those that are tried again, of
        which the client has been told; those that are the end of their elements.
    """
    data = service.programs[chunk.program.number]
    stopped = service.stopper.outcomes(worker, chunk.seq + base, found.pieces())
    if stopped:
        dropped = [block for position, block in found.blocks if position in stopped]
        for block in dropped:
            service.blocks.use(block)
        service.blocks.released(dropped)
        found = Outcomes(
            found.elements,
            *replaced(found.ends, found.payload, stopped),
            tuple(sorted({*found.failed, *stopped})),
            tuple([pair for pair in found.blocks if pair[0] not in stopped]),
            found.timing,
        )
    pieces = found.pieces()
    again = to_retry(chunk.program, data, found.elements, pieces, found.failed)
    if not again:
        return found, again, found
    for position in again:
        element = found.elements[position]
        delay_s = backoff_s(chunk.program, element)
        service.forwarder.attempt_failed(data.number, element, pieces[position], delay_s)
    kept = set(range(len(pieces))).difference(again)
    return found, again, found.only(sorted(kept))


def replaced(ends: bytes, payload: bytes, others: dict[int, bytes]) -> tuple[bytes, bytes]:
    """Outcomes with those at some positions replaced: ends and payload.

    Example:
        >>> ends = array("I", [2, 3]).tobytes()
        >>> replaced(ends, b"aab", {0: b"cccc"})[1]
        b'ccccb'
    """
    pieces: list[bytes] = []
    start = 0
    for position, end in enumerate(memoryview(ends).cast("I")):
        pieces.append(others.get(position, payload[start:end]))
        start = end
    return array("I", accumulate(map(len, pieces))).tobytes(), b"".join(pieces)
