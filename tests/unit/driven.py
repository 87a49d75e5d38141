"""A scheduler driven by hand, for its tests."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from alamo.core import events as ev
from alamo.core.scheduler import Scheduler

ORDER = 0x8000_0000
Rows = Sequence[Sequence[int]]


def columns(rows: Rows) -> tuple[bytes, bytes]:
    ends, preds = array("I"), array("I")
    for row in rows:
        preds.extend(row)
        ends.append(len(preds))
    return ends.tobytes(), preds.tobytes()


def chain(n: int) -> Rows:
    return [[i - 1] if i else [] for i in range(n)]


class Driven:
    """A scheduler with ``slots`` workers numbered from 0; every answer is checked and kept."""

    def __init__(self, slots: int, up: int | None = None) -> None:
        self.scheduler = Scheduler(slots)
        self.now_s = 0.0
        self.seen: list[ev.Effect] = []
        for worker in range(slots if up is None else up):
            self(ev.WorkerReady(worker))

    def __call__(self, *events: ev.Event) -> list[ev.Effect]:
        effects = []
        for event in events:
            effects += self.scheduler.handle(event, self.now_s)
            self.scheduler.check()
        self.seen += effects
        return effects

    def program(
        self,
        number: int,
        rows: Rows | int,
        depth: int = 0,
        ranks: Sequence[int] = (),
        joins: tuple[int, ...] = (),
    ) -> list[ev.Effect]:
        count, page = (rows, (b"", b"")) if isinstance(rows, int) else (len(rows), columns(rows))
        return self(
            ev.ProgramOpened(number, depth),
            ev.PageAdded(number, count, *page, joins),
            ev.ProgramStarted(number, array("I", ranks).tobytes()),
        )

    def finish(self, deal: ev.Deal, *failed: int, each_s: float = 1e-6) -> list[ev.Effect]:
        """The chunk ended as a whole, or at its first failure if it is fused."""
        chunk = deal.chunk
        upto = failed[0] + 1 if failed and chunk.fused else len(chunk.elements)
        return self(ev.ChunkFinished(deal.worker, chunk.number, upto, failed, upto * each_s))

    def measure(self, each_s: float, number: int = 0) -> None:
        """Have the program know how long its elements run."""
        self.scheduler.programs[number].measured(1, each_s)

    def state(self, number: int) -> list[int]:
        return list(self.scheduler.programs[number].state)


def deals(effects: list[ev.Effect]) -> list[ev.Deal]:
    return [effect for effect in effects if isinstance(effect, ev.Deal)]


def elements(effects: list[ev.Effect]) -> list[list[int]]:
    return [list(deal.chunk.elements) for deal in deals(effects)]


def others(effects: list[ev.Effect]) -> list[ev.Effect]:
    return [effect for effect in effects if not isinstance(effect, ev.Deal)]
