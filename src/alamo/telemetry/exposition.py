"""The numbers of a Batch as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from alamo.telemetry.tally import BOUNDS_S, Counts


class Snapshot(msgspec.Struct, frozen=True):
    """All numbers of one moment.

    Attributes:
        counts: a copy that nobody changes.
        running: tasks that are at workers, one a worker, those that stand still in a
            wait included.
        slots, busy, blocked, idle, starting: of the pool of workers; busy, blocked and idle
            ones are up.
        result_bytes: outcomes passed on to clients, shared memory that they refer to included.
        shared_bytes: shared memory of large arguments and results, in use or kept for reuse.
        manager_cpu_seconds: processor time of the manager.
    """

    counts: Counts
    running: int
    slots: int
    busy: int
    blocked: int
    idle: int
    starting: int
    result_bytes: int
    shared_bytes: int
    manager_cpu_seconds: float


class _Families:
    """What an encoder of prometheus_client takes for a registry."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        """The metric families."""
        yield from _tasks(self._snapshot)
        yield from _workers(self._snapshot)
        yield from _bytes(self._snapshot)


def render(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The text of a scrape and its content type.

    Args:
        accept: the formats that the scraper takes, as in the HTTP header.

    Cost: 1 ms.
    """
    encode, content_type = choose_encoder(accept)
    families: Any = _Families(snapshot)
    return encode(families), content_type


def _tasks(snapshot: Snapshot) -> Iterator[Any]:
    counts = snapshot.counts
    tasks = GaugeMetricFamily(
        "alamo_tasks", "Tasks by state; elements of arrays are tasks.", labels=["state"]
    )
    tasks.add_metric(["pending"], counts.unfinished - snapshot.running)
    tasks.add_metric(["running"], snapshot.running)
    for state in ("done", "failed", "skipped", "cancelled", "dropped"):
        tasks.add_metric([state], getattr(counts, state))
    yield tasks
    completed = counts.done + counts.failed
    yield GaugeMetricFamily("num_running_tasks", "Tasks that run now.", snapshot.running)
    yield GaugeMetricFamily("num_completed_tasks", "Tasks that ran to an end.", completed)
    yield CounterMetricFamily(
        "alamo_tasks_submitted", "Tasks sent to the manager.", counts.submitted
    )
    yield CounterMetricFamily("alamo_tasks_completed", "Tasks that ran to an end.", completed)
    yield CounterMetricFamily(
        "alamo_attempts_retried",
        "Attempts that failed and were followed by another.",
        counts.retried,
    )
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    yield HistogramMetricFamily(
        "alamo_task_seconds",
        "Run times of tasks, each taken as the mean of those that were reported together.",
        buckets=list(zip(bounds, accumulate(counts.buckets))),
        sum_value=counts.task_seconds,
    )
    yield CounterMetricFamily(
        "alamo_overhead_seconds",
        "Time in which workers held tasks and ran none of them.",
        counts.overhead_seconds,
    )
    yield CounterMetricFamily(
        "alamo_manager_cpu_seconds",
        "Processor time of the manager.",
        snapshot.manager_cpu_seconds,
    )


def _workers(snapshot: Snapshot) -> Iterator[Any]:
    workers = GaugeMetricFamily(
        "alamo_workers",
        "Workers by state; a blocked one stands still while its task waits for tasks that it "
        "submitted or for shared data.",
        labels=["state"],
    )
    for state in ("starting", "idle", "busy", "blocked"):
        workers.add_metric([state], getattr(snapshot, state))
    yield workers
    yield GaugeMetricFamily("alamo_slots", "Tasks that may run at once.", snapshot.slots)
    for name, help_text in (
        ("started", "Workers that came up."),
        ("died", "Workers that died after they had come up."),
        ("retired", "Workers that were asked to end."),
        ("stillborn", "Workers that never came up."),
    ):
        value = getattr(snapshot.counts, f"workers_{name}")
        yield CounterMetricFamily(f"alamo_workers_{name}", help_text, value)


def _bytes(snapshot: Snapshot) -> Iterator[Any]:
    yield CounterMetricFamily(
        "alamo_result_bytes",
        "Outcomes of tasks passed on to clients.",
        snapshot.result_bytes,
    )
    yield GaugeMetricFamily(
        "alamo_shared_memory_bytes",
        "Shared memory of large arguments and results.",
        snapshot.shared_bytes,
    )
