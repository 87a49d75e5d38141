"""Metrics for Prometheus: what is served while tasks run, and that it ends with the Batch."""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import _faults as f
import pytest

import _work as work
from alamo import Batch, BatchBroken, UsageError, WorkerLost

pytest.importorskip("prometheus_client", reason="the extra alamo[metrics] is not installed")

from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def fetch(batch: Batch, accept: str = "") -> str:
    assert batch.metrics_url is not None
    request = urllib.request.Request(batch.metrics_url, headers={"Accept": accept})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return str(answer.read().decode())


def scrape(batch: Batch) -> dict[str, float]:
    """Samples by name, with the value of their only label."""
    found = {}
    for family in text_string_to_metric_families(fetch(batch)):
        for sample in family.samples:
            label = "".join(f"{{{value}}}" for value in sample.labels.values())
            found[sample.name + label] = sample.value
    return found


def connects(batch: Batch) -> bool:
    address = urlsplit(batch.metrics_url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def batch() -> Iterator[Batch]:
    with f.ended(Batch(num_workers=2, log_level="CRITICAL", enable_telem=True)) as batch:
        yield batch


def states(samples: dict[str, float]) -> dict[str, float]:
    names = ("pending", "running", "done", "failed", "skipped", "dropped")
    return {name: samples[f"alamo_tasks{{{name}}}"] for name in names}


def scrape_when(batch: Batch, **counts: int) -> dict[str, float]:
    """As soon as there are so many tasks in each state, and the workers know it."""
    due = dict.fromkeys(("pending", "running", "done", "failed", "skipped", "dropped"), 0) | counts
    samples: dict[str, float] = {}

    def look() -> bool:
        samples.update(scrape(batch))
        return states(samples) == due and samples["alamo_workers{busy}"] == due["running"]

    f.until(look, f"{due}")
    return samples


def test_the_numbers_while_tasks_run_and_after(batch: Batch, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    tasks = [batch.function(f.noted_then_wait, str(log), str(gate), i) for i in range(5)]
    program = batch.compile(tasks)
    program.start()
    f.until(lambda: len(f.notes(log)) == 2)
    during = scrape_when(batch, pending=3, running=2)
    assert during["num_running_tasks"] == 2
    assert during["num_completed_tasks"] == 0
    assert during["alamo_workers{busy}"] == during["alamo_slots"] == 2
    gate.touch()
    program.wait(timeout=60)
    failing = batch.function(work.fail, ValueError)
    batch.compile([failing, batch.function(work.same, failing.result)]).run(timeout=60)
    after = scrape_when(batch, done=5, failed=1, skipped=1)
    assert after["num_running_tasks"] == 0
    assert after["num_completed_tasks"] == after["alamo_tasks_completed_total"] == 6
    assert after["alamo_tasks_submitted_total"] == 7
    assert after["alamo_workers{idle}"] == after["alamo_workers_started_total"] == 2
    assert after["alamo_workers_died_total"] == 0
    assert after["alamo_task_seconds_count"] == after["alamo_task_seconds_bucket{+Inf}"] == 6
    assert 0 < after["alamo_task_seconds_sum"] < 60
    assert after["alamo_manager_cpu_seconds_total"] > 0


def test_tasks_in_front_of_a_long_one_have_run_times_too(tmp_path: Path) -> None:
    """The manager fetches their outcomes before the worker announces any."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    with f.ended(Batch(num_workers=1, enable_telem=True)) as batch:
        tasks = [batch.function(work.nothing) for _ in range(3000)]  # many of them to a chunk
        tasks[2000] = batch.function(f.noted_then_wait, str(log), str(gate), 0)
        program = batch.compile(tasks)
        program.start()
        during = scrape_when(batch, done=2000, running=1, pending=999)
        assert during["alamo_task_seconds_count"] == 2000
        gate.touch()
        program.wait(timeout=60)
        after = scrape_when(batch, done=3000)
        assert after["alamo_task_seconds_count"] == 3000
        assert 0 < after["alamo_task_seconds_sum"] < 60


def test_sleeps_are_counted_where_they_belong(batch: Batch) -> None:
    batch.compile([batch.function(time.sleep, 0.02) for _ in range(10)]).run(timeout=60)
    samples = scrape_when(batch, done=10)
    assert samples["alamo_task_seconds_bucket{0.01}"] == 0
    assert samples["alamo_task_seconds_bucket{10.0}"] == 10
    assert 0.2 <= samples["alamo_task_seconds_sum"] < 60
    assert samples["alamo_overhead_seconds_total"] > 0


def test_arrays_bytes_and_a_waiting_task(batch: Batch) -> None:
    batch.map(abs, range(1000)).run(timeout=60)
    before = scrape_when(batch, done=1000)["alamo_result_bytes_total"]
    assert batch.function(bytes, 1000).run(timeout=60) == bytes(1000)
    small = scrape_when(batch, done=1001)["alamo_result_bytes_total"]
    assert 1000 <= small - before < 2000
    array = batch.function(bytearray, 1 << 20).run(timeout=60)
    large = scrape_when(batch, done=1002)["alamo_result_bytes_total"]
    assert large - small >= len(array)
    assert scrape(batch)["alamo_shared_memory_bytes"] >= 0
    assert batch.function(work.nest, batch, 2).run(timeout=60)
    assert scrape_when(batch, done=1005)["num_completed_tasks"] == 1005


def test_deaths_and_scaling_show(batch: Batch) -> None:
    with pytest.raises(WorkerLost):
        batch.function(f.die, "SIGKILL").run(timeout=60)
    f.until(lambda: scrape(batch)["alamo_workers{idle}"] == 2)
    samples = scrape_when(batch, failed=1)
    assert samples["alamo_workers_died_total"] == 1
    batch.scale(1)
    f.until(lambda: scrape(batch)["alamo_workers_retired_total"] == 1)
    assert scrape(batch)["alamo_slots"] == 1


def test_what_nobody_wants_any_more_is_dropped(batch: Batch) -> None:
    other = pickle.loads(pickle.dumps(batch))
    assert other.metrics_url == batch.metrics_url
    program = other.compile([other.function(work.nothing) for _ in range(3)])
    f.until(lambda: scrape(batch)["alamo_tasks{pending}"] == 3)
    other.close()
    f.until(lambda: states(scrape(batch))["dropped"] == 3)
    del program


def test_promtool_finds_nothing_to_say(batch: Batch) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=fetch(batch),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What it may say: the two names that the API documents give have no counterpart in its rules.
    assert done.returncode in (0, 3), done.stderr


def test_other_formats_and_pages(batch: Batch) -> None:
    assert fetch(batch, "application/openmetrics-text; version=1.0.0").endswith("# EOF\n")
    assert batch.metrics_url is not None
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{batch.metrics_url}/x")
    assert caught.value.code == 404
    caught.value.close()


def test_only_on_loopback(batch: Batch) -> None:
    import psutil

    mine = psutil.Process(f.manager_of(batch)).net_connections("inet")
    assert {c.laddr.ip for c in mine} == {"127.0.0.1"}
    assert batch.metrics_url is not None
    assert {c.laddr.port for c in mine} == {urlsplit(batch.metrics_url).port}


def test_two_batches_have_their_own() -> None:
    with (
        Batch(num_workers=1, enable_telem=True) as one,
        Batch(num_workers=1, enable_telem=True) as other,
        Batch(num_workers=1) as none,
    ):
        assert one.metrics_url != other.metrics_url
        assert none.metrics_url is None
        one.function(work.nothing).run()
        assert scrape_when(one, done=1)["num_completed_tasks"] == 1
        assert scrape(other)["num_completed_tasks"] == 0


def by_join(batch: Batch) -> None:
    batch.close()
    batch.join(timeout=60)


def by_terminate(batch: Batch) -> None:
    task = batch.function(time.sleep, 600)
    task.start()
    batch.terminate()


def by_kill(batch: Batch) -> None:
    task = batch.function(time.sleep, 600)
    task.start()
    f.kill(f.manager_of(batch))
    with pytest.raises(BatchBroken):
        task.result.get(timeout=f.WAIT_S)


@pytest.mark.parametrize("end", [by_join, by_terminate, by_kill])
def test_the_port_goes_with_the_batch(end: Callable[[Batch], None]) -> None:
    batch = Batch(num_workers=1, log_level="CRITICAL", enable_telem=True)
    try:
        assert connects(batch)
        end(batch)
        f.until(lambda: not connects(batch), timeout_s=f.WAIT_S)
    finally:
        batch.terminate()


def test_workers_and_what_tasks_start_do_not_hold_the_port() -> None:
    batch = Batch(num_workers=1, log_level="CRITICAL", enable_telem=True)
    try:
        f.kill(f.nursery_of(batch))  # the next one is started by a manager that listens
        batch.function(f.die, "SIGKILL").start()
        pids = [f.manager_of(batch), batch.function(f.pid_of_worker).run(timeout=60)]
        batch.function(time.sleep, 600).start()
        f.kill(pids[0])
        f.until(lambda: not connects(batch), timeout_s=f.WAIT_S)
        f.wait_gone(pids)
    finally:
        batch.terminate()


def test_clients_of_the_port_that_mean_no_good(batch: Batch) -> None:
    """They hold up neither tasks nor, for long, other scrapes."""
    address = urlsplit(batch.metrics_url)
    sockets = []
    try:
        for data in (b"", b"GET", b"\0" * 100_000, b"GET /metrics HTTP/1.1\r\n", b"\r\n\r\n"):
            sock = socket.create_connection((address.hostname, address.port), timeout=60)
            sockets.append(sock)
            try:
                sock.sendall(data)
            except OSError:
                pass
        with work.quick():
            assert batch.map(abs, range(100)).run(timeout=60)[99] == 99
    finally:
        for sock in sockets:
            sock.close()
    scrape_when(batch, done=100)


def test_scrapes_while_many_short_tasks_run(batch: Batch) -> None:
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            samples = scrape(batch)
            parts = states(samples)
            assert sum(parts.values()) == samples["alamo_tasks_submitted_total"]
            assert min(parts.values()) >= 0
            seen.append(samples["num_completed_tasks"])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        batch.compile([batch.function(abs, i) for i in range(30_000)]).run(timeout=60)
    finally:
        over.set()
        thread.join()
    assert seen == sorted(seen)
    assert scrape_when(batch, done=30_000)["num_completed_tasks"] == 30_000


def test_a_client_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"pip install alamo\[metrics\]"):
        Batch(num_workers=1, enable_telem=True)


def test_counting_that_fails_ends_the_metrics_and_nothing_else() -> None:
    spoil = "import alamo.telemetry.tally as t; t.Tally.after = None"
    with f.ended(f.changed_batch(spoil, enable_telem=True)) as batch:
        assert batch.function(work.add, 1, 2).run(timeout=60) == 3
        f.until(lambda: not connects(batch))
        assert batch.function(work.add, 1, 3).run(timeout=60) == 4
