"""What the ranks of a job write: output, how each ended, and what a function returned.

Files in memory without names, which a rank opens through ``/proc``: nothing is copied through
the launcher, the ranks' outputs stay apart, and whatever is killed, nothing is left behind.
"""

from __future__ import annotations

import os

from alamo import linux
from alamo.protocol.jobs import RAISED, RETURNED
from alamo.protocol.launchers import RANK_VARIABLES
from alamo.protocol.shortening import KEPT_BYTES

#: What ``sh`` runs as each rank: the program, with its output where the files are, and after it a
#: line in the log.  A program that a signal ended has 128 and the signal's number as code there.
_SCRIPT = """r={rank}
[ -n "$r" ] || r={alone}
[ -n "$r" ] || {{ echo "the launcher tells a rank its number in no known variable" >&2; exit 125; }}
eval "o=\\$o$r e=\\$e$r"
[ -n "$HWLOC_XMLFILE" ] || unset HWLOC_XMLFILE
"$@" >$p$o 2>$p$e
c=$?
echo "$r $c" >>$p$l
exit $c"""
#: Of each stream of all ranks together.
_KEPT_BYTES = 2 * KEPT_BYTES
_TRIM_BYTES = 8 * KEPT_BYTES
_TAIL_BYTES = 4096


class RankFiles:
    """The files of one job in this process, which must be ``close``d.

    Args:
        with_values: the ranks are functions: there is room for their input and values.

    Raises:
        OSError: the process may not open so many.
    """

    def __init__(self, num_procs: int, with_values: bool) -> None:
        self._fds: list[int] = []
        self.num_procs = num_procs
        try:
            self.launcher = self._make("launcher")
            self._log = self._make("log")
            self.stdout = [self._make("stdout") for _ in range(num_procs)]
            self.stderr = [self._make("stderr") for _ in range(num_procs)]
            self.values = [self._make("value") for _ in range(num_procs if with_values else 0)]
            self.input = self._make("input") if with_values else -1
        except BaseException:
            self.close()
            raise

    def _make(self, name: str) -> int:
        fd = os.memfd_create(f"alamo-rank-{name}", os.MFD_CLOEXEC)
        self._fds.append(fd)
        return fd

    def close(self) -> None:
        """Free all."""
        while self._fds:
            os.close(self._fds.pop())

    @staticmethod
    def path(fd: int) -> str:
        """Where another process finds a file."""
        return f"/proc/{os.getpid()}/fd/{fd}"

    def wrapped(self, argv: list[str]) -> list[str]:
        """The command that a launcher shall start as each rank instead of ``argv``."""
        rank = ""
        for name in reversed(RANK_VARIABLES):
            rank = f"${{{name}:-{rank}}}"
        parts = [f"p={self.path(0)[:-1]}", f"l={self._log}"]
        parts += [f"o{rank}={fd}" for rank, fd in enumerate(self.stdout)]
        parts += [f"e{rank}={fd}" for rank, fd in enumerate(self.stderr)]
        script = _SCRIPT.format(rank=rank, alone="0" if self.num_procs == 1 else "")
        return ["/bin/sh", "-c", f"{' '.join(parts)}\n{script}", "alamo-rank", *argv]

    def ends(self) -> list[tuple[int, int]]:
        """Rank and code of those that have ended by themselves, in this order."""
        log = os.pread(self._log, os.fstat(self._log).st_size, 0).decode("ascii", "replace")
        found = []
        for line in log.splitlines(keepends=True):
            words = line.split()
            if line.endswith("\n") and len(words) == 2 and all(w.isdigit() for w in words):
                found.append((int(words[0]), int(words[1])))
        return [(rank, code) for rank, code in found if rank < self.num_procs]

    def are_over(self) -> bool:
        """Whether all ranks have ended by themselves, or one has and badly.  Cost: 5 us."""
        return len(self.ends()) >= self.num_procs or self.has_failed()

    def has_failed(self) -> bool:
        """Whether a rank has ended by itself and badly.  Cost: 5 us."""
        return any(code or (self.values and not self.value(rank)) for rank, code in self.ends())

    def value(self, rank: int) -> bytes:
        """What a rank of a function left, its first byte telling what it is; or nothing."""
        fd = self.values[rank]
        if os.pread(fd, 1, 0) not in (RETURNED, RAISED):
            return b""
        return os.pread(fd, os.fstat(fd).st_size, 0)

    def trim(self) -> None:
        """Free the memory of output that will not be kept, while the ranks go on writing."""
        limit = max(_TRIM_BYTES // self.num_procs, _KEPT_BYTES)
        for fd in (*self.stdout, *self.stderr):
            size = os.fstat(fd).st_size
            if size > limit:
                linux.punch_hole(fd, KEPT_BYTES, size - KEPT_BYTES)

    @staticmethod
    def tail(fd: int) -> str:
        """The end of what was written to a file, for messages."""
        start = max(0, os.fstat(fd).st_size - _TAIL_BYTES)
        return os.pread(fd, _TAIL_BYTES, start).decode("utf-8", "backslashreplace")

    def outputs(self, fds: list[int]) -> list[bytes]:
        """What each rank has written to a stream; of much the head and the tail of each rank."""
        sizes = [os.fstat(fd).st_size for fd in fds]
        if sum(sizes) <= _KEPT_BYTES:
            return [os.pread(fd, size, 0) for fd, size in zip(fds, sizes)]
        share = _KEPT_BYTES // len(fds)
        return [_ends(fd, size, share) for fd, size in zip(fds, sizes)]


def _ends(fd: int, size: int, share: int) -> bytes:
    """The file's content in at most ``share`` bytes, its middle replaced by a mark."""
    if size <= share:
        return os.pread(fd, size, 0)
    mark = f"\n[... {size - share} bytes and some left out ...]\n".encode()
    kept = max(0, share - len(mark)) // 2
    mark = f"\n[... {size - 2 * kept} bytes left out ...]\n".encode()
    return (os.pread(fd, kept, 0) + mark + os.pread(fd, kept, size - kept))[:share]
