"""Random programs for the simulator, and what must come of them by the serial order alone."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from sim_terms import Machine, make_terms

from alamo.core.access import WHOLE, DataAccess
from alamo.core.edges import INDEX
from alamo.core.graph import ranks as longest_paths
from alamo.core.hazards import HazardTracker
from alamo.core.states import CANCELLED, DONE, FAILED, SKIPPED
from alamo.core.terms import DEFAULT_TERMS, ONE_CORE, Need, Terms

ORDER_ONLY = 0x8000_0000
DEPTH_MAX = 5
FOR_EVER_S = 1e9

Page = tuple[int, bytes, bytes, tuple[int, ...]]


class Store:
    """A communication object."""


@dataclass
class Spec:
    """A program: what its client sends, and what its elements will do when they run.

    ``rows`` are predecessors as they stand in the pages; ``reads`` and ``writes`` are channels,
    ``None`` for a program whose edges come from no accesses.  ``growth`` are pages that come while
    it runs; without ``growing`` it may be done before they do.  ``gates`` are arrays, by the
    element that stands for each; ``breaks_off``: of an array, not all that was to come will.
    ``terms`` by number, ``term_of`` each element; ``flaky``: of how many attempts each fails;
    ``limits``: elements that run for ever unless they are stopped after so many seconds.
    ``cancels``: when which elements are cancelled, ``None`` being all.
    """

    kind: str
    depth: int
    pages: list[Page]
    rows: list[list[int]]
    joins: set[int]
    ranks: bytes
    durations: list[float]
    fails: set[int] = field(default_factory=set)
    crashes: set[int] = field(default_factory=set)
    children: dict[int, list[Spec]] = field(default_factory=dict)
    growth: list[int] = field(default_factory=list)
    growing: bool = False
    reads: list[tuple[int, ...]] | None = None
    writes: list[tuple[int, ...]] | None = None
    dropped_after_s: float | None = None
    gates: dict[int, Spec] = field(default_factory=dict)
    breaks_off: bool = False
    terms: list[Terms] = field(default_factory=lambda: [DEFAULT_TERMS])
    term_of: list[int] = field(default_factory=list)
    flaky: dict[int, int] = field(default_factory=dict)
    limits: dict[int, float] = field(default_factory=dict)
    cancels: list[tuple[float, list[int] | None]] = field(default_factory=list)

    def need_of(self, element: int) -> Need:
        return self.terms[self.term_of[element]].need if self.term_of else ONE_CORE

    @property
    def count(self) -> int:
        return len(self.rows)

    def data_predecessors(self, element: int) -> list[int]:
        return [entry for entry in self.rows[element] if entry < ORDER_ONLY]

    def predecessors(self, element: int) -> list[int]:
        return [entry & INDEX for entry in self.rows[element]]


def outcomes_of(
    spec: Spec, failed: set[int], cancelled: set[int]
) -> tuple[list[int], list[set[int]]]:
    """The final state of each element if exactly ``failed`` fail among those that run and
    ``cancelled`` never do, and the failures that each depends on: a walk along the edges in
    program order."""
    state: list[int] = []
    roots: list[set[int]] = []
    for element in range(spec.count):
        because: set[int] = set()
        for before in spec.data_predecessors(element):
            because |= {before} if state[before] in (FAILED, CANCELLED) else roots[before]
        roots.append(because)
        if element in cancelled:
            state.append(CANCELLED)
        else:
            state.append(SKIPPED if because else FAILED if element in failed else DONE)
    return state, roots


def outcomes_by_access(spec: Spec, failed: set[int], cancelled: set[int]) -> list[int]:
    """The same from the accesses alone, without looking at an edge."""
    assert spec.reads is not None
    assert spec.writes is not None
    writer: dict[int, int] = {}
    state: list[int] = []
    for element in range(spec.count):
        needed = [state[writer[c]] for c in spec.reads[element] if c in writer]
        lacks = not {FAILED, SKIPPED, CANCELLED}.isdisjoint(needed)
        if element in cancelled:
            state.append(CANCELLED)
        else:
            state.append(SKIPPED if lacks else FAILED if element in failed else DONE)
        for channel in spec.writes[element]:
            writer[channel] = element
    return state


# -- pages -----------------------------------------------------------------------------


def cut_into_pages(rng: random.Random, rows: list[list[int]], joins: set[int]) -> list[Page]:
    """Random pages, also empty ones; one without an edge has no columns, or columns of zeros."""
    pages: list[Page] = []
    first = 0
    while first < len(rows) or rng.random() < 0.2:
        count = rng.choice((0, 1, 2, 5, 17, 100))
        count = min(count, len(rows) - first)
        part = rows[first : first + count]
        here = tuple(j for j in sorted(joins) if first <= j < first + count)
        if any(part) or rng.random() < 0.2:
            ends, preds = array("I"), array("I")
            for row in part:
                preds.extend(row)
                ends.append(len(preds))
            pages.append((count, ends.tobytes(), preds.tobytes(), here))
        else:
            pages.append((count, b"", b"", here))
        first += count
    return pages


def rows_of(pages: list[Page]) -> list[list[int]]:
    """The predecessors of each element as the pages say."""
    rows: list[list[int]] = []
    for count, ends, preds, _ in pages:
        entries = array("I", preds)
        start = 0
        for end in array("I", ends) if ends else [0] * count:
            rows.append(list(entries[start:end]))
            start = end
    return rows


def ranks_of(rows: list[list[int]], joins: set[int]) -> bytes:
    ends, preds = [], []
    for row in rows:
        preds += row
        ends.append(len(preds))
    return longest_paths(ends, preds, len(rows), joins).tobytes()


# -- kinds of programs -----------------------------------------------------------------


def plain(rng: random.Random, n: int) -> Spec:
    """No edges; it may grow while it runs."""
    growth = [rng.randint(0, n) for _ in range(rng.choice((0, 0, 1, 3)))]
    rows: list[list[int]] = [[] for _ in range(n + sum(growth))]
    pages: list[Page] = []
    left = n
    while left:
        count = rng.randint(1, left)
        pages.append((count, b"", b"", ()))
        left -= count
    growing = rng.random() < 0.6
    return Spec("plain", 0, pages, rows, set(), b"", [], growth=growth, growing=growing)


def by_access(rng: random.Random, n: int) -> Spec:
    """Reads and writes of channels; edges and joins by the tracker, or by the nearest-edge rule."""
    channels = rng.choice((1, 2, 5, 20, n + 1))
    chosen: list[tuple[list[int], list[int]]] = []
    for _ in range(n):
        some = rng.choices(range(channels), k=rng.choice((0, 1, 1, 2, 3, 4)))
        split = rng.randint(0, len(some))
        chosen.append((sorted(set(some[:split])), sorted(set(some[split:]))))
    if rng.random() < 0.3:
        return _nearest_edges(rng, chosen)
    store, tracker = Store(), HazardTracker()
    whole_share = rng.choice((0.0, 0.0, 0.05, 0.3))
    in_phases = rng.random() < 0.4  # many write a channel each, many read all: here joins pay
    if in_phases:
        channels = max(channels, 20)
    everything = [*range(channels), channels]  # the last: what nobody names and is there too
    accesses: dict[int, tuple[list[int], list[int]]] = {}
    pages: list[Page] = []
    for element, (reads, writes) in enumerate(chosen):
        if in_phases:
            reads[:] = [0] if element // 12 % 2 else []
            writes[:] = [] if reads else [rng.randrange(channels)]
        named = [
            tuple(DataAccess(store, c, mode) for c in part)
            for mode, part in ((0, reads), (1, writes))
        ]
        for mode, part in enumerate((reads, writes)):
            if part and (rng.random() < whole_share or (in_phases and mode == 0)):
                part[:] = everything
                named[mode] = (DataAccess(store, WHOLE, mode),)
        accesses[tracker.add(*named)] = (reads, writes)
        if rng.random() < 0.05:
            pages.append(_drained(tracker))
    pages.append(_drained(tracker))
    rows = rows_of(pages)
    joins = {j for page in pages for j in page[3]}
    none: tuple[list[int], list[int]] = ([], [])
    spec = Spec("access", 0, pages, rows, joins, ranks_of(rows, joins), [])
    spec.reads = [tuple(accesses.get(e, none)[0]) for e in range(len(rows))]
    spec.writes = [tuple(accesses.get(e, none)[1]) for e in range(len(rows))]
    return spec


def _drained(tracker: HazardTracker) -> Page:
    page = tracker.drain()
    return page.count, page.pred_ends, page.preds, tuple(page.joins)


def _nearest_edges(rng: random.Random, accesses: list[tuple[list[int], list[int]]]) -> Spec:
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    rows = []
    for element, (reads, writes) in enumerate(accesses):
        row = {writer[c]: writer[c] for c in reads if c in writer}
        for c in writes:
            for other in readers.get(c) or [writer[c]] if c in writer else readers.get(c, ()):
                row.setdefault(other, other | ORDER_ONLY)
        for c in reads:
            readers.setdefault(c, []).append(element)
        for c in writes:
            writer[c] = element
            readers[c] = []
        row.pop(element, None)
        rows.append(list(row.values()))
    spec = Spec(
        "nearest", 0, cut_into_pages(rng, rows, set()), rows, set(), ranks_of(rows, set()), []
    )
    spec.reads = [tuple(reads) for reads, _ in accesses]
    spec.writes = [tuple(writes) for _, writes in accesses]
    return spec


def by_edges(rng: random.Random, n: int) -> Spec:
    """Any graph: edges of both kinds, also twice between the same two, and joins."""
    rows: list[list[int]] = []
    reach = rng.choice((1, 3, 10, n + 1))
    order_share = rng.choice((0.0, 0.2, 0.5, 1.0))
    degree = rng.choice((1, 2, 3, 8))
    edge_share = rng.choice((0.3, 0.9, 1.0))
    for element in range(n):
        row = []
        if element and rng.random() < edge_share:
            for _ in range(rng.randint(1, degree)):
                before = rng.randint(max(0, element - reach), element - 1)
                row.append(before | (ORDER_ONLY if rng.random() < order_share else 0))
        rows.append(row)
    joins = {e for e in range(n) if rng.random() < 0.1} if rng.random() < 0.5 else set()
    ranks = b"" if rng.random() < 0.1 else ranks_of(rows, joins)
    return Spec("edges", 0, cut_into_pages(rng, rows, joins), rows, joins, ranks, [])


def by_shape(rng: random.Random, n: int) -> Spec:
    """Chain, fan-out and fan-in, stencil: what people write."""
    width = rng.randint(2, 10)
    shapes: list[Callable[[int], list[int]]] = [
        lambda e: [e - 1] if e else [],
        lambda e: [] if not e else [0] if e < n - 1 else list(range(1, n - 1)),
        lambda e: [
            (e // width - 1) * width + (e % width + d) % width for d in (-1, 0, 1) if e >= width
        ],
        lambda e: [(e - 1) // 2] if e else [],
    ]
    shape = rng.choice(shapes)
    rows = [sorted(set(shape(e))) for e in range(n)]
    return Spec(
        "shape", 0, cut_into_pages(rng, rows, set()), rows, set(), ranks_of(rows, set()), []
    )


def add_gates(rng: random.Random, spec: Spec, crash_share: float) -> None:
    """Make arrays of some elements, also empty ones, which come before or while they run."""
    for element in range(spec.count):
        if element in spec.joins or element in spec.children or rng.random() > 0.15:
            continue
        inner = spec.gates[element] = plain(rng, rng.choice((0, 0, 1, 5, 30)))
        inner.kind, inner.depth, inner.growing = "array", spec.depth, True
        scale_s = rng.choice((1e-6, 2e-5, 2e-3))
        inner.durations = [scale_s * rng.random() for _ in range(inner.count)]
        fail_share = rng.choice((0.0, 0.0, 0.0, 0.1))
        inner.fails = {e for e in range(inner.count) if rng.random() < fail_share}
        inner.crashes = {e for e in range(inner.count) if rng.random() < crash_share}
        inner.breaks_off = rng.random() < 0.1
        if rng.random() < 0.1:
            inner.dropped_after_s = rng.choice((0.0, 20 * scale_s)) * rng.random()
        spec.fails.discard(element)
        spec.crashes.discard(element)


def add_limits(rng: random.Random, spec: Spec) -> None:
    """Some elements run for ever, or longer than they may."""
    for element in range(spec.count):
        if element not in spec.joins and element not in spec.gates and rng.random() < 0.05:
            spec.limits[element] = rng.choice((1e-5, 1e-3)) * rng.random()
            if element not in spec.children and rng.random() < 0.7:
                spec.durations[element] = FOR_EVER_S


def add_cancels(rng: random.Random, spec: Spec, after_s: float) -> None:
    """Their client does not want some of the elements any more, or none."""
    for _ in range(rng.choice((1, 1, 3))):
        elements = None
        if rng.random() < 0.7:
            some = rng.choice((1, 3, max(1, spec.count // 2)))
            elements = [rng.randrange(spec.count + 2) for _ in range(some)]
        spec.cancels.append((rng.choice((0.0, 1.0, 1.0)) * rng.random() * after_s, elements))


KINDS = (plain, plain, by_access, by_access, by_access, by_edges, by_edges, by_shape)


def make_program(
    rng: random.Random,
    size: int,
    depth: int = 0,
    nested_share: float = 0.0,
    crash_share: float = 0.0,
    machine: Machine | None = None,
    terms_share: float = 0.0,
    stop_share: float = 0.0,
    cancel_share: float = 0.0,
) -> Spec:
    """A program of up to ``size`` elements, with the programs that its elements submit."""
    n = rng.choice((0, 1, 2, size // 4, size, size)) if depth == 0 else rng.randint(0, 4)
    spec = rng.choice(KINDS)(rng, n)
    spec.depth = depth
    scale_s = rng.choice((1e-6, 2e-5, 3e-4, 2e-3, 2e-2))
    spread = rng.choice((0.0, 1.0, 3.0))
    spec.durations = [scale_s * 10 ** (spread * (rng.random() - 0.5)) for _ in range(spec.count)]
    fail_share = rng.choice((0.0, 0.0, 0.02, 0.2))
    for element in range(spec.count):
        if rng.random() < fail_share:
            spec.fails.add(element)
        if rng.random() < crash_share:
            spec.crashes.add(element)
        if depth < DEPTH_MAX and rng.random() < nested_share and element not in spec.joins:
            spec.children[element] = [
                make_program(
                    rng, size, depth + 1, nested_share * 2, crash_share, machine, terms_share
                )
                for _ in range(rng.choice((1, 1, 2)))
            ]
    if spec.kind != "plain" and rng.random() < 0.4:
        add_gates(rng, spec, crash_share)
    if rng.random() < 0.12:
        spec.dropped_after_s = rng.choice((0.0, 1.0, 1.0)) * rng.random() * scale_s * (n + 1)
    for one in (spec, *spec.gates.values()):
        if machine is not None and rng.random() < terms_share:
            make_terms(rng, one, machine, rng.choice((0.0, 0.3, 1.0)), rng.choice((0.0, 0.5)))
        if rng.random() < cancel_share:
            add_cancels(rng, one, scale_s * (n + 1))
        if rng.random() < stop_share:
            add_limits(rng, one)
    return spec
