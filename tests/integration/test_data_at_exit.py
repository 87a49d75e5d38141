"""Programs that end without closing anything: what still runs then has its data, nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import _work as work

BATCH = """
import sys, time
from alamo import Batch, DDict, Queue

def step(d, q, i):
    time.sleep(0.1)
    d[i] = i
    q.put(i)
    with open(OUT, "a") as file:
        print(len(d), q.qsize(), file=file)

if __name__ == "__main__":
    OUT = sys.argv[1]
    batch = Batch(num_workers=1)
    d, q = DDict(), Queue(name="kept to the end")
    for i in range(5):
        batch.function(step, d, q, i).start()
"""

CHILD = """
import multiprocessing.util  # registers before alamo what it does at the end
import sys, time
from alamo import DDict, Queue

def child(d, q, path):
    time.sleep(0.1)
    d[0] = 0
    q.put(0)
    with open(path, "a") as file:
        print(len(d), q.qsize(), file=file)

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    context.Process(target=child, args=(DDict(), Queue(), sys.argv[1])).start()
"""


def run(tmp_path: Path, source: str) -> list[str]:
    """What the program has written into the file that is its argument; its data are gone."""
    script, out, data = tmp_path / "script.py", tmp_path / "out", tmp_path / "data"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, "-X", "dev", script, out],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ALAMO_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=work.PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path for path in data.rglob("*") if path.parent != data] == []
    return out.read_text().splitlines()


def test_tasks_that_run_at_the_end_have_their_data(tmp_path: Path) -> None:
    assert run(tmp_path, BATCH) == [f"{n} {n}" for n in range(1, 6)]


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_child_processes_that_run_at_the_end_have_their_data(tmp_path: Path, method: str) -> None:
    assert run(tmp_path, CHILD.format(method=method)) == ["1 1"]
