"""Replay a recorded production workflow: its files, its dependencies, its run times.

    python examples/replay_workflow.py workflow.json

A record in WfFormat 1.5 (https://github.com/wfcommons/WfFormat) says which files each task of
a workflow read and wrote and how long it ran. Here each becomes a task that reads its input
files, burns CPU for its run time times a scale and writes its output files at a scaled size.
alamo is told the files and nothing else; the recorded parents and children are looked at only
to check what it inferred, and to sort a list that is in no valid order.

Every file is filled with a hash of all that went into it, so one that was read too early, or
written twice, or half, shows in everything made from it. Exit status 1 if anything does.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from alamo import Batch, Task
from alamo.core.graph import Dag
from alamo.core.hazards import HazardTracker

#: Without --scale-time the lower bound of the makespan is this long.
TARGET_S = 6.0
#: Without --scale-bytes all tasks together read and write this much.
TARGET_BYTES = 200_000_000

DIGEST_BYTES = 32
BLOCK_BYTES = 1 << 20
WORKFLOWS = Path(__file__).resolve().parents[2] / "shared" / "workflows"

File = tuple[str, int]  # name in the directory, size in bytes
Edge = tuple[str, str]  # ids of a task and of one that waits for it


# -- the record --------------------------------------------------------------------------------


@dataclass
class RecordedTask:
    id: str
    runtime_s: float
    inputs: list[str]
    outputs: list[str]


@dataclass
class Workflow:
    """A record. ``tasks`` are in a valid serial order; it was ``sorted`` if the list was not."""

    name: str
    tasks: list[RecordedTask]
    sizes: dict[str, int]
    edges: set[Edge]
    sorted: bool

    @classmethod
    def load(cls, path: Path) -> Workflow:
        """Read a record; a file that it gives no size for has none, a task without run time 0 s."""
        record = json.loads(path.read_text())
        specification = record["workflow"]["specification"]
        execution = record["workflow"].get("execution", {})
        runtimes = {t["id"]: t["runtimeInSeconds"] for t in execution.get("tasks", ())}
        sizes = {f["id"]: f["sizeInBytes"] for f in specification.get("files", ())}
        tasks = []
        edges = set()
        for task in specification["tasks"]:
            # A file may be listed twice; dict.fromkeys keeps the order.
            inputs = list(dict.fromkeys(task.get("inputFiles", ())))
            outputs = list(dict.fromkeys(task.get("outputFiles", ())))
            tasks.append(RecordedTask(task["id"], runtimes.get(task["id"], 0.0), inputs, outputs))
            edges |= {(parent, task["id"]) for parent in task["parents"]}
            edges |= {(task["id"], child) for child in task["children"]}
        ordered = in_serial_order(tasks, edges)
        return cls(record.get("name", path.stem), ordered, sizes, edges, ordered is not tasks)

    def critical_path_s(self, durations_s: dict[str, float]) -> float:
        """Length of the longest path through the recorded edges."""
        position = {task.id: i for i, task in enumerate(self.tasks)}
        before: list[list[int]] = [[] for _ in self.tasks]
        for parent, child in self.edges:
            before[position[child]].append(position[parent])
        length_s, _ = Dag.of(before).critical_path([durations_s[task.id] for task in self.tasks])
        return length_s

    def lower_bound_s(self, durations_s: dict[str, float], workers: int) -> float:
        """No schedule on so many workers is shorter."""
        return max(self.critical_path_s(durations_s), sum(durations_s.values()) / workers)


def in_serial_order(tasks: list[RecordedTask], edges: set[Edge]) -> list[RecordedTask]:
    """The list itself if every task stands behind its parents, else the nearest order that does."""
    position = {task.id: i for i, task in enumerate(tasks)}
    if all(position[parent] < position[child] for parent, child in edges):
        return tasks
    children: dict[str, list[str]] = {task.id: [] for task in tasks}
    missing = dict.fromkeys(position, 0)
    for parent, child in edges:
        children[parent].append(child)
        missing[child] += 1
    heap = [position[task.id] for task in tasks if not missing[task.id]]
    ordered = []
    while heap:
        task = tasks[heapq.heappop(heap)]
        ordered.append(task)
        for child in children[task.id]:
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(heap, position[child])
    if len(ordered) < len(tasks):
        raise SystemExit("the recorded parents and children have a cycle")
    return ordered


def make_workflow(directory: Path, num_tasks: int = 100) -> Path:
    """Make a workflow of the 1000 Genomes family with the package wfcommons."""
    try:
        from wfcommons import GenomeRecipe, WorkflowGenerator
    except ImportError:
        raise SystemExit(
            f"no FILE given, nothing at {WORKFLOWS}, and no wfcommons to make a workflow with: "
            "name a WfFormat file, or pip install wfcommons"
        ) from None
    random.seed(1)
    path = directory / "made.json"
    WorkflowGenerator(GenomeRecipe.from_num_tasks(num_tasks)).build_workflow().write_json(path)
    return path


# -- files whose content tells where it came from ----------------------------------------------


def write_file(path: Path, digest: bytes, size: int) -> None:
    """Fill a file with a digest, over and over."""
    block = digest * (min(size, BLOCK_BYTES) // DIGEST_BYTES + 1)
    with open(path, "wb") as file:
        for start in range(0, size, BLOCK_BYTES):
            file.write(block[: min(BLOCK_BYTES, size - start)])


def read_file(path: Path, size: int) -> bytes:
    """Read a file to its end and return its digest.

    Raises:
        ValueError: it is not as large as it should be, or not of one piece.
    """
    digest = block = b""
    found = 0
    with open(path, "rb") as file:
        while data := file.read(BLOCK_BYTES):
            if not digest:
                digest = data[:DIGEST_BYTES]
                block = digest * (BLOCK_BYTES // DIGEST_BYTES)
            if data != block[: len(data)]:
                raise ValueError(f"{path} is a mixture, from byte {found} on")
            found += len(data)
    if found != size:
        raise ValueError(f"{path} has {found} bytes instead of {size}")
    return digest


def first_digest(name: str) -> bytes:
    """Of a file that no task writes."""
    return sha256(name.encode()).digest()


def output_digest(task_id: str, inputs: list[bytes], name: str) -> bytes:
    """Of a file that a task writes: depends on the task and on all that it read, in order."""
    return sha256(b"\0".join([task_id.encode(), *inputs, name.encode()])).digest()


# -- the replay --------------------------------------------------------------------------------


def run_task(
    directory: Path, task_id: str, inputs: list[File], outputs: list[File], cpu_s: float
) -> tuple[float, float]:
    """What runs in a worker: read, burn until ``cpu_s`` of CPU are used, write.

    Returns:
        Begin and end, monotonic seconds.
    """
    begin_s = time.monotonic()
    enough_s = time.thread_time() + cpu_s
    digests = [read_file(directory / name, size) for name, size in inputs]
    while time.thread_time() < enough_s:
        sha256(bytes(8192))
    for name, size in outputs:
        write_file(directory / name, output_digest(task_id, digests, name), size)
    return begin_s, time.monotonic()


@dataclass
class Replay:
    """A workflow at a scale, its files in a directory."""

    workflow: Workflow
    directory: Path
    scale_time: float
    scale_bytes: float

    def files(self, ids: list[str]) -> list[File]:
        """Names and scaled sizes. A recorded id may be any text, so it is quoted: '/' is '%2F'."""
        sizes = self.workflow.sizes
        return [
            ("." + quote(id, safe=""), max(DIGEST_BYTES, round(sizes.get(id, 0) * self.scale_bytes)))
            if id.startswith(".")
            else (quote(id, safe=""), max(DIGEST_BYTES, round(sizes.get(id, 0) * self.scale_bytes)))
            for id in ids
        ]
