"""The output of a job's ranks as that of the task: in the order of ranks, parts known."""

from __future__ import annotations

import itertools
import os

from alamo.worker import child, output
from alamo.worker.rank_files import RankFiles


def hand_over(files: RankFiles) -> None:
    """Write what the ranks wrote to where the task's own output is taken.

    What the launcher said stands behind the last rank's stderr.
    """
    ends = []
    for fd, parts in (
        (child.streams[1], files.outputs(files.stdout)),
        (child.streams[2], files.outputs([*files.stderr, files.launcher])),
    ):
        data = memoryview(b"".join(parts))
        while data:
            data = data[os.write(fd, data) :]
        ends.append(tuple(itertools.accumulate(map(len, parts[: files.num_procs]))))
    output.splits = (ends[0], ends[1])
