"""Blocks for the pages of an environment, allocated before LMDB writes to them.

LMDB writes through its mapping, and where the file system has no block left that is SIGBUS, the
end of the process.  So the file has blocks for all pages up to a number, which the processes
share in the control page, and a transaction makes sure beforehand that it will not need more.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from alamo.data.home import Home
from alamo.data.lmdb.control import ALLOCATED, ENVIRONMENTS_MAX
from alamo.data.lmdb.files import PAGE_BYTES
from alamo.data.packing import APART_MIN_BYTES

#: Pages at the end that only what makes room may use: a delete copies the path to its page.
RESERVE_PAGES: Final = 64
#: Pages that putting a small value may take: the value, the path to it and its splits.
SMALL_PAGES: Final = APART_MIN_BYTES // PAGE_BYTES + 24
_FIRST_PAGES: Final = RESERVE_PAGES + SMALL_PAGES + 40
_STEP_MIN_PAGES: Final = 256
#: Values may not take the last of what there is: their records need some of it.
_LEFT_FOR_RECORDS: Final = 16
_LEFT_MAX_PAGES: Final = 16384
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG)


def reserve(pages: int) -> int:
    """Pages to keep back in a file of that many: also for the list of those that are freed."""
    return RESERVE_PAGES + (pages >> 8)


class Space:
    """The blocks of one file.

    Args:
        slot: the environment's number in its home; 0 has the records.

    Attributes:
        slot: as given.
        pages: allocated, as far as this process knows; there may be more.
    """

    def __init__(self, home: Home, path: str, slot: int) -> None:
        self._home = home
        self._path = path
        self.slot = slot
        self._word = ALLOCATED + slot
        self.pages = 0

    def begin(self) -> bool:
        """Allocate the first pages of a new file, its two meta pages among them."""
        with self._home.growing():
            self.pages = self._home.control[self._word]
            return self.pages >= _FIRST_PAGES or self._allocate(_FIRST_PAGES, step=0)

    def grow(self, pages: int) -> bool:
        """Allocate at least so many pages; ``False``: there is no room for them.

        Cost: 1 us when another process has done it, else 0.2 to 0.4 us a KiB.
        """
        if self._home.control[self._word] >= pages:
            self.pages = self._home.control[self._word]
            return True
        with self._home.growing():
            self.pages = self._home.control[self._word]
            step = max(_STEP_MIN_PAGES, pages >> 3)
            return self.pages >= pages or self._allocate(pages, step)

    def _allocate(self, pages: int, step: int) -> bool:
        free = self.free_pages()
        missing = pages - self.pages
        if self.slot:
            left = min(self.limit_pages() // _LEFT_FOR_RECORDS, _LEFT_MAX_PAGES)
            free = max(0, free - left)
        if missing > free:
            return False
        step = min(step, (free - missing) >> 2)
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for target in (pages + step, pages):
                try:
                    size = (target - self.pages) * PAGE_BYTES
                    os.posix_fallocate(fd, self.pages * PAGE_BYTES, size)
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    continue
                self.pages = self._home.control[self._word] = target
                return True
        finally:
            os.close(fd)
        return False

    def free_pages(self) -> int:
        """Pages that all files of the home may still grow by."""
        state = os.statvfs(self._home.path)
        free = state.f_bavail * state.f_frsize // PAGE_BYTES
        total = self._home.about.total_bytes
        return min(free, total // PAGE_BYTES - self.taken_pages()) if total else free

    def limit_pages(self) -> int:
        """The most that there could ever be for the home."""
        total = self._home.about.total_bytes
        if total:
            return total // PAGE_BYTES
        state = os.statvfs(self._home.path)
        return state.f_blocks * state.f_frsize // PAGE_BYTES

    def taken_pages(self) -> int:
        """Pages allocated for all files of the home."""
        return sum(self._home.control[ALLOCATED : ALLOCATED + ENVIRONMENTS_MAX])
