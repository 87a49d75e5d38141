"""What stands in a DDict or a Queue for its store once it is closed."""

from __future__ import annotations

from typing import Any, NoReturn

from alamo.errors import UsageError

__all__ = ["Closed"]


class Closed:
    """Refuses whatever it is asked, so that nothing need be checked while the real one is there.

    Args:
        id, place: those of the store that was there.
        what: how errors call what was closed.
        why: "closed" or "destroyed".
    """

    def __init__(self, id: str, place: str, what: str, why: str) -> None:
        self.id = id
        self.place = place
        self.why = why
        self._error = f"{what} was {why} in this process: it cannot be used any more. " + (
            "Close it later, or make or open another"
            if why == "closed"
            else "It is gone for all processes: make another"
        )

    def close(self) -> None:
        """It is."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(self._error)
