"""The options of the tasks of one program, by number."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from alamo.batch.options import Options
from alamo.protocol import messages as msg


class ProgramTerms:
    """Numbers the options of one program's tasks: 0 for none, the same for equal ones.

    Attributes:
        unsent: definitions that must go out before what refers to them.
    """

    def __init__(self, program: int) -> None:
        self._program = program
        self._numbers: dict[Options, int] = {}
        #: By identity: hashing them costs a microsecond.  Holds them, so that no id comes twice.
        self._by_id: dict[int, tuple[Options, int]] = {}
        self._count = 0
        self.unsent: list[msg.Message] = []

    def number(self, options: Options | None) -> int:
        """The number of the terms in these options."""
        if options is None or not options.has_terms:
            return 0
        found = self._by_id.get(id(options))
        if found is not None:
            return found[1]
        number = self._numbers.get(options)
        if number is None:
            self._count += 1
            number = self._numbers[options] = self._count
            self.unsent.append(options.terms(self._program, number))
        self._by_id[id(options)] = options, number
        return number

    def column(self, given: Iterable[tuple[int, Options | None]], count: int) -> int | bytes:
        """The terms of ``count`` neighbouring elements, as in a page.

        Args:
            given: pairs of a position among them and what the task there was given; the others
                were given nothing.
        """
        numbers = array("I", bytes(4 * count))
        for position, options in given:
            numbers[position] = self.number(options)
        first = numbers[0]
        return first if numbers == array("I", [first]) * count else numbers.tobytes()

    def take_unsent(self) -> list[msg.Message]:
        """Definitions that nobody has sent yet."""
        unsent, self.unsent = self.unsent, []
        return unsent
