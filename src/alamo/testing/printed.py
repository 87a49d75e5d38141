"""What a task prints in the calling thread."""

from __future__ import annotations

import io

from alamo.worker import output


class Printed(io.StringIO):
    """A stream that stays open when a task closes it."""

    def close(self) -> None:
        """Do nothing."""

    def taken(self) -> bytes:
        """What was printed, or its head and tail."""
        return output.shortened(self.getvalue().encode("utf-8", "backslashreplace"))
