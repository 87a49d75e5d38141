"""Marks: what a worker notes of the times of tasks, and what its client makes of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alamo.batch.timeline import Run, Timeline
from alamo.protocol.layout import BUFFERS, MARKS_BYTES, MARKS_MAX, SharedMemory, make_memory
from alamo.protocol.marks import MARK_BYTES, NO_CPU, Timing, pack
from alamo.worker.stats import Meter, marks_of, note_peak, take_peak, unfinished_marks

MS = 1_000_000


class Bench:
    """A meter on clocks that a test turns; no time passes between two calls."""

    def __init__(self, memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.marks = memory.marks
        self.cpu_ns = 0
        monkeypatch.setattr(time, "process_time_ns", lambda: self.cpu_ns)
        monkeypatch.setattr(time, "time_ns", time.monotonic_ns)
        self.meter = Meter()

    def runs(self, buffer: int, count: int, skip: int = 0) -> list[Run | None]:
        return runs(Timing(7, marks_of(self.marks[buffer]), skip), count)

    def spent_ms(self, buffer: int, count: int) -> list[tuple[float, float | None, int]]:
        """Duration and CPU time of each, in ms, and of how many they are the average."""
        found = []
        for run in self.runs(buffer, count):
            assert run is not None
            cpu_ms = None if run.cpu_s is None else round(run.cpu_s * 1e3, 3)
            found.append((round((run.end_s - run.start_s) * 1e3, 3), cpu_ms, run.averaged_over))
        return found


def runs(timing: Timing | None, count: int) -> list[Run | None]:
    timeline = Timeline()
    timeline.add(None)
    timeline.add(timing)
    assert timeline.run(0, 0) is None
    return [timeline.run(1, k) for k in range(count)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    fd = make_memory()
    memory = SharedMemory(fd)
    os.close(fd)
    # The offset to times since the epoch is the difference of two clocks that are one here.
    yield Bench(memory, monkeypatch)
    monkeypatch.undo()
    memory.close()


def test_short_tasks_share_what_lies_between_the_ends(bench: Bench) -> None:
    bench.meter.begin(bench.marks[0], 10 * MS)
    bench.cpu_ns = 2 * MS
    bench.meter.end(4, 14 * MS)
    assert bench.spent_ms(0, 4) == [(1.0, 0.5, 4)] * 4
    starts_s = [run.start_s for run in bench.runs(0, 4) if run]
    assert [round((s - starts_s[0]) * 1e3, 2) for s in starts_s] == [0, 1, 2, 3]
    assert bench.runs(0, 6)[4:] == [None, None]


def test_a_long_task_among_short_ones(bench: Bench) -> None:
    """The short ones in front of it are taken to have kept the CPU busy."""
    meter = bench.meter
    meter.begin(bench.marks[0], 0)
    bench.cpu_ns = 6 * MS
    meter.take(1 * MS, 11 * MS)
    assert meter.taken
    assert meter.put(2, 3)
    assert not meter.taken
    bench.cpu_ns = 7 * MS
    meter.end(5, 12 * MS)
    assert bench.spent_ms(0, 5) == [(0.5, 0.5, 2)] * 2 + [(10.0, 5.0, 1)] + [(0.5, 0.5, 2)] * 2


def test_short_tasks_that_did_not_use_the_cpu(bench: Bench) -> None:
    bench.meter.begin(bench.marks[0], 0)
    bench.cpu_ns = MS // 2
    bench.meter.take(4 * MS, 9 * MS)
    bench.meter.put(1, 2)
    assert bench.spent_ms(0, 2) == [(4.0, 0.5, 1), (5.0, 0.0, 1)]


def test_a_short_task_that_waited_for_the_cpu_takes_none_from_a_long_one(bench: Bench) -> None:
    meter = bench.meter
    meter.begin(bench.marks[0], 0)
    bench.cpu_ns = MS // 10
    meter.glance(MS * 9 // 10)
    bench.cpu_ns = 4 * MS
    meter.take(1 * MS, 5 * MS)
    meter.put(2, 3)
    assert bench.spent_ms(0, 3) == [(0.5, 0.1, 2)] * 2 + [(4.0, 3.8, 1)]


def test_long_tasks_in_a_row_have_one_mark_each(bench: Bench) -> None:
    bench.meter.begin(bench.marks[0], 0)
    for k in range(3):
        bench.cpu_ns += 2 * MS
        bench.meter.take(2 * k * MS, (2 * k + 2) * MS)
        bench.meter.put(k, k + 1)
    bench.meter.end(3, 7 * MS)
    assert bench.marks[0][0] == 4
    assert bench.spent_ms(0, 3) == [(2.0, 2.0, 1)] * 3


def test_a_long_task_whose_outcome_goes_into_the_next_buffer(bench: Bench) -> None:
    meter = bench.meter
    meter.begin(bench.marks[0], 0)
    bench.cpu_ns = 4 * MS
    meter.take(1 * MS, 5 * MS)
    meter.end(2, 1 * MS)
    meter.begin(bench.marks[1], 1 * MS)
    meter.put(0, 1)
    assert bench.spent_ms(0, 2) == [(0.5, 0.5, 2)] * 2
    assert bench.spent_ms(1, 1) == [(4.0, 3.0, 1)]


def test_a_task_whose_outcome_travels_alone(bench: Bench) -> None:
    meter = bench.meter
    meter.begin(bench.marks[0], 0)
    note_peak(50)
    bench.cpu_ns = 3 * MS
    meter.take(0, 4 * MS)
    alone = meter.put_alone()
    meter.begin(bench.marks[1], 4 * MS)
    meter.end(1, 5 * MS)
    (run,) = runs(Timing(7, alone), 1)
    assert run is not None
    assert (run.pid, run.cpu_s, run.peak_bytes, run.averaged_over) == (7, 0.003, 50, 1)
    assert bench.spent_ms(1, 1) == [(1.0, 0.0, 1)]


def test_it_says_when_it_is_full(bench: Bench) -> None:
    bench.meter.begin(bench.marks[BUFFERS - 1], 0)
    k = 0
    while True:
        bench.meter.take((3 * k + 1) * MS, (3 * k + 2) * MS)
        if not bench.meter.put(2 * k + 1, 2 * k + 2):
            break
        k += 1
    bench.meter.end(2 * k + 5, 3 * (k + 1) * MS)
    assert MARKS_MAX // 2 - 4 < k < bench.marks[BUFFERS - 1][0] <= MARKS_MAX
    assert None not in bench.runs(BUFFERS - 1, 2 * k + 5)


def test_the_largest_peak_counts_once() -> None:
    take_peak()
    for size_bytes in (3, 9, 4):
        note_peak(size_bytes)
    assert (take_peak(), take_peak()) == (9, 0)


def test_a_buffer_that_was_not_announced(bench: Bench) -> None:
    meter = bench.meter
    meter.begin(bench.marks[0], 0)
    bench.cpu_ns = 2 * MS
    meter.take(0, 2 * MS)
    meter.put(0, 1)
    marks = bench.marks[0]
    own_ns = marks[2]  # of children of this process

    def found(count: int, now_ns: int, cpu_ns: int) -> list[tuple[float, float | None]]:
        timing = Timing(7, unfinished_marks(marks, count, now_ns, cpu_ns))
        return [
            (round((r.end_s - r.start_s) * 1e3, 2), None if r.cpu_s is None else r.cpu_s * 1e3)
            for r in runs(timing, count)
            if r is not None
        ]

    assert found(1, 9 * MS, 9 * MS) == [(2.0, 2.0)]
    # The rest of the CPU time is that of the task which goes on.
    assert found(3, 4 * MS, 90 * MS)[1:] == [(1.0, 1.0)] * 2
    assert found(3, 4 * MS, 2 * MS)[1:] == [(1.0, 0.0)] * 2
    assert found(3, 4 * MS, -1)[1:] == [(1.0, None)] * 2
    assert found(2, 1 * MS, -1)[1:] == [(0.0, None)]  # the clock had been read before
    assert own_ns == marks[2]


def test_outcomes_that_are_a_part_of_those_in_the_buffer() -> None:
    marks = pack((0, 0, 0, 0), (2, 4 * MS, 0, 0), (3, 9 * MS, 0, 0), (5, 9 * MS, NO_CPU, 0))
    ends_ms = [2, 4, 9, 9, 9]

    def found(timing: Timing, count: int) -> list[float]:
        return [round(run.end_s * 1e3, 2) for run in runs(timing, count) if run is not None]

    whole = Timing(7, marks)
    assert found(whole, 5) == ends_ms
    assert found(Timing(7, marks, 2), 3) == ends_ms[2:]
    assert found(whole.only([0, 2, 4]), 3) == [2, 9, 9]
    assert found(Timing(7, marks, 1).only([0, 3]), 2) == [4, 9]
    assert found(whole.only([1, 2, 4]).only([0, 2]), 2) == [4, 9]
    assert [run and run.cpu_s for run in runs(whole, 5)] == [0, 0, 0, None, None]


@given(st.binary(max_size=200), st.integers(-1, 1 << 63), st.integers(0, 9000))
def test_a_task_may_have_written_anything_over_them(data: bytes, cpu_ns: int, count: int) -> None:
    area = bytearray(-(-MARKS_BYTES // 8) * 8)
    area[: len(data)] = data
    area[0] &= 0x3F
    area[1:8] = bytes(7)
    marks = memoryview(area).cast("Q")
    for packed in (marks_of(marks), unfinished_marks(marks, count, 5, cpu_ns)):
        assert len(packed) % MARK_BYTES == 0
        for run in runs(Timing(7, packed), min(count, 50)):
            assert run is None or run.averaged_over > 0
    marks[0] = 1 << 60
    assert marks_of(marks) == unfinished_marks(marks, count, 5, cpu_ns) == b""
