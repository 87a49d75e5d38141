"""What ``batch.process`` is given as stdin, stdout and stderr."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from alamo.batch.arguments import as_accesses
from alamo.batch.results import AsyncDict, RawOutput
from alamo.core.access import FILES, READ, WRITE, DataAccess
from alamo.core.paths import absolute_path
from alamo.errors import UsageError
from alamo.protocol.records import RESULT

_REFUSED = {
    subprocess.PIPE: "PIPE has no other end here; leave it out: output is captured, and the "
    "handles stdout and stderr give it; input is given as bytes",
    subprocess.STDOUT: "STDOUT means stdout's place, and is for stderr alone",
}
_OPEN = "an open file or descriptor is of this process, not of the worker's; give its path"


class Redirections:
    """The streams of one executable, checked.

    Attributes:
        stdin: what its input is, if it is no file: bytes, or what a handle becomes.
        stdin_path, stdout_path, stderr_path: files, absolute; nothing where there is none.
        stdout, stderr: as in ``Command``.
        reads, writes: accesses of the task, with those of the files.

    Raises:
        UsageError: a stream cannot be what it is to be.
    """

    def __init__(self, stdin: Any, stdout: Any, stderr: Any, reads: Any, writes: Any) -> None:
        self.reads = as_accesses(reads, READ) if reads is not None else ()
        self.writes = as_accesses(writes, WRITE) if writes is not None else ()
        self.stdin: Any = None
        self.stdin_path = self._source(stdin)
        self.stdout, self.stdout_path = self._sink("stdout", stdout)
        self.stderr, self.stderr_path = self._sink("stderr", stderr)
        if self.stdin_path and self.stdin_path in (self.stdout_path, self.stderr_path):
            raise UsageError(
                f"{self.stdin_path} is to be read and written: it would be emptied before the "
                "program reads it; write to another file"
            )

    def _source(self, stdin: Any) -> str | None:
        """Take what the input is; returns the path if it is a file."""
        if isinstance(stdin, AsyncDict):
            form = getattr(stdin.task, "form", None)
            path = form.path(stdin.stream) if form is not None and stdin.stream != RESULT else ""
            if path:  # all of it, not head and tail
                return self._read_from(path)
            self.stdin = stdin if stdin.stream == RESULT else RawOutput(stdin)
        elif isinstance(stdin, (bytes, bytearray, memoryview)):
            self.stdin = bytes(stdin)
        elif isinstance(stdin, (str, os.PathLike)):
            path = os.fsdecode(stdin)
            if "\n" in path and not os.path.exists(path):
                raise UsageError(
                    "stdin= takes text as the path of a file; give bytes to be read: "
                    "stdin=text.encode()"
                )
            return self._read_from(absolute_path(path, os.getcwd))
        elif stdin is not None and stdin != subprocess.DEVNULL:
            why = _REFUSED.get(stdin, _OPEN) if isinstance(stdin, int) else _OPEN
            raise UsageError(
                f"stdin={_shown(stdin)}: {why} (stdin= takes bytes, a path, DEVNULL or a handle of "
                "another task)"
            )

        return None

    def _read_from(self, path: str) -> str:
        self.reads = (*self.reads, DataAccess(FILES, path, READ))
        return path

    def _sink(self, name: str, where: Any) -> tuple[str | int | None, str]:
        """The destination for the worker, and its path if it is a file."""
        if where is None:
            return None, ""
        if isinstance(where, int):
            if where == subprocess.DEVNULL:
                return where, ""
            if where == subprocess.STDOUT and name == "stderr":
                return where, ""
        elif isinstance(where, (str, bytes, os.PathLike)):
            path = absolute_path(where, os.getcwd)
            self.writes = (*self.writes, DataAccess(FILES, path, WRITE))
            return path, path
        why = _REFUSED.get(where, _OPEN) if isinstance(where, int) else _OPEN
        raise UsageError(
            f"{name}={_shown(where)}: {why} ({name}= takes a path, DEVNULL"
            f"{' or STDOUT' if name == 'stderr' else ''})"
        )


def _shown(value: Any) -> str:
    names = {subprocess.PIPE: "PIPE", subprocess.STDOUT: "STDOUT"}
    return names.get(value, repr(value)) if isinstance(value, int) else repr(value)[:100]
