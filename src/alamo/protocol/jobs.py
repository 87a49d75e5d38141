"""What a worker is told about an MPI job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from alamo.protocol.launchers import Launcher

__all__ = ["RAISED", "RETURNED", "JobCommand"]

#: The first byte of what the rank of a function leaves; written last, so who is killed has none.
RETURNED, RAISED = b"V", b"E"


class JobCommand(msgspec.Struct, frozen=True, gc=False):
    """How the ranks of a job are started.

    Attributes:
        launcher: what starts them.
        num_procs: how many.
        threads: how many each may run, as far as libraries ask the environment.
        cwd: their directory; ``None``: the task's.
        env: their environment; ``None``: the worker's.
        check: a code other than 0 is a failure.
    """

    launcher: Launcher
    num_procs: int
    threads: int = 1
    cwd: str | None = None
    env: Mapping[str, Any] | None = None
    check: bool = True
