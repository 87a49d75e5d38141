"""What really happened to a program, held against the rules at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sim_programs import Spec, outcomes_by_access, outcomes_of

from alamo.core.states import (
    CANCELLED,
    DEALT,
    DONE,
    FAILED,
    LEGAL_MOVES,
    NAMES,
    PENDING,
    SKIPPED,
)

if TYPE_CHECKING:
    from simulator import World


class ProgramTruth:
    """One program as the world and its client see it.

    Attributes:
        state: of each element as the client knows it, moved by legal moves only.
        ended: elements that ran to their end, told or not.
        spared: elements that may begin although the program has been dropped.
        asked: elements that shall be cancelled; called_off: all, with those to come.
        attempt: how often elements have failed that were tried again.
        arrays: of each gate the program behind it; ``gate``: of such a one where it stands.
        is_skipped: it stands behind a gate that was skipped.
    """

    def __init__(
        self, world: World, number: int, spec: Spec, waiter: Callable[[], None] | None
    ) -> None:
        self.world = world
        self.number = number
        self.spec = spec
        self.waiter = waiter
        self.opened = False
        self.opened_s = self.lasted_s = 0.0
        self.sent = 0
        self.dropped = False
        self.is_done = False
        self.state = [PENDING] * spec.count
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.spared: set[int] = set()
        self.failed: set[int] = set()
        self.asked: set[int] = set()
        self.called_off = False
        self.attempt: dict[int, int] = {}
        self.arrays: dict[int, ProgramTruth] = {}
        self.gate: tuple[ProgramTruth, int] | None = None
        self.is_sealed = self.is_skipped = False
        self._entered: set[int] = set()
        self.orphans: dict[int, list[ProgramTruth]] = {}
        self._holder: dict[int, int] = {}
        self._roots: dict[int, int] = {}
        self._failing: set[int] = set()
        self._closed: set[int] = set()
        self._expected = self._expected_versions()
        self._value: dict[int, int] = {}
        self._using: dict[int, dict[int, bool]] = {}

    def _move(self, element: int, state: int) -> None:
        old = self.state[element]
        where = f"{self.number}:{element}"
        assert state in LEGAL_MOVES[old], f"{where} goes from {NAMES[old]} to {NAMES[state]}"
        self.state[element] = state

    # -- what the scheduler and the workers do -----------------------------------------

    def dealt(self, elements: Sequence[int], worker: int, fused: bool) -> None:
        assert not self.is_done
        assert not self.dropped, "an element of a dropped program is dealt"
        assert not self.called_off
        assert self.asked.isdisjoint(elements), "an element is dealt that was cancelled"
        inside: set[int] = set()
        depends = False
        for element in elements:
            self._move(element, DEALT)
            assert element not in self.spec.joins
            assert element not in self.spec.gates
            assert element not in self.begun, f"{self.number}:{element} would run twice"
            self._holder[element] = worker
            before = set(self.spec.predecessors(element))
            depends = depends or bool(before & inside)
            inside.add(element)
        assert fused or not depends, "a chunk with inner edges must be fused"

    def taken_back(self, elements: Iterable[int]) -> None:
        for element in elements:
            assert element not in self.begun
            self._move(element, PENDING)
            del self._holder[element]

    def begin(self, element: int, worker: int) -> None:
        where = f"{self.number}:{element}"
        due = not self.dropped or element in self.spared
        assert due, f"{where} begins after its program was dropped"
        assert not self.is_done
        assert self._holder.get(element) == worker, f"{where} runs in the wrong worker"
        assert element not in self.begun, f"{where} runs twice"
        self.begun.add(element)
        if self.gate is not None:
            self.gate[0].enter_gate(self.gate[1])
        self._enter(element)

    def enter_gate(self, element: int) -> None:
        """An element of the array begins; of all it is the first, perhaps."""
        where = f"{self.number}:{element}"
        assert self.state[element] == PENDING, f"an element behind {where} begins too late"
        if element not in self._entered:
            self._enter(element)

    def gate_closed(self, element: int, inner: ProgramTruth | None, failed: bool) -> None:
        """The scheduler says that an array has ended."""
        where = f"{self.number}:{element}"
        array = self.arrays[element]
        assert not self.is_done
        assert inner in (None, array)
        over = array.dropped or array.called_off
        assert over or array.is_sealed, f"{where} ends before it is known what comes"
        assert array.dropped or not array.open_elements(), f"{where} ends before its elements"
        due = bool(array.failed or over or CANCELLED in array.state or array.spec.breaks_off)
        assert failed == due, f"{where} failed: {failed}, not {due}"
        if failed:
            self.failed.add(element)
        if element not in self._entered:
            self._enter(element)
        self._move(element, DEALT)
        self._move(element, FAILED if failed else DONE)
        self._closed.add(element)
        self._leave_channels(element)

    def _enter(self, element: int) -> None:
        where = f"{self.number}:{element}"
        self._entered.add(element)
        for before in self.spec.predecessors(element):
            assert self._is_closed(before), f"{where} begins before {before} has ended"
        if self.spec.reads is None or self.spec.writes is None:
            return
        writes = self.spec.writes[element]
        for channel in self.spec.reads[element]:
            seen, due = self._value.get(channel, -1), self._expected[element][channel]
            again = seen == element and element in self.attempt
            assert again or seen == due, f"{where} reads channel {channel} of {seen}, not of {due}"
        for channel, mode in (
            *((c, False) for c in self.spec.reads[element] if c not in writes),
            *((c, True) for c in writes),
        ):
            using = self._using.setdefault(channel, {})
            assert not (using and (mode or any(using.values()))), f"{where} races on {channel}"
            using[element] = mode

    def end(self, element: int, stopped: bool = False) -> bool:
        """It ran to its end; returns whether it succeeded."""
        self.ended.add(element)
        self._leave_channels(element)
        attempt = self.attempt.get(element, 0)
        ok = element not in self.spec.fails and attempt >= self.spec.flaky.get(element, 0)
        if ok and not stopped:
            self._closed.add(element)
            return True
        self._failing.add(element)
        return False

    def killed(self, element: int, again: bool) -> None:
        """Its worker died under it."""
        self._leave_channels(element)
        if again:
            self._try_again(element)
        else:
            self.failed.add(element)
            self._closed.add(element)
        for child in self.orphans.get(element, ()):
            if self.world.rng.random() < 0.7:
                self.world.after(self.world.delay_s(), lambda child=child: self.world.drop(child))

    def _try_again(self, element: int) -> None:
        attempt = self.attempt[element] = self.attempt.get(element, 0) + 1
        assert attempt <= self.spec.terms[self.spec.term_of[element]].retries
        assert element not in self.asked
        self.begun.discard(element)
        self.ended.discard(element)
        self._failing.discard(element)

    def _leave_channels(self, element: int) -> None:
        if self.spec.writes is None or self.spec.reads is None:
            return
        for channel in {*self.spec.reads[element], *self.spec.writes[element]}:
            del self._using[channel][element]
        for channel in self.spec.writes[element]:
            self._value[channel] = element

    def reported(self, element: int, again: bool) -> None:
        """Its result reached the client."""
        assert element in self.ended
        assert not self.is_done
        if again:
            assert element in self._failing
            self._try_again(element)
            self._move(element, PENDING)
        elif element in self._failing:
            self.failed.add(element)
            self._closed.add(element)
            self._move(element, FAILED)
        else:
            self._move(element, DONE)
        del self._holder[element]

    def lost(self, element: int, worker: int, again: bool) -> None:
        where = f"{self.number}:{element}"
        assert self._holder.pop(element) == worker
        assert again != (element in self.failed), f"{where} is said to be lost"
        assert element not in self.ended
        self._move(element, PENDING if again else FAILED)

    def unborn(self, element: int) -> None:
        """It fails in its turn without having run: no worker comes up that could run it."""
        assert self.state[element] == PENDING
        assert element not in self.begun
        self.begun.add(element)
        if self.gate is not None:
            self.gate[0].enter_gate(self.gate[1])
        self._enter(element)
        self._leave_channels(element)
        self.failed.add(element)
        self._closed.add(element)
        self._move(element, DEALT)
        self._move(element, FAILED)

    def check_lost(self, element: int, worker: int, again: bool) -> None:
        """After the loss of its worker was told: the running element has failed, no other."""
        where = f"{self.number}:{element}"
        told = self._holder.get(element) != worker and (again or self.state[element] == FAILED)
        assert told, f"the loss of {where} was not told"

    def cancel(self, elements: list[int] | None) -> None:
        """Its client asks for it; what stands behind gates goes with them."""
        if self.dropped or self.called_off or self.is_done:
            return
        if elements is None:
            self.called_off = True
        chosen = range(self.sent) if elements is None else elements
        for element in chosen:
            if element < self.sent and self.state[element] in (PENDING, DEALT):
                if element in self.arrays:
                    self.arrays[element].cancel(None)
                self.asked.add(element)

    def check_cancelled(self) -> None:
        """What was asked not to run and is at no worker has been cancelled; a gate may be open."""
        if self.dropped:
            return
        for element in self.asked:
            if element not in self.spec.joins and element not in self.arrays:
                where = f"{self.number}:{element}"
                assert self.state[element] != PENDING, f"{where} is not cancelled"

    def cancelled(self, element: int) -> None:
        assert element in self.asked, f"{self.number}:{element} was not asked to be cancelled"
        assert element not in self.begun
        assert element not in self.spec.joins
        assert element not in self.arrays or element not in self._entered
        assert not self.is_done
        self._move(element, CANCELLED)

    def unheld(self, worker: int) -> None:
        """The worker is gone: what it had not begun is to run elsewhere."""
        for element in [e for e, w in self._holder.items() if w == worker]:
            if element not in self.begun:
                self._move(element, PENDING)
                del self._holder[element]

    def skip(self, element: int, root: int) -> None:
        where = f"{self.number}:{element}"
        assert not self.dropped
        assert not self.is_done, f"{where} is skipped after the program was done"
        assert element not in self.spec.joins
        self._move(element, SKIPPED)
        self._roots[element] = root
        if element in self.arrays:
            assert element not in self._entered, f"{where} is skipped and has begun"
            array = self.arrays[element]
            array.is_skipped = not array.dropped
            array.dropped = True
        assert self.state[root] in (FAILED, CANCELLED), f"{where} is skipped because of {root}"
        for before in self.spec.predecessors(element):
            assert self._is_closed(before), f"{where} is skipped before {before} has ended"

    def _is_closed(self, element: int) -> bool:
        """Ran to its end; or is skipped, cancelled or a join, and all before it is closed."""
        stack = [element]
        while stack:
            at = stack[-1]
            if at in self._closed:
                stack.pop()
                continue
            if self.state[at] not in (SKIPPED, CANCELLED) and at not in self.spec.joins:
                return False
            more = [b for b in self.spec.predecessors(at) if b not in self._closed]
            if not more:
                self._closed.add(at)
            stack += more
        return True

    # -- the end -----------------------------------------------------------------------

    def done(self) -> None:
        assert not self.is_done, f"program {self.number} is done twice"
        self.is_done = True
        self.lasted_s = self.world.now_s - self.opened_s
        assert not self._holder, f"program {self.number} is done, and {self._holder} at workers"
        if not self.dropped:
            open_ = self.open_elements()
            assert not open_, f"program {self.number} is done, and {open_} are not"

    def open_elements(self) -> list[str]:
        return [
            f"{e} {NAMES[s]}"
            for e, s in enumerate(self.state[: self.sent])
            if s in (PENDING, DEALT) and e not in self.spec.joins
        ]

    def check(self) -> None:
        """Serial equivalence, once all is over."""
        assert self.begun - self.failed == self.ended - self.failed
        if self.dropped:
            return
        spec = self.spec
        whole = self.sent == spec.count
        assert whole or self.called_off or (spec.growth and not spec.growing)
        cancelled = {e for e, state in enumerate(self.state) if state == CANCELLED}
        states, roots = outcomes_of(spec, self.failed, cancelled)
        for element in range(self.sent):
            if element in spec.joins:
                continue
            where, due = f"{self.number}:{element}", NAMES[states[element]]
            assert self.state[element] == states[element], f"{where} should be {due}"
            if element in self._roots:
                assert self._roots[element] in roots[element], f"{where} has a wrong root"
        if spec.writes is None:
            return
        for element, state in enumerate(outcomes_by_access(spec, self.failed, cancelled)):
            assert element >= self.sent or element in spec.joins or state == states[element]
        last: dict[int, int] = {}
        for element in sorted(self._entered):
            last.update(dict.fromkeys(spec.writes[element], element))
        assert last == self._value, "the last writes are not those of the serial order"

    def _expected_versions(self) -> list[dict[int, int]]:
        """For each element and channel that it reads: the last writer before it in the list."""
        if self.spec.reads is None or self.spec.writes is None:
            return []
        writer: dict[int, int] = {}
        versions = []
        for reads, writes in zip(self.spec.reads, self.spec.writes, strict=True):
            versions.append({channel: writer.get(channel, -1) for channel in reads})
            writer.update(dict.fromkeys(writes, len(versions) - 1))
        return versions
