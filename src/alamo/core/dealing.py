"""Dealing: which ready elements go to which worker, and who has to make room.

Where every ready element needs one core, the first program is dealt from while a worker is free.
Otherwise the first of each need is looked at, the oldest first.  What one lacks is kept for it:
nobody younger gets any, and what has not begun at workers is taken back, so that small elements
cannot starve one that needs several cores, and two of these cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from alamo.core import events as ev
from alamo.core.alarm import Alarm
from alamo.core.chunks import Chunk, chunk_size, fuse, fuse_size
from alamo.core.lanes import Lane
from alamo.core.program import Program
from alamo.core.queues import Queues
from alamo.core.resources import Kept
from alamo.core.terms import ONE_CORE, PLAIN, Grant, Need
from alamo.core.workers import Worker, WorkerPool

#: A chunk that was dealt less than this ago will be done sooner than a recall is.
RECALL_AGE_S = 0.002
#: A worker with elements this short may hold one more of the same need, so that the next begins
#: without a round trip; what has needs lasts longer as a rule, and is better kept for who is free.
ALIKE_MAX_S = 0.05
#: Two chunks that were cut by measured run times have ended by then: what lasts longer makes room.
ROOM_AGE_S = 0.01


class Dealer:
    """Gives ready elements to workers.

    Args:
        pool: the workers.
        effects: where chunks and requests go.
        alarm: wakes the scheduler when a chunk is old enough to be taken back.
        recall: takes back what a worker has not begun, the half of it or all.

    Attributes:
        queues: programs with ready elements.
        chunks: how many chunks have been dealt.
    """

    def __init__(
        self,
        pool: WorkerPool,
        effects: list[ev.Effect],
        alarm: Alarm,
        recall: Callable[[Worker, bool], None],
    ) -> None:
        self.queues = Queues()
        self.chunks = 0
        self._pool = pool
        self._effects = effects
        self._alarm = alarm
        self._recall = recall

    def deal(self, now_s: float) -> None:
        """Give out what can be, start and retire workers, and share what idle ones could run."""
        pool, queues = self._pool, self.queues
        is_blocked = False
        if queues.by_need:
            is_blocked = self._deal_by_need(now_s)
        else:
            plain = queues.plain
            while plain:
                worker = pool.next_free()
                if worker is None:
                    break
                program = plain[0][1]
                self._deal_chunk(program, None, worker, now_s)
                if not len(program.ready):
                    queues.pop_plain()
        if not pool.has_right_number:
            missing = pool.take_missing()
            if missing:
                self._effects.append(ev.SpawnWorkers(missing))
            for number in pool.take_surplus():
                self._effects.append(ev.RetireWorker(number))
        if not queues.plain and not is_blocked and pool.has_idle():
            self._balance(now_s)

    def _deal_chunk(
        self, program: Program, lane: Lane | None, worker: Worker, now_s: float
    ) -> None:
        pool = self._pool
        slots = pool.slots
        source: Program | Lane = program
        if lane is not None:
            source = lane
            slots = max(1, slots // lane.need.cores)
        ready = source.ready
        size = chunk_size(source.mean_s, len(ready), slots)
        elements = ready.take(min(size, program.chunk_max))
        fused = False
        outside: dict[int, int] = {}
        if isinstance(elements, range):
            program.mark_dealt(elements)
        else:
            count = len(elements)
            is_alike = program.lanes.is_alike(lane) if program.lanes is not None else None
            most = min(fuse_size(source.mean_s), program.chunk_max)
            outside = fuse(program, elements, most, is_alike)
            fused = len(elements) > count
        chunk = Chunk(
            self.chunks,
            program,
            worker.number,
            worker.next_seq,
            elements,
            fused,
            outside,
            now_s,
            lane,
            worker.grant,
        )
        self.chunks += 1
        worker.next_seq += len(elements)
        worker.chunks.append(chunk)
        worker.exhausted = False
        pool.place(worker)
        self._effects.append(ev.Deal(worker.number, chunk))

    def _balance(self, now_s: float) -> None:
        """A worker idles and nothing is ready: take the later half from the busiest."""
        victim = self._pool.busiest()
        if victim is None:
            return
        due_s = victim.chunks[0].dealt_s + RECALL_AGE_S
        if due_s <= now_s:
            self._recall(victim, False)
        else:
            self._alarm.ask(due_s)

    # -- needs of more than one core ---------------------------------------------------------

    def _deal_by_need(self, now_s: float) -> bool:
        """Deal to the oldest first, of whatever need.

        Returns:
            Whether free cores are kept for one that needs more than there are.

        Cost: O(needs that wait), O(GPUs) for each that wants some.
        """
        pool, queues = self._pool, self.queues
        kept = Kept()
        heads = queues.heads(self.chunks)
        while heads and not kept.blocks_cores:
            _, _, n, need = heappop(heads)
            if need is None:
                if self._deal_plain_once(kept, now_s) and queues.plain:
                    key, program = queues.plain[0]
                    heappush(heads, (key, program.ready.head(), n, None))
            elif (
                pool.resources.can_ever(need, pool.slots)
                and self._deal_need_once(need, kept, now_s)
                and need in queues.by_need
            ):
                heappush(heads, queues.head_of(need, n, self.chunks))
        return kept.blocks_cores

    def _deal_plain_once(self, kept: Kept, now_s: float) -> bool:
        pool = self._pool
        worker = pool.next_free() if pool.slots - pool.running > kept.cores else None
        if worker is None and pool.single and pool.running <= pool.slots:
            worker = min(pool.single.values(), key=lambda w: w.load)
        if worker is None:
            self._keep(ONE_CORE, kept, now_s)
            return False
        program = self.queues.plain[0][1]
        self._deal_chunk(program, None, worker, now_s)
        if not len(program.ready):
            self.queues.pop_plain()
        return True

    def _deal_need_once(self, need: Need, kept: Kept, now_s: float) -> bool:
        """Deal a chunk of the first that waits with this need, or keep what there is for it."""
        queues = self.queues
        worker = self._worker_for(need, kept)
        if worker is None:
            expected = sum([awaited.need == need for awaited in self._pool.awaited])
            if not queues.ready_beyond(need, expected):
                return False  # their workers are starting, with all that they need
            if self._start_worker(need, kept):
                return True
            self._keep(need, kept, now_s)
            return False
        _, program, lane = queues.by_need[need][0]
        lane.since = self.chunks
        self._deal_chunk(program, lane, worker, now_s)
        if not len(lane.ready):
            queues.pop(need)
        return True

    def _worker_for(self, need: Need, kept: Kept) -> Worker | None:
        """A worker that may be dealt this now, with what is needed; one of its own kind that has
        short work may get more."""
        pool = self._pool
        if need.bound and not _suits_plain(need):
            for worker in reversed(pool.warm.values()):  # the last that ran
                grant = pool.grant(need, kept, worker.binding)
                if grant is not None:
                    pool.seat(worker, need, grant)
                    return worker
        elif pool.idle:
            grant = pool.grant(need, kept)
            if grant is not None:
                worker = next(reversed(pool.idle.values()))
                pool.seat(worker, need, grant)
                return worker
        lane = self.queues.by_need[need][0][2]
        if lane.mean_s is None or lane.mean_s > ALIKE_MAX_S or kept.touches(need):
            return None
        if pool.running > pool.slots:
            return None
        alike = [worker for worker in pool.alike.values() if worker.need == need]
        return min(alike, key=lambda w: w.load) if alike else None

    def _start_worker(self, need: Need, kept: Kept) -> bool:
        """Have a worker started for a need that is bound, if all of that is free."""
        pool = self._pool
        if not need.bound or _suits_plain(need):
            return False
        grant = pool.grant(need, kept)
        if grant is None:
            return False
        self._effects.append(ev.SpawnWorkers(1, pool.expect(need, grant)))
        return True

    def _keep(self, need: Need, kept: Kept, now_s: float) -> None:
        """Nobody younger gets what this one lacks, and who has more than it is running makes room.

        One that needs one core gets it anyway as soon as some chunk has ended.
        """
        pool = self._pool
        lacks = pool.resources.keep(need, pool.slots - pool.running, kept)
        if not lacks or need is ONE_CORE:
            return
        for worker in list(pool.holding.values()):
            if worker.recalling or worker.exhausted or worker.stopping >= 0:
                continue
            if worker.need == need:
                continue  # its kind would take the place of its kind
            if worker.behind_running and (kept.blocks_cores or _has(worker.grant, lacks)):
                due_s = worker.chunks[0].dealt_s + ROOM_AGE_S
                if due_s <= now_s:
                    self._recall(worker, True)
                else:
                    self._alarm.ask(due_s)


def _suits_plain(need: Need) -> bool:
    """Whether a worker for its binding would be a plain one."""
    return need.cores == PLAIN.cores and not (need.gpu_parts or need.pinned or need.cpus)


def _has(grant: Grant | None, kinds: list[str]) -> bool:
    """Whether there is something of these kinds in it."""
    if grant is None:
        return False
    has = {"GPUs": grant.gpus, "memory": grant.memory_bytes, "CPUs": grant.cpus}
    return any(has.get(kind) for kind in kinds)
