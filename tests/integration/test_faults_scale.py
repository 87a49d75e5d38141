"""Workers come and go while tasks run, and some are killed: every task runs once, none is lost."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import _faults as f
import pytest
from _victims import noted_by, victim, where_noted

from alamo import Batch, BatchBroken, WorkerLost
from alamo.protocol import messages

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_workers_that_leave_are_gone_and_those_that_come_are_there() -> None:
    with f.ended(Batch(num_workers=4)) as batch:
        f.until(lambda: len(f.workers_of(batch)) == 4)
        before = set(f.workers_of(batch))
        batch.scale(1)
        f.until(lambda: len(f.workers_of(batch)) == 1)
        (stayed,) = f.workers_of(batch)
        assert stayed in before
        assert batch.function(f.pid_of_worker).run(timeout=60) == stayed
        batch.scale(3)
        f.until(lambda: len(f.workers_of(batch)) == 3)
        assert stayed in f.workers_of(batch)
        f.wait_gone(before - {stayed})


def test_one_that_runs_a_task_leaves_when_it_has_ended(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    with f.ended(Batch(num_workers=3)) as batch:
        tasks = [batch.function(f.noted_then_wait, str(log), str(gate), i) for i in range(3)]
        batch.compile(tasks).start()
        f.until(lambda: len(f.notes(log)) == 3)
        batch.scale(1)
        one = batch.function(f.double, 4)  # behind them: one slot, and three hold it
        one.start()
        assert len(f.workers_of(batch)) == 3
        gate.touch()
        assert [task.result.get(timeout=60) for task in tasks] == [0, 1, 2]
        assert one.result.get(timeout=60) == 8
        f.until(lambda: len(f.workers_of(batch)) == 1)


@pytest.mark.parametrize("seed", range(3))
def test_each_runs_once_while_workers_come_go_and_are_killed(tmp_path: Path, seed: int) -> None:
    """A killed worker fails the task that it ran; all others have run exactly once."""
    draw, log = random.Random(seed), str(tmp_path / "log")
    kills = 0
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        tasks = [batch.function(noted_by, log, i, 0.002) for i in range(1500)]
        program = batch.compile(tasks)
        program.start()
        while len(f.notes(log)) < 1300:
            batch.scale(draw.choice((1, 2, 3, 6)))
            seen = len(f.notes(log))
            f.until(lambda seen=seen: len(f.notes(log)) > seen + 40)
            if draw.random() < 0.5:
                kills += f.kill(*victim(batch, program, lambda: where_noted(log), draw))
        program.wait(timeout=60)
        lost = 0
        for i, task in enumerate(tasks):
            try:
                assert task.result.get(timeout=60) == i
            except WorkerLost:
                lost += 1
        assert lost <= kills
        assert not f.repeated(log)
        assert len(f.notes(log)) >= len(tasks) - lost
        f.until(lambda: len(f.workers_of(batch)) == batch.num_workers)


def test_a_client_that_may_not_scale_is_shown_out() -> None:
    """One that sends the message all the same; the Batch goes on as it was."""
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        other = pickle.loads(pickle.dumps(batch))
        other._client.send([messages.ScaleAsked(7)])
        with pytest.raises(BatchBroken):
            f.until(other._client.check_broken)
        assert batch.function(f.double, 4).run(timeout=60) == 8
        assert batch.num_workers == 2
        assert len(f.workers_of(batch)) == 2


def test_chains_are_cut_and_go_on_elsewhere(tmp_path: Path) -> None:
    """Fused chunks are taken back from those that leave; the order within each chain holds."""
    log = str(tmp_path / "log")
    with f.ended(Batch(num_workers=4)) as batch:
        tasks = [
            batch.function(f.noted, log, f"{c}:{i}", 0.001, writes=batch.write(f"/chain{c}"))
            for i in range(150)
            for c in range(4)
        ]
        program = batch.compile(tasks)
        program.start()
        for k, slots in enumerate((2, 4, 1, 3)):
            f.until(lambda k=k: len(f.notes(log)) > 100 * (k + 1))
            batch.scale(slots)
        program.wait(timeout=60)
        for c in range(4):
            order = [line for line in f.notes(log) if line.startswith(f"{c}:")]
            assert order == [f"{c}:{i}" for i in range(150)]


def test_the_nursery_dies_while_workers_are_started(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        tasks = [batch.function(f.noted, log, i, 0.001) for i in range(300)]
        program = batch.compile(tasks)
        program.start()
        batch.scale(4)
        f.kill(f.nursery_of(batch))
        program.wait(timeout=60)
        assert not f.repeated(log)
        assert len(f.notes(log)) == 300
        f.until(lambda: len(f.workers_of(batch)) == 4)
