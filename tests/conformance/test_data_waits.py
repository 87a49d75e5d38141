"""Tasks that wait for shared data: none holds up what brings the data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from _engines import MakeBatch

import _work as work
from alamo import Batch, Policy


@pytest.fixture
def box(tmp_path: Path) -> Callable[[int], str]:
    """Places of shared data."""
    return lambda k: str(tmp_path / str(k))


@pytest.mark.needs("background")
@pytest.mark.parametrize(("workers", "count"), [(1, 1), (1, 20), (2, 20)])
def test_consumers_that_come_before_their_producers(
    make_batch: MakeBatch, box: Callable[[int], str], workers: int, count: int
) -> None:
    with make_batch(num_workers=workers) as batch:
        consumers = [batch.function(work.await_mail, box(k)) for k in range(count)]
        producers = [batch.function(work.send_mail, box(k), str(k)) for k in range(count)]
        batch.compile([*consumers, *producers]).run(timeout=work.PATIENCE_S)
        assert [task.result.get() for task in consumers] == [str(k) for k in range(count)]


@pytest.mark.needs("background")
def test_consumers_that_are_elements_of_an_array(
    make_batch: MakeBatch, box: Callable[[int], str]
) -> None:
    count = 10
    with make_batch(num_workers=1) as batch:
        paths = [box(k) for k in range(count)]
        consumers = batch.map(work.await_mail, paths)
        producers = batch.map(work.send_mail, paths, paths)
        batch.compile([consumers, producers]).run(timeout=work.PATIENCE_S)
        assert list(consumers.result.get()) == paths


@pytest.mark.needs("background")
def test_a_consumer_lends_all_its_cores(make_batch: MakeBatch, box: Callable[[int], str]) -> None:
    both = Policy(cores=2)
    with make_batch(num_workers=2) as batch:
        consumer = batch.function(work.await_mail, box(0), policy=both)
        producer = batch.function(work.send_mail, box(0), "data", policy=both)
        batch.compile([consumer, producer]).run(timeout=work.PATIENCE_S)
        assert consumer.result.get() == "data"


@pytest.mark.needs("background")
def test_what_a_client_brings_holds_up_no_other_task(
    make_batch: MakeBatch, box: Callable[[int], str]
) -> None:
    with make_batch(num_workers=1) as batch:
        consumer = batch.function(work.await_mail, box(0))
        consumer.start()
        others = [batch.function(work.add, k, 1) for k in range(50)]
        batch.compile(others).run(timeout=work.PATIENCE_S)
        assert [task.result.get() for task in others] == list(range(1, 51))
        assert consumer.state == "running"
        work.send_mail(box(0), "data")
        assert consumer.result.get(timeout=work.PATIENCE_S) == "data"


@pytest.mark.needs("background", "nesting")
def test_a_task_may_wait_for_data_and_for_its_own_tasks_at_once(
    make_batch: MakeBatch, box: Callable[[int], str]
) -> None:
    """Whichever wait ends first, the slot stays lent until the other has ended."""

    def parent(one: Batch, first: str, second: str) -> str:
        reader = threading.Thread(target=work.await_mail, args=(first,))
        reader.start()
        child = one.function(work.await_mail, second)
        child.start()
        one.function(work.send_mail, first, "").run(timeout=work.PATIENCE_S)
        reader.join()
        one.function(work.send_mail, second, "data").start()
        return str(child.result.get(timeout=work.PATIENCE_S))

    with make_batch(num_workers=1) as batch:
        task = batch.function(parent, batch, box(0), box(1))
        assert task.run(timeout=work.PATIENCE_S) == "data"


def test_a_wait_with_a_timeout_ends_with_it(batch: Batch, box: Callable[[int], str]) -> None:
    with pytest.raises(TimeoutError):
        batch.function(work.await_mail, box(0), 0.05).run(timeout=work.PATIENCE_S)
