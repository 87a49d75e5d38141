"""When the scheduler has to be woken."""

from __future__ import annotations

from alamo.core import events as ev


class Alarm:
    """Asks for the earliest of the times at which something is to be done.

    Args:
        effects: where the request goes.
    """

    def __init__(self, effects: list[ev.Effect]) -> None:
        self._effects = effects
        self._at_s: float | None = None

    def ask(self, at_s: float) -> None:
        """Be woken at this time at the latest.

        Whoever asks looks again at each waking, and asks again where it was too early.
        """
        if self._at_s is None or at_s < self._at_s:
            self._at_s = at_s
            self._effects.append(ev.WakeAt(at_s))

    def woken(self) -> None:
        """A time has come."""
        self._at_s = None
