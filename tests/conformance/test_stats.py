"""``task.stats``: when and where tasks and elements of arrays ran, and what they took."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from alamo import Batch, TaskStats, WorkerLost

#: Clocks are read at different places in different processes.
SLACK_S = 0.005


def same(value: int) -> int:
    return value


def burn(cpu_s: float) -> int:
    """Use so much CPU time."""
    end_s = time.process_time() + cpu_s
    while time.process_time() < end_s:
        pass
    return os.getpid()


def nap(wait_s: float) -> tuple[float, float]:
    """Sleep; when it began and ended."""
    begun_s = time.time()
    time.sleep(wait_s)
    return begun_s, time.time()


def fail_late() -> None:
    burn(0.002)
    raise ValueError("late")


def spawn(cpu_s: float) -> None:
    code = f"import time\nwhile time.process_time() < {cpu_s}: pass"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def stats_of(task: Any) -> TaskStats:
    found = task.stats
    assert isinstance(found, TaskStats)
    return found


def test_one_task(batch: Batch) -> None:
    task = batch.function(nap, 0.02)
    assert task.stats is None
    begun_s, ended_s = task.run()
    stats = stats_of(task)
    assert begun_s - 1 < stats.start_s <= begun_s + SLACK_S
    assert ended_s - SLACK_S <= stats.end_s < ended_s + 1
    assert stats.elapsed_s >= 0.02 - SLACK_S
    assert stats.cpu_s is not None
    assert stats.cpu_s < stats.elapsed_s
    assert (stats.host, stats.attempts, stats.averaged_over) == (socket.gethostname(), 1, 1)
    assert stats.peak_bytes is None
    with pytest.raises(AttributeError):
        stats.pid = 0  # type: ignore[misc]


def test_cpu_time_and_process(batch: Batch) -> None:
    task = batch.function(burn, 0.03)
    pid = task.run()
    stats = stats_of(task)
    assert stats.pid == pid
    assert stats.cpu_s is not None
    assert 0.03 - SLACK_S < stats.cpu_s <= stats.elapsed_s + SLACK_S


def test_a_task_that_has_not_ended_or_not_run_has_none(batch: Batch) -> None:
    bad = batch.function(int, "x")
    needs_it = batch.function(same, bad.result)
    program = batch.compile([bad, needs_it])
    assert bad.stats is None
    assert list(program.stats.items()) == [(bad.uid, None), (needs_it.uid, None)]
    program.start()
    program.wait()
    assert isinstance(bad.stats, TaskStats)
    assert needs_it.stats is None


def test_a_failed_task_has_its_own(batch: Batch) -> None:
    task = batch.function(fail_late)
    task.start()
    task.wait()
    cpu_s = stats_of(task).cpu_s
    assert cpu_s is not None
    assert 0.002 - SLACK_S / 10 < cpu_s < 1


def test_long_and_short_tasks_of_one_program_are_told_apart(batch: Batch) -> None:
    """Long ones have figures of their own wherever they stand in their chunks."""
    waits_s = [0.004 if i % 5 == 3 else 0.0 for i in range(60)]
    tasks = [batch.function(burn, wait_s) for wait_s in waits_s]
    program = batch.compile(tasks)
    program.run()
    long, short = [], []
    for task, wait_s in zip(tasks, waits_s, strict=True):
        stats = stats_of(task)
        assert stats.pid == task.result.get()
        assert stats.cpu_s is not None
        (long if wait_s else short).append(stats.cpu_s)
        if wait_s:
            assert stats.averaged_over == 1
            assert stats.elapsed_s >= 0.004 - SLACK_S / 10
    # Where others keep the CPU busy, some of a long one's may be counted for those in front of it,
    # but none is lost.
    assert statistics.median(long) >= 0.004 - SLACK_S / 10
    assert sum(long) + sum(short) >= 12 * 0.004
    assert max(short) < min(long)


def test_what_ran_in_one_worker_does_not_overlap(batch: Batch) -> None:
    tasks = [batch.function(burn, 0.0015 * (i % 2)) for i in range(100)]
    program = batch.compile(tasks)
    before_s = time.time()
    program.run()
    after_s = time.time()
    assert len(program.stats) == len(tasks)
    runs = sorted((s.pid, s.start_s, s.end_s) for s in map(stats_of, tasks))
    for (pid, start_s, end_s), (next_pid, next_start_s, _) in itertools.pairwise(runs):
        assert before_s - SLACK_S < start_s <= end_s < after_s + SLACK_S
        assert pid != next_pid or end_s <= next_start_s + 1e-5


def test_order_in_time_follows_the_accesses(batch: Batch) -> None:
    key: dict[int, int] = {}
    chain = [batch.function(burn, 0.0002, writes=batch.write(key, 0)) for _ in range(50)]
    batch.compile(chain).run()
    starts = [stats_of(task).start_s for task in chain]
    assert starts == sorted(starts)


def test_an_array(batch: Batch) -> None:
    array = batch.map(burn, [0.003, 0.0, 0.003, 0.0])
    assert len(array.stats) == 0
    with pytest.raises(IndexError):
        array.stats[0]
    pids = array.run()
    assert [s.pid for s in array.stats if s is not None] == pids
    own = [array.stats[0], array.stats[-2]]
    assert own == array.stats[::2]
    for stats in own:
        assert stats is not None
        assert stats.cpu_s is not None
        assert 0.003 - SLACK_S / 10 < stats.cpu_s < 1
    with pytest.raises(IndexError):
        array.stats[4]


def test_a_large_array_of_short_elements(batch: Batch) -> None:
    n = 10_000
    array = batch.map(same, range(n))
    before_s = time.time()
    array.run()
    after_s = time.time()
    assert len(array.stats) == n
    pids = set()
    elapsed_s = 0.0
    for stats in array.stats:
        assert stats is not None
        assert stats.cpu_s is not None
        assert before_s - SLACK_S < stats.start_s <= stats.end_s < after_s + SLACK_S
        pids.add(stats.pid)
        elapsed_s += stats.elapsed_s
    assert 1 <= len(pids) <= 2
    # Two workers are busy for no longer than it took.
    assert elapsed_s < 2 * (after_s - before_s + SLACK_S)


def test_arrays_in_a_compiled_task(batch: Batch) -> None:
    whole = batch.map(burn, [0.0] * 5)
    each = batch.map(burn, [0.0] * 3, writes=lambda wait_s: batch.write({}, wait_s))
    one = batch.function(burn, 0.0)
    program = batch.compile([whole, each, one])
    program.run()
    stats = program.stats
    assert set(stats) == {whole.uid, each.uid, one.uid}
    assert [s.pid for s in stats[whole.uid]] == whole.result.get()
    assert [s.pid for s in stats[each.uid]] == each.result.get() == [s.pid for s in each.stats]
    assert stats[one.uid] == one.stats
    with pytest.raises(KeyError):
        stats[-1]


def test_large_results_and_spilled_ones(
    make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALAMO_RESULT_MEMORY", "1000")
    with make_batch(num_workers=2) as batch:
        tasks = [batch.function(bytes, size) for size in (10, 100_000, 3_000_000)]
        tasks += [batch.function("a".__mul__, 100_000) for _ in range(3)]
        batch.compile(tasks).run()
        for task in tasks:
            stats = stats_of(task)
            assert 0 <= stats.elapsed_s < 10
            assert stats.cpu_s is not None
            task.result.get()
            assert stats == task.stats


@pytest.mark.needs("descriptors")
def test_cpu_time_of_children_counts(batch: Batch) -> None:
    tasks = [batch.function(same, 1), batch.function(spawn, 0.15), batch.function(same, 1)]
    batch.compile(tasks).run()
    cpu_s = [stats_of(task).cpu_s for task in tasks]
    assert None not in cpu_s
    assert cpu_s[1] >= 0.15 - 0.02  # type: ignore[operator]
    assert max(cpu_s[0], cpu_s[2]) < 0.1  # type: ignore[type-var,operator]


@pytest.mark.needs("kills")
def test_a_task_whose_worker_died(batch: Batch) -> None:
    task = batch.function(kill_self_after, 0.05)
    task.start()
    with pytest.raises(WorkerLost) as caught:
        task.result.get()
    stats = stats_of(task)
    assert stats.pid == caught.value.pid
    assert stats.cpu_s is None
    assert 0.05 - SLACK_S < stats.elapsed_s < 60


def kill_self_after(wait_s: float) -> None:
    time.sleep(wait_s)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.needs("kills", "parallel")
def test_outcomes_from_the_memory_of_a_worker(batch: Batch) -> None:
    """A short task in front of a long one in its chunk is fetched before the worker says so."""
    tasks = [batch.function(burn, 0.0002) for _ in range(7)]
    tasks.insert(6, batch.function(kill_self_after, 1.0))
    program = batch.compile(tasks)
    program.start()
    program.wait()
    for task in tasks:
        stats = stats_of(task)
        assert 0 <= stats.elapsed_s < (1 if task is not tasks[6] else 60)


@pytest.mark.needs("clients")
def test_a_client_in_a_task_has_stats_too(batch: Batch) -> None:
    stats = batch.function(run_inside, batch).run()
    assert stats.pid > 0
    assert stats.end_s <= time.time() + SLACK_S


def run_inside(batch: Batch) -> TaskStats:
    task = batch.function(burn, 0.0)
    task.run()
    return stats_of(task)
