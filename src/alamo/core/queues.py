"""Who waits for a worker: programs with ready elements, in a queue for each need.

What needs one core has the queue that almost everything lies in.  The others are few, as many as
there are different needs; only the first of each has to be looked at, as where one is lacking
something, those behind it with the same need are lacking it too.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from alamo.core.lanes import Lane
from alamo.core.program import Program
from alamo.core.terms import Need

Key = tuple[int, int, int]

#: After so many chunks have been dealt, one that still waits goes before all of its depth and
#: priority: a program that never ends cannot keep one back that needs several cores.
PATIENCE = 256


class Queues:
    """Programs with ready elements that may be dealt.

    Attributes:
        plain: programs with elements that need one core, a heap: the first is dealt from.
        by_need: likewise, with the lanes of the other elements.
    """

    def __init__(self) -> None:
        self.plain: list[tuple[Key, Program]] = []
        self.by_need: dict[Need, list[tuple[Key, Program, Lane]]] = {}

    def __bool__(self) -> bool:
        return bool(self.plain or self.by_need)

    def enter(self, program: Program, dealt: int) -> None:
        """Queue what the program has ready and is not queued yet.

        Args:
            dealt: chunks dealt so far.
        """
        if not program.queued and len(program.ready):
            program.queued = True
            heappush(self.plain, (program.sort_key, program))
        if program.lanes is not None:
            for lane in program.lanes.all:
                if not lane.queued and len(lane.ready):
                    lane.queued = True
                    lane.since = dealt
                    heappush(
                        self.by_need.setdefault(lane.need, []), (program.sort_key, program, lane)
                    )

    def leave(self, program: Program, emptied: bool = False) -> None:
        """Nothing of the program is to be dealt, or nothing of what is ready no more.

        Cost: O(queue).
        """
        if program.queued and not (emptied and len(program.ready)):
            self.plain.remove((program.sort_key, program))
            heapify(self.plain)
            program.queued = False
        if program.lanes is not None:
            for lane in program.lanes.all:
                if lane.queued and not (emptied and len(lane.ready)):
                    queue = self.by_need[lane.need]
                    queue.remove((program.sort_key, program, lane))
                    heapify(queue)
                    self._emptied(lane, queue)

    def pop_plain(self) -> None:
        """The first has nothing more that needs one core."""
        heappop(self.plain)[1].queued = False

    def pop(self, need: Need) -> None:
        """The first with that need has nothing more of it."""
        queue = self.by_need[need]
        self._emptied(heappop(queue)[2], queue)

    def _emptied(self, lane: Lane, queue: list[tuple[Key, Program, Lane]]) -> None:
        lane.queued = False
        if not queue:
            del self.by_need[lane.need]

    def heads(self, dealt: int) -> list[tuple[Key, int, int, Need | None]]:
        """The first of each queue, in the order in which they are due.

        Returns:
            (key of the program, place within the program, a number that tells heads apart, the
            need or ``None`` for one core).
        """
        heads: list[tuple[Key, int, int, Need | None]] = []
        if self.plain:
            key, program = self.plain[0]
            heads.append((key, program.ready.head(), 0, None))
        for n, need in enumerate(self.by_need, 1):
            heads.append(self.head_of(need, n, dealt))
        heads.sort()
        return heads

    def head_of(self, need: Need, n: int, dealt: int) -> tuple[Key, int, int, Need | None]:
        """The first with that need; ``n`` tells it apart."""
        key, _, lane = self.by_need[need][0]
        if dealt - lane.since > PATIENCE:
            key = (*key[:2], -1)
        return key, lane.ready.head(), n, need

    def ready_beyond(self, need: Need, count: int) -> bool:
        """Whether more than ``count`` elements with that need are ready."""
        for _, _, lane in self.by_need[need]:
            count -= len(lane.ready)
            if count < 0:
                return True
        return False
