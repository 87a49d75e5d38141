"""How a job ended: its value, or the error that says which rank failed and how."""

from __future__ import annotations

import shlex
import signal
from typing import Any

from alamo.errors import JobFailed
from alamo.protocol import exceptions, pickling
from alamo.protocol.jobs import RAISED, JobCommand
from alamo.worker.rank_files import RankFiles

#: Shells, and so the ranks' codes here, tell a signal by this much more than its number.
_SIGNALED = 128
_TAIL_LINES = 10
_SHOWN_RANKS = 10
_SHOWN_CHARS = 500
#: How the text of mpi4py's errors begins.
_OF_MPI = ("Exception: MPI_", "mpi4py.", "MPI.Exception", "MPIError")


def signal_of(code: int) -> int:
    """The signal that ended a rank with this code, or 0.

    Example:
        >>> signal_of(137), signal_of(3), signal_of(255)
        (9, 0, 0)
    """
    number = code - _SIGNALED
    return number if number in {s.value for s in signal.Signals} else 0


class JobOutcome:
    """What the ranks and the launcher of a job that has ended tell of it.

    Args:
        argv: what each rank ran, for messages.
        status: the launcher's, negative for a signal.
    """

    def __init__(self, command: JobCommand, files: RankFiles, argv: list[str], status: int) -> None:
        self._command = command
        self._files = files
        self._argv = argv
        self._status = status
        self._ends = files.ends()

    def code(self) -> int:
        """The job's result when its ranks are programs: the first code that is not 0, or 0."""
        for rank, code in self._ends:
            if code and (self._command.check or signal_of(code)):
                raise self._rank_failed(rank, code)
            if code:
                return code
        self._check_rest()
        return 0

    def values(self) -> list[Any]:
        """The job's result when its ranks are calls of a function: what they returned, by rank."""
        values = [self._files.value(rank) for rank in range(self._files.num_procs)]
        raised = [value[1:] for value in values if value[:1] == RAISED]
        if raised:
            # One that lost its peers may have raised an error of MPI's, and in a lower rank.
            own = [data for data in raised if not exceptions.text_of(data).startswith(_OF_MPI)]
            raise exceptions.Packed((own or raised)[0])
        for rank, code in self._ends:
            if code or not values[rank]:
                raise self._rank_failed(rank, code)
        self._check_rest()
        return [pickling.load(memoryview(value)[1:]) for value in values]

    def _check_rest(self) -> None:
        """No rank has ended badly by itself; yet some may have been ended, or never begun."""
        ended = {rank for rank, _ in self._ends}
        if self._status or len(ended) < self._files.num_procs:
            raise self._launcher_failed(sorted(set(range(self._files.num_procs)) - ended))

    def _rank_failed(self, rank: int, code: int) -> JobFailed:
        number = signal_of(code)
        if number:
            how = f"was ended by {_name(number)}"
        elif code:
            how = f"exited with code {code}"
        else:
            how = "exited with code 0 before its function had returned, as by os._exit(0)"
        text = f"rank {rank} of {self._files.num_procs} of `{self._shown}` {how}"
        text += self._lines("last lines of its stdout", self._files.stdout[rank])
        text += self._lines("last lines of its stderr", self._files.stderr[rank])
        return self._failed(text, -number if number else code, rank)

    def _launcher_failed(self, missing: list[int]) -> JobFailed:
        status = self._status
        how = f"exited with status {status}" if status >= 0 else f"was ended by {_name(-status)}"
        text = f"the MPI launcher {self._command.launcher} of `{self._shown}` {how}"
        if missing:
            ranks = ", ".join(map(str, missing[:_SHOWN_RANKS]))
            text += f"; of {self._files.num_procs} ranks these did not end by themselves: {ranks}"
            text += ", ..." if len(missing) > _SHOWN_RANKS else ""
        text += self._lines("it says", self._files.launcher)
        for rank in missing[:1]:
            text += self._lines(f"last lines of rank {rank}'s stderr", self._files.stderr[rank])
        return self._failed(text, status, -1)

    def _failed(self, text: str, code: int, rank: int) -> JobFailed:
        return JobFailed(text, code, self._argv, rank, self._files.num_procs)

    @property
    def _shown(self) -> str:
        text = shlex.join(self._argv) if len(self._argv) > 1 else self._argv[0]
        return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} [...]"

    def _lines(self, title: str, fd: int) -> str:
        lines = self._files.tail(fd).splitlines()[-_TAIL_LINES:]
        return f"\n{title}:\n  " + "\n  ".join(lines) if lines else ""


def _name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
