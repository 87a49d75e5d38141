"""What a task prints in the calling thread."""

from __future__ import annotations

import io

from alamo.protocol import shortening


class Printed(io.TextIOWrapper):
    """A stream that takes bytes too, through ``buffer``, and stays open when a task closes it."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, "utf-8", "backslashreplace", newline="", write_through=True)

    def close(self) -> None:
        """Do nothing."""

    def taken(self) -> bytes:
        """What was printed, or its head and tail."""
        return shortening.shortened(self._bytes.getvalue())
