"""Stand-ins for what stderr may be."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any


class Screen(io.StringIO):
    """A terminal that remembers all that was written to it."""

    def isatty(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing."""

    @property
    def drawn(self) -> list[str]:
        """Each state of the line that is drawn again and again."""
        return [part.strip() for part in self.getvalue().split("\r") if part.strip()]


class Gone(Screen):
    """A terminal whose other end has been closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def on_screen(test: Callable[..., None]) -> Callable[..., None]:
    """What the test prints goes to its ``screen``.

    Not the fixture's work: pytest replaces ``sys.stderr`` when the test begins.
    """

    @functools.wraps(test)
    def inside(*args: Any, screen: io.StringIO, **kwargs: Any) -> None:
        with redirect_stderr(screen):
            test(*args, screen=screen, **kwargs)

    return inside
