"""The output of a job's ranks as that of the task: in the order of ranks, parts known."""

from __future__ import annotations

import itertools
import os

from alamo.worker import executables, output
from alamo.worker.rank_files import RankFiles


def hand_over(files: RankFiles) -> None:
    """Write what the ranks wrote to where the task's own output is taken.

    What the launcher said stands behind the last rank's stderr.
    """
    stdout = files.outputs(files.stdout)
    stderr = files.outputs([*files.stderr, files.launcher])
    with executables.own_streams() as (_, stdout_fd, stderr_fd):
        _write(stdout_fd, stdout)
        _write(stderr_fd, stderr)
    output.splits = (_ends(stdout), _ends(stderr[:-1]))


def _write(fd: int, parts: list[bytes]) -> None:
    data = memoryview(b"".join(parts))
    while data:
        data = data[os.write(fd, data) :]


def _ends(parts: list[bytes]) -> tuple[int, ...]:
    return tuple(itertools.accumulate(map(len, parts)))
