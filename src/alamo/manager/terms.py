"""What the elements of one program ask for, as its client said it."""

from __future__ import annotations

from array import array

from alamo.core.terms import Need, Terms
from alamo.errors import ProtocolError
from alamo.protocol import messages as msg


class TermsTable:
    """Terms by number, and which each element has.

    Example:
        >>> table = TermsTable(); table.define(msg.TermsDefined(7, 1, timeout_s=2.0))
        >>> table.add_page(0, 3, 0); table.add_page(3, 2, 1)
        >>> table.of(2), table.of(3).timeout_s
        (None, 2.0)

    Memory: nothing an element while all have the same, else 4 bytes.
    """

    __slots__ = ("_column", "_uniform", "by_number", "is_limited")

    def __init__(self) -> None:
        self.by_number: dict[int, msg.TermsDefined] = {}
        self._uniform: int | None = None
        self._column: array[int] | None = None
        #: Some have a limit of time or memory.
        self.is_limited = False

    def define(self, message: msg.TermsDefined) -> None:
        """Take in terms.

        Raises:
            ProtocolError: that number is no new one, or nothing can be like that.
        """
        if message.number != len(self.by_number) + 1:
            raise ProtocolError("terms whose number is not the next")
        amounts = (
            message.cores - 1,
            message.gpu_parts,
            message.memory_bytes,
            message.timeout_s,
            message.retries,
            message.backoff_s,
            message.factor,
            message.jitter,
        )
        if not all(amount >= 0 for amount in amounts):
            raise ProtocolError("terms with an amount below nothing")
        self.by_number[message.number] = message
        self.is_limited = self.is_limited or bool(message.timeout_s or message.memory_bytes)

    def check(self, page: msg.Page) -> None:
        """Whether a page's terms fit it and are known.

        Raises:
            ProtocolError: they do not.
        """
        if isinstance(page.terms, int):
            used = {page.terms}
        elif len(page.terms) == 4 * page.count:
            used = set(memoryview(page.terms).cast("I"))
        else:
            raise ProtocolError("a page whose terms do not fit its elements")
        if not used <= {0, *self.by_number}:
            raise ProtocolError("a page whose terms were not defined")

    def add_page(self, first: int, count: int, terms: int | bytes) -> None:
        """The terms of ``count`` elements from ``first`` on, which follow those that are there."""
        if isinstance(terms, int) and self._column is None and self._uniform in (None, terms):
            self._uniform = terms
            return
        if self._column is None:
            self._column = array("I", [self._uniform or 0]) * first
        if isinstance(terms, int):
            self._column.extend(array("I", [terms]) * count)
        else:
            self._column.frombytes(terms)

    def of(self, element: int) -> msg.TermsDefined | None:
        """The terms of an element, ``None`` where it has none."""
        number = self._uniform if self._column is None else self._column[element]
        return self.by_number.get(number or 0)


def core_terms(message: msg.TermsDefined) -> Terms:
    """What the scheduler knows of terms."""
    need = Need(
        message.cores,
        message.gpu_parts,
        message.gpu_choice,
        message.memory_bytes,
        message.cpus,
        message.pinned,
        message.bound,
    )
    return Terms(need, message.retries, message.backoff_s, message.factor, message.jitter)
