"""Which terms each element of a program has: a number a run of alike ones, or a column a page."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from alamo.core.terms import DEFAULT_TERMS, ONE_CORE, Terms
from alamo.errors import GraphError


class TermTable:
    """Terms by number, and the numbers of a program's elements.

    Attributes:
        terms: by number; those of number 0 are the default.
        has_needs: whether an element that needs more than one core may be among them.

    Memory: nothing while all elements have the default, a few words for neighbours that are
    alike, 4 bytes an element where they differ.

    Example:
        >>> table = TermTable(); table.define(1, Terms(retries=3)); table.add_page(0, 1024, 0)
        >>> table.add_page(1024, 5, 1); table.of(1023).retries, table.of(1024).retries
        (0, 3)
    """

    __slots__ = ("_firsts", "_numbers", "has_needs", "terms")

    def __init__(self) -> None:
        self.terms: list[Terms] = [DEFAULT_TERMS]
        self.has_needs = False
        # Runs of elements: where each begins, and the number of all or the column.
        self._firsts: list[int] = []
        self._numbers: list[int | array[int]] = []

    def define(self, number: int, terms: Terms) -> None:
        """Elements may refer to these terms from now on.

        Raises:
            GraphError: the number is not the next one.
        """
        if number != len(self.terms):
            raise GraphError(f"terms {number} where {len(self.terms)} are due")
        self.terms.append(terms)

    def add_page(self, first: int, count: int, terms: int | bytes) -> None:
        """Take in the terms of ``count`` elements from ``first`` on.

        Raises:
            GraphError: a number that is not defined, or not one for each; nothing has changed.
        """
        if not isinstance(terms, int):
            if len(terms) != 4 * count:
                raise GraphError(f"{len(terms)} bytes of terms for {count} elements")
            column = array("I", bytes(terms))
            used = set(column)
            if len(used) > 1:
                self._check(max(used))
                self._firsts.append(first)
                self._numbers.append(column)
                self._look_for_needs(used)
                return
            terms = used.pop() if used else 0
        self._check(terms)
        if not count:
            return
        if terms != (self._numbers[-1] if self._numbers else 0):
            self._firsts.append(first)
            self._numbers.append(terms)
            self._look_for_needs({terms})

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self.terms):
            raise GraphError(f"terms {number}, of which {len(self.terms)} are defined")

    def _look_for_needs(self, used: set[int]) -> None:
        if not self.has_needs:
            self.has_needs = any(self.terms[number].need != ONE_CORE for number in used)

    def number_of(self, element: int) -> int:
        """The number of the element's terms.  Cost: O(log runs)."""
        k = bisect_right(self._firsts, element) - 1
        if k < 0:
            return 0
        numbers = self._numbers[k]
        return numbers if isinstance(numbers, int) else numbers[element - self._firsts[k]]

    def of(self, element: int) -> Terms:
        """The element's terms."""
        return self.terms[self.number_of(element)]

    def numbers(self, elements: Sequence[int]) -> Sequence[int]:
        """The numbers of several elements.  Cost: O(1) an element."""
        if len(self._firsts) == 1 and self._firsts[0] == 0:
            numbers = self._numbers[0]
            if isinstance(numbers, int):
                return [numbers] * len(elements)
        return [self.number_of(element) for element in elements]

    def runs(self, elements: range) -> Iterator[tuple[range, int]]:
        """Neighbouring elements in parts that have one number each.

        Cost: O(1) for alike neighbours, O(1) an element where they differ.
        """
        at, stop = elements.start, elements.stop
        while at < stop:
            k = bisect_right(self._firsts, at) - 1
            end = min(stop, self._firsts[k + 1] if k + 1 < len(self._firsts) else stop)
            numbers = self._numbers[k] if k >= 0 else 0
            if isinstance(numbers, int):
                yield range(at, end), numbers
                at = end
                continue
            first = self._firsts[k]
            while at < end:
                begin, number = at, numbers[at - first]
                while at < end and numbers[at - first] == number:
                    at += 1
                yield range(begin, at), number
