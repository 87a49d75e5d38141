"""What a handle of an array wants to know of it, however its elements are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from alamo.errors import TaskCancelled

if TYPE_CHECKING:
    from alamo.batch.arrivals import Arrivals
    from alamo.batch.outcomes import Program
    from alamo.batch.task_stats import TaskStats

#: Indices that an error names.
_NAMED = 10


class Outcome(msgspec.Struct, frozen=True):
    """How an element of an array ended.

    Attributes:
        value: what it returned; ``None`` if it failed.
        error: what it raised; ``None`` if it succeeded.

    Example:
        >>> Outcome(3).ok, Outcome(error=ValueError("no")).ok
        (True, False)
    """

    value: Any = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None

    def get(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class ArrayView(ABC):
    """The elements of one array, 0 to ``size`` - 1 as far as they have been made.

    Attributes:
        uid, name: the array's.
        function_name: what its function is called.
        feed_error: what its iterables raised; there are no elements after that.
        cancel_reason: why all of it was cancelled, as the user said; ``None``: it was not.
    """

    uid: int
    name: str | None
    function_name: str | None = None
    feed_error: BaseException | None = None
    cancel_reason: str | None = None

    @property
    @abstractmethod
    def size(self) -> int:
        """Elements made so far."""

    @abstractmethod
    def wait_all(self, timeout_s: float | None) -> None:
        """Wait until all have ended.  Raises ``WaitTimeout``, ``BatchBroken``."""

    @abstractmethod
    def wait_one(self, index: int, timeout_s: float | None) -> bool:
        """Wait until one has ended; ``False`` if there is no such element."""

    @abstractmethod
    def wait_length(self) -> int:
        """Wait until it is known how many there will be."""

    @abstractmethod
    def watch_one(self, index: int, waiter: Any) -> bool:
        """Have ``waiter.release()`` called when one may have ended; as ``Program.watch``.

        ``False``: ``wait_one`` does not wait any more.
        """

    @abstractmethod
    def forget_one(self, index: int, waiter: Any) -> None:
        """Nobody waits any more."""

    @abstractmethod
    def completed(self, timeout_s: float | None) -> Arrivals[int]:
        """Indices as they end."""

    @abstractmethod
    def value_at(self, index: int) -> Any:
        """The value of an element that has ended; raises its error."""

    @abstractmethod
    def text_at(self, index: int, stream: int) -> str | bytes:
        """What an element that has ended printed."""

    @abstractmethod
    def place_of(self, index: int) -> tuple[Program, int]:
        """The program of an element, and its number there."""

    @abstractmethod
    def stats_at(self, index: int) -> TaskStats | None:
        """What is known of an element's run, if it has ended."""

    @abstractmethod
    def values(self) -> tuple[list[Any], dict[int, BaseException]]:
        """The values of all, which have ended, and the errors of those that failed."""

    @abstractmethod
    def skip(self) -> None:
        """A task whose output the array needs has failed: it will not run."""

    @abstractmethod
    def raise_if_skipped(self) -> None:
        """Raise why the array as a whole did not run, if it did not."""

    def array_title(self) -> str:
        """How messages name the array."""
        return f"task {self.uid}" + (f" ({self.name})" if self.name else "")

    def outcome_at(self, index: int) -> Outcome:
        """The outcome of an element that has ended."""
        try:
            return Outcome(self.value_at(index))
        except Exception as error:
            return Outcome(None, error)

    def all_outcomes(self) -> list[Outcome]:
        """The outcomes of all, which have ended; one more if the iterables raised."""
        self.raise_if_skipped()
        values, errors = self.values()
        outcomes = [Outcome(value) for value in values]
        for index, error in errors.items():
            outcomes[index] = Outcome(None, error)
        if self.feed_error is not None:
            outcomes.append(Outcome(None, self.feed_error))
        return outcomes

    def all_values(self) -> list[Any]:
        """The values of all, which have ended.

        Raises:
            ExceptionGroup: what the elements raised; its message names the failed indices.
            UpstreamFailed: the array did not run.
            TaskCancelled: it was cancelled before all had ended.
        """
        self.raise_if_skipped()
        values, errors = self.values()
        if errors or self.feed_error is not None:
            if self.cancel_reason is not None and _are_cancelled(errors, self.feed_error):
                raise self.cancelled_error()
            raise self._group(errors)
        return values

    def cancelled_error(self) -> TaskCancelled:
        """The error of the array as a whole when that was cancelled."""
        text = f"{self.array_title()} was cancelled"
        if self.cancel_reason:
            text += f": {self.cancel_reason}"
        return TaskCancelled(text, self.uid)

    def _group(self, errors: dict[int, BaseException]) -> BaseException:
        failed, array = sorted(errors), self.array_title()
        what = []
        if failed:
            names = ", ".join(map(str, failed[:_NAMED])) + (", ..." if failed[_NAMED:] else "")
            what.append(f"{len(failed)} of {self.size} elements of {array} failed: {names}")
        found = [errors[i] for i in failed]
        if self.feed_error is not None:
            what.append(f"the arguments of {array} broke off after {self.size} elements")
            found.append(self.feed_error)
        return BaseExceptionGroup("; ".join(what), found)


def _are_cancelled(errors: dict[int, BaseException], feed_error: BaseException | None) -> bool:
    """Whether one did not end because it was cancelled."""
    return isinstance(feed_error, TaskCancelled) or any(
        isinstance(error, TaskCancelled) for error in errors.values()
    )
