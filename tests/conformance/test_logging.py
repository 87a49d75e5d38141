"""What the service logs reaches the logger `alamo` of the client."""

from __future__ import annotations

import logging
import signal

import pytest
from _engines import MakeBatch

import _work as work
import alamo


@pytest.mark.needs("processes")
def test_workers_log_here(make_batch: MakeBatch, caplog: pytest.LogCaptureFixture) -> None:
    """With the logger ``alamo`` and those below it; others are the worker's own."""
    caplog.set_level(logging.DEBUG, logger="alamo")

    def speak() -> None:
        logging.getLogger("alamo.worker").info("from a worker %d", 5)
        logging.getLogger("elsewhere").error("stays there")

    with make_batch(num_workers=1, log_level=logging.DEBUG) as one:
        task = one.function(speak)
        task.run()
    records = {(r.name, r.levelname, r.getMessage()) for r in caplog.records}
    assert ("alamo.worker", "INFO", "from a worker 5") in records
    assert not any(name == "elsewhere" for name, _, _ in records)
    assert "stays there" in task.stderr.get()


@pytest.mark.needs("kills")
def test_the_death_of_a_worker_is_logged_here(
    make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    with make_batch(num_workers=1) as one, pytest.raises(alamo.WorkerLost):
        one.function(signal.raise_signal, signal.SIGKILL).run(timeout=work.PATIENCE_S)
    assert any(r.name.startswith("alamo.") and "died" in r.getMessage() for r in caplog.records)


@pytest.mark.needs("processes")
def test_the_log_level_holds_in_tasks(
    make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def speak() -> None:
        logging.getLogger("alamo.worker").warning("too quiet")
        logging.getLogger("alamo.worker").error("loud")

    with make_batch(num_workers=1, log_level="error") as one:
        one.function(speak).run()
    texts = [r.getMessage() for r in caplog.records]
    assert "loud" in texts
    assert "too quiet" not in texts
