"""Replay a recorded production workflow: its files, its dependencies, its run times.

    python examples/replay_workflow.py workflow.json

A record in WfFormat 1.5 (https://github.com/wfcommons/WfFormat) says which files each task of
a workflow read and wrote and how long it ran. Here each becomes a task that reads its input
files, burns CPU for its run time times a scale and writes its output files at a scaled size.
alamo is told the files and nothing else; the recorded parents and children are looked at only
to check what it inferred, and to sort a list that is in no valid order.

Every file is filled with a hash of all that went into it, so one that was read too early, or
half, or made from a wrong one shows in everything made from it. Exit status 1 if anything does.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from alamo import Batch, Task
from alamo.batch.launch import granted_cores
from alamo.core.graph import Dag
from alamo.core.hazards import HazardTracker

#: Without --scale-time the run takes at least this long, if nothing is lost between the tasks.
TARGET_S = 6.0
#: Without --scale-bytes all tasks together read and write about this much.
TARGET_BYTES = 200_000_000

DIGEST_BYTES = 32
BLOCK_BYTES = 1 << 20
WORKFLOWS = Path(__file__).resolve().parents[2] / "shared" / "workflows"

Edge = tuple[str, str]  # ids of a task and of one that waits for it
File = tuple[str, int]  # name in the directory, size in bytes


# -- the record ------------------------------------------------------------------------------


@dataclass
class RecordedTask:
    id: str
    runtime_s: float
    inputs: list[str]
    outputs: list[str]


@dataclass
class Workflow:
    """A record; ``tasks`` stand in a valid serial order: as listed, if that is one."""

    name: str
    tasks: list[RecordedTask]
    sizes: dict[str, int]
    edges: set[Edge]
    listed_in_order: bool

    @classmethod
    def load(cls, path: Path) -> Workflow:
        """Read a record.

        Raises:
            ValueError: it is none, or its parents and children have a cycle.
        """
        record = json.loads(path.read_text())
        try:
            specification = record["workflow"]["specification"]
            execution = record["workflow"]["execution"]
            runtimes_s = {t["id"]: float(t["runtimeInSeconds"]) for t in execution["tasks"]}
            tasks, edges = [], set()
            for task in specification["tasks"]:
                inputs, outputs = task.get("inputFiles", []), task.get("outputFiles", [])
                tasks.append(RecordedTask(task["id"], runtimes_s[task["id"]], inputs, outputs))
                edges |= {(parent, task["id"]) for parent in task["parents"]}
                edges |= {(task["id"], child) for child in task["children"]}
            sizes = {file["id"]: file["sizeInBytes"] for file in specification["files"]}
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is no WfFormat record of a run: {error!r}") from error
        ordered = in_serial_order(tasks, edges)
        return cls(record.get("name", path.stem), ordered, sizes, edges, ordered is tasks)

    def first_files(self) -> list[str]:
        """The files that no task writes."""
        written = {file for task in self.tasks for file in task.outputs}
        return sorted({file for task in self.tasks for file in task.inputs} - written)

    def bytes_moved(self) -> int:
        """What all tasks together read and write."""
        files = (file for task in self.tasks for file in [*task.inputs, *task.outputs])
        return sum(self.sizes[file] for file in files)

    def bounds_s(self, durations_s: list[float], workers: int) -> tuple[float, float]:
        """Critical path, and work / workers: no schedule is shorter than either."""
        position = {task.id: i for i, task in enumerate(self.tasks)}
        parents: list[list[int]] = [[] for _ in self.tasks]
        for parent, child in self.edges:
            parents[position[child]].append(position[parent])
        critical_path_s, _ = Dag.of(parents).critical_path(durations_s)
        return critical_path_s, sum(durations_s) / workers


def in_serial_order(tasks: list[RecordedTask], edges: set[Edge]) -> list[RecordedTask]:
    """The list itself if all stand behind their parents, else sorted, the first listed first."""
    position = {task.id: i for i, task in enumerate(tasks)}
    if all(position[parent] < position[child] for parent, child in edges):
        return tasks
    children: dict[str, list[str]] = {task.id: [] for task in tasks}
    missing = dict.fromkeys(position, 0)
    for parent, child in edges:
        children[parent].append(child)
        missing[child] += 1
    heap = [i for i, task in enumerate(tasks) if not missing[task.id]]
    ordered = []
    while heap:
        task = tasks[heapq.heappop(heap)]
        ordered.append(task)
        for child in children[task.id]:
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(heap, position[child])
    if len(ordered) < len(tasks):
        raise ValueError("the recorded parents and children have a cycle")
    return ordered


def make_workflow(directory: Path) -> Path:
    """Make a workflow of the 1000 Genomes family, about 100 tasks, with the package wfcommons."""
    try:
        from wfcommons import GenomeRecipe, WorkflowGenerator
    except ImportError as error:
        raise ValueError(
            f"no FILE given, none in {WORKFLOWS}, and no package to make one with: {error}; "
            "pip install 'alamo[examples]'"
        ) from error
    random.seed(1)
    path = directory / "workflow.json"
    WorkflowGenerator(GenomeRecipe.from_num_tasks(100)).build_workflow().write_json(path)
    return path


# -- files whose content tells where it came from --------------------------------------------


def file_name(file_id: str) -> str:
    """A name in one directory for a recorded id, which may be any text: '/a/b' is '%2Fa%2Fb'."""
    name = quote(file_id, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    return name if len(name) < 256 else sha256(name.encode()).hexdigest()


def write_file(path: Path, size: int, digest: bytes) -> None:
    """Fill a file with a digest, over and over."""
    block = digest * (min(size, BLOCK_BYTES) // DIGEST_BYTES + 1)
    with open(path, "wb") as file:
        for start in range(0, size, BLOCK_BYTES):
            file.write(block[: min(BLOCK_BYTES, size - start)])


def read_file(path: Path, size: int) -> bytes:
    """Read a file to its end and return its digest.

    Raises:
        ValueError: it has another size, or is not one digest all through.
    """
    digest = block = b""
    found = 0
    with open(path, "rb") as file:
        while data := file.read(BLOCK_BYTES):
            if not digest:
                digest = data[:DIGEST_BYTES]
                block = digest * (len(data) // DIGEST_BYTES + 1)
            if data != block[: len(data)]:
                raise ValueError(f"{path} does not go on from byte {found} as it began")
            found += len(data)
    if found != size:
        raise ValueError(f"{path} has {found} bytes instead of {size}")
    return digest


def first_digest(name: str) -> bytes:
    """The digest of a file that no task writes."""
    return sha256(name.encode()).digest()


def next_digest(task_id: str, inputs: list[bytes], name: str) -> bytes:
    """The digest of a file that a task makes: of the task, and of all that it read, in order."""
    return sha256(b"\0".join([task_id.encode(), *inputs, name.encode()])).digest()


# -- the replay ------------------------------------------------------------------------------


def run_task(
    directory: Path, task_id: str, inputs: list[File], outputs: list[File], cpu_s: float
) -> tuple[float, float]:
    """What runs in a worker: read, compute until ``cpu_s`` of CPU are used, write.

    Returns:
        When it began and ended, monotonic seconds.
    """
    begin_s = time.monotonic()
    enough_s = time.thread_time() + cpu_s
    digests = [read_file(directory / name, size) for name, size in inputs]
    while time.thread_time() < enough_s:
        sha256(bytes(8192))
    for name, size in outputs:
        write_file(directory / name, size, next_digest(task_id, digests, name))
    return begin_s, time.monotonic()


@dataclass
class Replay:
    """A workflow at a scale, its files in a directory that is empty at first."""

    workflow: Workflow
    directory: Path
    scale_time: float
    scale_bytes: float

    def files(self, ids: list[str]) -> list[File]:
        """Names and scaled sizes; a file holds one digest at least."""
        sizes = self.workflow.sizes
        return [(file_name(i), max(DIGEST_BYTES, round(sizes[i] * self.scale_bytes))) for i in ids]

    def write_first_files(self) -> None:
        """Make what is there before the first task runs."""
        for name, size in self.files(self.workflow.first_files()):
            write_file(self.directory / name, size, first_digest(name))

    def make_tasks(self, batch: Batch) -> list[Task]:
        """A task for each recorded one, in serial order. All that alamo learns are the files."""
        tasks = []
        for task in self.workflow.tasks:
            inputs, outputs = self.files(task.inputs), self.files(task.outputs)
            cpu_s = task.runtime_s * self.scale_time
            tasks.append(
                batch.function(
                    run_task,
                    *(self.directory, task.id, inputs, outputs, cpu_s),
                    reads=[batch.read(self.directory, name) for name, _ in inputs],
                    writes=[batch.write(self.directory, name) for name, _ in outputs],
                    name=task.id,
                )
            )
        return tasks

    def inferred_edges(self, tasks: list[Task]) -> set[Edge]:
        """What ``compile`` will make of the tasks, which then forget their accesses."""
        tracker = HazardTracker()
        for task in tasks:
            tracker.add(tuple(task.reads), tuple(task.writes))
        ids = [task.id for task in self.workflow.tasks]
        return {(ids[p], ids[i]) for p, i in Dag.of_pages([tracker.drain()]).edges()}

    def wrong_files(self) -> list[str]:
        """What is not there as a serial run would have left it; reads every file."""
        first = self.files(self.workflow.first_files())
        digests = {name: first_digest(name) for name, _ in first}
        expected = list(first)
        for task in self.workflow.tasks:
            inputs = [digests[name] for name, _ in self.files(task.inputs)]
            for name, size in self.files(task.outputs):
                digests[name] = next_digest(task.id, inputs, name)
                expected.append((name, size))
        wrong = []
        for name, size in dict(expected).items():
            try:
                if read_file(self.directory / name, size) != digests[name]:
                    wrong.append(f"{name} was made from something else")
            except (OSError, ValueError) as error:
                wrong.append(str(error))
        return wrong


@dataclass
class Outcome:
    """What a replay showed."""

    workers: int
    makespan_s: float
    spans_s: list[tuple[float, float]]
    failures: list[str]
    odd_edges: list[str]
    wrong_files: list[str]

    @property
    def good(self) -> bool:
        """Whether everything was as it should be."""
        return not (self.failures or self.odd_edges or self.wrong_files)

    @property
    def durations_s(self) -> list[float]:
        """How long each task ran, as measured around it in its worker."""
        return [end_s - begin_s for begin_s, end_s in self.spans_s]


def run_replay(replay: Replay, workers: int) -> Outcome:
    """Run the whole workflow and check what came of it."""
    replay.write_first_files()
    with Batch(num_workers=workers) as batch:
        tasks = replay.make_tasks(batch)
        inferred = replay.inferred_edges(tasks)
        program = batch.compile(tasks)
        begin_s = time.monotonic()
        program.start()
        program.wait()
        makespan_s = time.monotonic() - begin_s
        spans_s, failures = [], []
        for task in tasks:
            try:
                spans_s.append(task.result.get())
            except Exception as error:
                failures.append(f"{task.name}: {type(error).__name__}: {error}")
    odd_edges = sorted(map(" -> ".join, inferred ^ replay.workflow.edges))
    return Outcome(workers, makespan_s, spans_s, failures, odd_edges, replay.wrong_files())


# -- the summary -----------------------------------------------------------------------------


def report(replay: Replay, outcome: Outcome) -> None:
    """Print what was run and what it showed."""
    workflow = replay.workflow
    order = "as listed" if workflow.listed_in_order else "sorted, as the list is in no valid order"
    print(f"{workflow.name}: {len(workflow.tasks)} tasks, {order}; {len(workflow.sizes)} files")
    print(f"  scales      run time × {replay.scale_time:.3g}, file size × {replay.scale_bytes:.3g}")
    complain("failed", outcome.failures)
    complain("edges either inferred or recorded, not both", outcome.odd_edges)
    complain("files unlike those of a serial run", outcome.wrong_files)
    if not outcome.good:
        return
    print(f"  edges       {len(workflow.edges)} inferred from the files, as recorded")
    print("  files       all as a serial run leaves them")
    path_s, share_s = workflow.bounds_s(outcome.durations_s, outcome.workers)
    bound_s = max(path_s, share_s)
    print(f"  makespan    {outcome.makespan_s:.3f} s on {outcome.workers} workers")
    print(f"  lower bound {bound_s:.3f} s (critical path {path_s:.3f}, work/workers {share_s:.3f})")
    print(f"  ratio       {outcome.makespan_s / bound_s:.3f}")


def complain(what: str, items: list[str]) -> None:
    """Print the first few of what is wrong."""
    if items:
        print(f"  WRONG       {len(items)} {what}:")
        for item in items[:5]:
            print(f"              {item}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay a recorded workflow (WfFormat 1.5).")
    option = parser.add_argument
    option("file", nargs="?", type=Path, metavar="FILE", help="the record")
    option("--workers", type=int, default=granted_cores(), metavar="N", help="default: a core each")
    option("--scale-time", type=float, metavar="S", help=f"default: for {TARGET_S:g} s or more")
    option("--scale-bytes", type=float, metavar="S", help="default: for 200 MB read and written")
    option("--keep", type=Path, metavar="DIR", help="leave the files in DIR, an empty directory")
    options = parser.parse_args(arguments)
    if options.keep is not None and options.keep.exists() and any(options.keep.iterdir()):
        # Files of an earlier run would hide a task that runs too early.
        parser.error(f"{options.keep} is not empty")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="replay-") as temporary:
        directory = (options.keep or Path(temporary) / "files").resolve()
        directory.mkdir(parents=True, exist_ok=True)
        recorded = sorted(WORKFLOWS.glob("*/1000genome/*.json"))
        try:
            path = options.file or (recorded[0] if recorded else make_workflow(Path(temporary)))
            workflow = Workflow.load(path)
        except (OSError, ValueError) as error:
            print(f"replay_workflow: {error}", file=sys.stderr)
            return 2
        scale_time, scale_bytes = options.scale_time, options.scale_bytes
        if scale_time is None:
            recorded_s = [task.runtime_s for task in workflow.tasks]
            scale_time = TARGET_S / max(*workflow.bounds_s(recorded_s, options.workers), 1e-9)
        if scale_bytes is None:
            scale_bytes = min(1.0, TARGET_BYTES / max(workflow.bytes_moved(), 1))
        replay = Replay(workflow, directory, scale_time, scale_bytes)
        outcome = run_replay(replay, options.workers)
        report(replay, outcome)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
