"""Minutes of random programs while anything may be killed at any moment.

``make soak`` runs it; ``ALAMO_SOAK_S`` is how long each of the tests takes, ``ALAMO_SOAK_SEED``
where it begins. A failure names the seed of its round.
"""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _faults as f
import pytest

from alamo import Batch, BatchBroken, UpstreamFailed, WorkerLost

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(7200),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

DURATION_S = float(os.environ.get("ALAMO_SOAK_S", "300"))
FIRST_SEED = int(os.environ.get("ALAMO_SOAK_SEED", "0"))
#: Everything of a round must have ended by then, and nothing is killed any more after this.
ROUND_S = 60.0
KILLING_S = 5.0


# -- programs whose results can be foretold ----------------------------------------------------


def mix(n: int, values: list[int]) -> int:
    return int.from_bytes(
        hashlib.blake2b(repr((n, values)).encode(), digest_size=6).digest(), "big"
    )


def first_of(result: int | tuple[int, bytes]) -> int:
    return result if isinstance(result, int) else result[0]


def node(
    directory: str,
    n: int,
    reads: tuple[str, ...],
    writes: tuple[str, ...],
    how: str,
    results: list[Any],
) -> int | tuple[int, bytes]:
    """Takes results, reads files, writes files, and returns what follows from it all."""
    f.note(f"{directory}/log", n)
    values = [first_of(result) for result in results]
    for name in reads:
        try:
            values.append(int(Path(directory, name).read_text()))
        except FileNotFoundError:
            values.append(0)
    if how == "long":
        time.sleep(0.02)
    elif how == "spin":
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
    elif how == "print":
        print("task", n)
    value = mix(n, values)
    for name in writes:
        Path(directory, name).write_text(str(value))
    if how == "die":
        f.die(("SIGKILL", "exit:3", "segfault")[n % 3])
    return (value, bytes([n % 256]) * 100_000) if how == "large" else value


class Plan:
    """A random program, and what each task must return if it runs."""

    def __init__(self, draw: random.Random, directory: str) -> None:
        self.directory = directory
        count = draw.choice((1, 30, 300, 300, 2000))
        files = draw.choice((1, 3, 20, 200))
        hows = draw.choice(
            (
                ["", ""],
                ["", "", "print", "spin"],
                ["", "long"],
                ["", "", "", "large"],
                ["spin", "print"],
            )
        )
        deadly = draw.choice((0.0, 0.0, 0.01))
        chain = draw.random() < 0.3
        handles = draw.choice(((0,), (0,), (0, 1), (0, 1, 3)))
        self.reads: list[tuple[str, ...]] = []
        self.writes: list[tuple[str, ...]] = []
        self.hows: list[str] = []
        self.results: list[list[int]] = []
        self.sources: list[set[int]] = []
        writer: dict[str, int] = {}
        for n in range(count):
            reads = {f"f{draw.randrange(files)}" for _ in range(draw.choice((0, 1, 2)))}
            writes = {f"f{draw.randrange(files)}" for _ in range(draw.choice((0, 1, 1)))}
            if chain:
                reads = writes = {"f0"}
            self.reads.append(tuple(sorted(reads)))
            self.writes.append(tuple(sorted(writes)))
            self.hows.append("die" if draw.random() < deadly else draw.choice(hows))
            self.results.append([draw.randrange(n) for _ in range(draw.choice(handles)) if n])
            self.sources.append({writer[name] for name in reads if name in writer})
            self.sources[-1].update(self.results[-1])
            writer.update(dict.fromkeys(writes, n))

    def __len__(self) -> int:
        return len(self.hows)

    def tasks(self, batch: Batch) -> list[Any]:
        tasks: list[Any] = []
        for n in range(len(self)):
            reads, writes = self.reads[n], self.writes[n]
            task = batch.function(
                node,
                self.directory,
                n,
                reads,
                writes,
                self.hows[n],
                [tasks[k].result for k in self.results[n]],
                reads=[batch.read(self.directory, *reads)] if reads else [],
                writes=[batch.write(self.directory, *writes)] if writes else [],
            )
            tasks.append(task)
        return tasks

    def check(self, tasks: list[Any]) -> int:
        """Compare with a serial run without the tasks that were lost; returns how many were."""
        content: dict[str, int] = {}
        first: dict[int, int] = {}
        failed: dict[int, int] = {}
        lost = 0
        #: Tasks that failed for the wrong reason.
        wrong: set[int] = set()
        for n, task in enumerate(tasks):
            roots = {failed[k] for k in self.sources[n] if k in failed}
            values = [first[k] for k in self.results[n] if k in first]
            values += [content.get(name, 0) for name in self.reads[n]]
            try:
                value = task.result.get(timeout=1)
            except WorkerLost as error:
                lost += 1
                failed[n] = error.uid
                wrong |= {n} if error.uid != task.uid or roots else set()
                continue
            except UpstreamFailed as error:
                failed[n] = error.root_uid
                wrong |= {n} - ({n} if error.root_uid in roots else set())
                continue
            assert not roots, f"task {n} ran behind a failure"
            assert self.hows[n] != "die", f"task {n} survived"
            first[n] = wanted = mix(n, values)
            content.update(dict.fromkeys(self.writes[n], wanted))
            if self.hows[n] == "large":
                assert value == (wanted, bytes([n % 256]) * 100_000), n
            else:
                assert value == wanted, f"task {n} saw files as no serial run would leave them"
            assert task.stdout.get() == (f"task {n}\n" if self.hows[n] == "print" else "")
        assert not wrong
        assert not f.repeated(f"{self.directory}/log"), "tasks ran twice"
        ran = set(map(int, f.notes(f"{self.directory}/log")))
        done = {n for n in range(len(tasks)) if n not in failed}
        assert done <= ran
        assert all(n in done or failed[n] == tasks[n].uid for n in ran), "a skipped task ran"
        return lost


# -- kills -------------------------------------------------------------------------------------


class Killer(threading.Thread):
    """Kills workers and nurseries at random moments, and stops some for a while."""

    def __init__(self, batch: Batch, draw: random.Random, mean_s: float) -> None:
        super().__init__(daemon=True)
        self._manager = f.manager_of(batch)
        self._draw = draw
        self._mean_s = mean_s
        self._done = threading.Event()
        self.workers = 0
        self.nurseries = 0

    def run(self) -> None:
        draw = self._draw
        end = time.monotonic() + KILLING_S
        while not self._done.wait(draw.expovariate(1 / self._mean_s)):
            if time.monotonic() > end:
                return
            pids = [p for p in f.descendants(self._manager) if f.comm(p).startswith("alamo-")]
            victims = draw.sample(pids, min(len(pids), draw.choice((1, 1, 1, 2, 3))))
            names = [f.comm(p) for p in victims]
            if draw.random() < 0.2:
                f.kill(*victims, number=signal.SIGSTOP)
                self._done.wait(draw.random() * 0.05)
                f.kill(*victims, number=signal.SIGCONT)
                continue
            f.kill(*victims, number=draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV)))
            self.workers += sum(name.startswith("alamo-worker") for name in names)
            self.nurseries += names.count("alamo-nursery")

    def stop(self) -> None:
        self._done.set()
        self.join()


def seeds() -> Iterator[int]:
    end = time.monotonic() + DURATION_S
    seed = FIRST_SEED
    while time.monotonic() < end:
        yield seed
        seed += 1


def test_kills_that_can_be_survived(tmp_path: Path) -> None:
    """Every task ends as in a serial run, or an error of its own; a kill costs one at most."""
    rounds = tasks_run = losses = kills = 0
    for seed in seeds():
        draw = random.Random(seed)
        batch = Batch(num_workers=draw.choice((1, 2, 3, 6)), log_level="CRITICAL")
        killer = Killer(batch, draw, draw.choice((0.01, 0.05, 0.05, 0.2)))
        plans = []
        for k in range(draw.choice((1, 2, 4))):
            directory = tmp_path / f"{seed}.{k}"
            directory.mkdir()
            plans.append(Plan(draw, str(directory)))
        killer.start()
        lost, tasks, programs = 0, [], []
        try:
            tasks = [plan.tasks(batch) for plan in plans]
            programs = [batch.compile(some) for some in tasks]
            for program in programs:
                program.start()
            deadline = time.monotonic() + ROUND_S
            for program in programs:
                program.wait(timeout=max(1.0, deadline - time.monotonic()))
            killer.stop()
            lost = sum(plan.check(some) for plan, some in zip(plans, tasks, strict=True))
            fatal = sum(plan.hows.count("die") for plan in plans)
            assert lost <= killer.workers + fatal
            batch.close()
            batch.join(timeout=f.PATIENCE_S)
        except BatchBroken as error:
            # Every new worker was killed before it was ready, several times in a row.
            if "in a row" not in str(error):
                raise AssertionError(f"seed {seed}") from error
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        finally:
            killer.stop()
            batch.terminate()
        rounds += 1
        tasks_run += sum(map(len, plans))
        losses += lost
        kills += killer.workers + killer.nurseries
        del batch, tasks, programs
        gc.collect()
    print(f"{rounds} rounds, {tasks_run} tasks, {kills} kills, {losses} tasks lost")


def nest(batch: Batch, directory: str, name: str, depth: int) -> int:
    """Counts itself and what its children count, those lost with their worker excepted."""
    f.note(f"{directory}/log", name)
    if not depth:
        time.sleep(0.002)
        return 1
    draw = random.Random(name)
    children = [
        batch.function(nest, batch, directory, f"{name}.{k}", depth - 1)
        for k in range(draw.choice((1, 2, 5)))
    ]
    if draw.random() < 0.5:
        batch.compile(children).run()
    else:
        for child in children:
            child.start()
    total = 1
    for child in children:
        try:
            total += child.result.get()
        except WorkerLost:
            pass
    return total


def test_nested_tasks_and_kills(tmp_path: Path) -> None:
    """Parents that wait, in more processes than there are slots, while any of them die."""
    for seed in seeds():
        draw = random.Random(seed)
        directory = tmp_path / str(seed)
        directory.mkdir()
        batch = Batch(num_workers=draw.choice((1, 2, 4)), log_level="CRITICAL")
        killer = Killer(batch, draw, draw.choice((0.05, 0.1, 0.5, 5.0)))
        depth = draw.choice((1, 2, 3))
        tasks = [batch.function(nest, batch, str(directory), str(n), depth) for n in range(4)]
        killer.start()
        total = 0
        try:
            program = batch.compile(tasks)
            program.start()
            program.wait(timeout=ROUND_S)
            for task in tasks:
                try:
                    total += task.result.get()
                except WorkerLost:
                    pass
            batch.close()
            batch.join(timeout=ROUND_S)  # orphans' programs run to their end
            lines = f.notes(directory / "log")
            assert len(set(lines)) == len(lines), "tasks ran twice"
            assert total <= len(lines)
            assert killer.workers or total == len(lines)
        except BaseException as error:
            if not isinstance(error, BatchBroken) or "in a row" not in str(error):
                raise AssertionError(f"seed {seed}") from error
        finally:
            killer.stop()
            batch.terminate()


CLIENT = """
import os, pickle, random, sys, threading, time
import _faults as f
from pathlib import Path
import test_soak as soak
from alamo import Batch, BatchBroken
if __name__ == "__main__":
    seed, directory = int(sys.argv[1]), sys.argv[2]
    draw = random.Random(seed)
    batch = Batch(num_workers=draw.choice((1, 2, 4)), log_level="CRITICAL")
    plan = soak.Plan(draw, directory)
    tasks = plan.tasks(batch)
    print(f.manager_of(batch))
    print(pickle.dumps(batch).hex())
    try:
        while True:
            program = batch.compile(tasks)
            program.start()
            waits = [threading.Thread(target=soak.quietly, args=(t.result.get,)) for t in tasks[:5]]
            for wait in waits:
                wait.start()
            program.wait()
            for wait in waits:
                wait.join()
            tasks = plan.tasks(batch)
    except BatchBroken as error:
        print("broken")
"""

OTHER = """
import pickle, sys
import _faults as f
from alamo import AlamoError
if __name__ == "__main__":
    try:
        batch = pickle.loads(bytes.fromhex(sys.argv[1]))
        print("in")
        while True:
            batch.compile([batch.function(f.double, i) for i in range(100)]).run()
            batch.function(f.double, 4).run()
    except AlamoError:
        print("broken")
"""


def quietly(wait: Any) -> None:
    try:
        wait()
    except (BatchBroken, WorkerLost, UpstreamFailed):
        pass


def test_kills_that_end_it(tmp_path: Path) -> None:
    """Manager or client die, alone or with others: who is left is told in time, nothing runs on."""
    for seed in seeds():
        draw = random.Random(seed)
        directory = tmp_path / str(seed)
        directory.mkdir()
        try:
            end_one(draw, seed, directory)
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error


def end_one(draw: random.Random, seed: int, directory: Path) -> None:
    with f.Script(CLIENT, seed, directory) as client:
        manager = int(client.line())
        pickled = client.line()
        with f.Script(OTHER, pickled) as other:
            if draw.random() < 0.5:
                assert other.line() == "in"
            moment = time.monotonic() + draw.random() * 0.5
            while time.monotonic() < moment:
                time.sleep(0.001)
            everybody = [manager, *f.descendants(manager)]
            nursery = [p for p in everybody if f.comm(p) == "alamo-nursery"]
            workers = [p for p in everybody if f.comm(p).startswith("alamo-worker")]
            who = draw.choice(("manager", "client", "manager+nursery", "client+nursery", "all"))
            victims = {
                "manager": [manager],
                "client": [client.pid],
                "manager+nursery": [manager, *nursery],
                "client+nursery": [client.pid, *nursery],
                "all": [client.pid, *everybody],
            }[who] + draw.sample(workers, draw.randrange(len(workers) + 1))
            draw.shuffle(victims)
            (f.kill if draw.random() < 0.5 else f.kill_at_once)(*victims)
            begin = time.monotonic()
            lines = other.rest(f.WAIT_S)
            assert lines in (["broken"], ["in", "broken"]), (who, lines, other.err)
            if client.pid not in victims:
                assert client.rest(f.WAIT_S) == ["broken"], who
            f.wait_gone(everybody, f.WAIT_S)
            assert time.monotonic() - begin < f.WAIT_S, who
    with Batch(num_workers=1) as batch:
        mine = Path(batch._client.address).parent
        assert list(mine.parent.iterdir()) == [mine]


def test_clients_come_and_go(tmp_path: Path) -> None:
    """Further clients are killed while they work; the primary's own work is unharmed."""
    with f.ended(Batch(num_workers=2, log_level="CRITICAL")) as batch:
        data = pickle.dumps(batch).hex()
        manager = f.manager_of(batch)
        f.until(lambda: len(f.workers_of(batch)) == 2)
        limit = connections_of(manager)
        for seed in seeds():
            come_and_go(random.Random(seed), batch, data, tmp_path / str(seed))
            f.until(lambda: connections_of(manager) <= limit, "as few connections as before")


def connections_of(pid: int) -> int:
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def come_and_go(draw: random.Random, batch: Batch, data: str, directory: Path) -> None:
    others = [f.Script(OTHER, data) for _ in range(3)]
    directory.mkdir()
    plan = Plan(draw, str(directory))
    tasks = plan.tasks(batch)
    program = batch.compile(tasks)
    program.start()
    for other in others:
        with other:
            assert other.line() == "in"
            time.sleep(draw.random() * 0.1)
    program.wait(timeout=ROUND_S)
    plan.check(tasks)
