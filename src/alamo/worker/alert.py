"""Whether a task has done something that is not seen in its return value."""

from __future__ import annotations


class Alert:
    """A flag that elements too short to be looked at one by one are told apart by.

    Attributes:
        raised: since it was cleared last, Python code has printed, or called something that
            may change the process.
    """

    __slots__ = ("raised",)

    def __init__(self) -> None:
        self.raised = False


alert = Alert()
