"""A client that does not take its results: the manager keeps some of them, not all there are."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import _faults as f
import pytest

#: In the manager: little is queued before it stops.
LIMITS = (
    "import alamo.manager.forwarding as q; q.QUEUE_MAX_BYTES = 2_000_000\n"
    "import alamo.manager.log_relay as r; r.LOGS_MAX_BYTES = 20_000"
)
COUNT = 400
CLIENT = """
import pickle, sys
import _faults as f
from test_faults_slow_client import COUNT, noted_and_large
batch = pickle.loads(bytes.fromhex(sys.argv[1]))
tasks = [batch.function(noted_and_large, sys.argv[2], i) for i in range(COUNT)]
program = batch.compile(tasks)
print("ready")
sys.stdin.readline()
program.start()
print("started")
print(sum(len(task.result.get(timeout=60)) for task in tasks))
"""


def noted_and_large(log: str, n: int) -> bytes:
    """Not before its client has been stopped: who knows how much it would have taken."""
    f.until(lambda: os.path.exists(f"{log}.go"))
    f.note(log, n)
    return bytes([n % 256]) * 60_000


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_stopped_client_gets_no_more_of_its_programs_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with f.ended(f.changed_batch(LIMITS)) as batch:
        with f.Script(CLIENT, pickle.dumps(batch).hex(), log) as client:
            assert client.line() == "ready"
            client.tell("go")
            assert client.line() == "started"
            os.kill(client.pid, signal.SIGSTOP)
            f.until(lambda: f.stopped(client.pid))
            Path(f"{log}.go").touch()
            ran = -1
            while ran != len(f.notes(log)):  # others get everything done, several times
                ran = len(f.notes(log))
                for _ in range(20):
                    tasks = [batch.function(f.double, i) for i in range(50)]
                    batch.compile(tasks).run(timeout=60)
            assert ran < COUNT / 2
            os.kill(client.pid, signal.SIGCONT)
            assert client.line() == str(60_000 * COUNT)
            assert client.wait() == 0
        assert len(f.notes(log)) == COUNT
        assert not f.repeated(log)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_programs_of_a_client_that_dies_stopped_are_finished(tmp_path: Path) -> None:
    """Nobody reads their results; what they write may be wanted."""
    log = tmp_path / "log"
    with f.ended(f.changed_batch(LIMITS)) as batch:
        with f.Script(CLIENT, pickle.dumps(batch).hex(), log) as client:
            assert client.line() == "ready"
            client.tell("go")
            assert client.line() == "started"
            os.kill(client.pid, signal.SIGSTOP)
            f.until(lambda: f.stopped(client.pid))
            Path(f"{log}.go").touch()
            f.until(lambda: len(f.notes(log)) > 30)
            for _ in range(20):
                tasks = [batch.function(f.double, i) for i in range(50)]
                batch.compile(tasks).run(timeout=60)
            assert len(f.notes(log)) < COUNT
        f.until(lambda: len(f.notes(log)) == COUNT)


STOPPED_PRIMARY = """
import logging, os, signal, subprocess, sys
import _faults as f
from test_faults_slow_client import LIMITS, talk
class Count(logging.Handler):
    def emit(self, record): counts.append(record.getMessage())
counts = []
logging.getLogger("alamo").addHandler(Count())
logging.getLogger("alamo").propagate = False
batch = f.changed_batch(LIMITS, log_level="WARNING")
task = batch.function(talk, sys.argv[1])
print(f.manager_of(batch))
task.start()
print("started")
sys.stdin.readline()
task.result.get(timeout=60)
f.until(lambda: any("dropped" in text for text in counts))
print(len(counts))
batch.terminate()
"""
RECORDS = 3000


def talk(log: str) -> None:
    import logging

    f.note(log, "begun")
    f.until(lambda: len(f.notes(log)) > 1)  # its client has been stopped
    for _ in range(RECORDS):
        logging.getLogger("alamo.mine").error("x" * 1000)
    f.note(log, "said")


def test_log_records_for_a_stopped_client_are_dropped_and_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with f.Script(STOPPED_PRIMARY, log) as client:
        client.line()
        assert client.line() == "started"
        f.wait_note(log)
        os.kill(client.pid, signal.SIGSTOP)
        f.until(lambda: f.stopped(client.pid))
        f.note(str(log), "stopped")
        f.until(lambda: len(f.notes(log)) == 3)
        os.kill(client.pid, signal.SIGCONT)
        client.tell("go")
        assert int(client.line()) < RECORDS
        client.wait()
