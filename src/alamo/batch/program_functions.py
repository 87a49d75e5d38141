"""Functions of one program that are pickled by value: the manager forgets them with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from alamo.protocol import messages as msg
from alamo.protocol import pickling

if TYPE_CHECKING:
    from alamo.batch.client import Client


class ProgramFunctions:
    """Numbers for the functions of one program.

    Those that travel by reference are small, few and kept by the client; others may hold
    any data and are pickled anew by each program, for what they refer to may have changed.

    Args:
        send: sends messages to the manager, behind the one that opens the program.

    Attributes:
        sent_bytes: size of all that were sent.
    """

    def __init__(self, client: Client, program: int, send: Callable[..., None]) -> None:
        self._client = client
        self._program = program
        self._send = send
        self._numbers: dict[bytes, int] = {}
        self.sent_bytes = 0

    def number(self, function: Callable[..., Any]) -> int:
        """The number of a function that the manager knows, sending it if it is new.

        Raises:
            SerializationError: it cannot be pickled.
        """
        number = self._client.functions.number_of(function)
        if number is not None:
            return number
        blob = pickling.dump_function(function)
        if pickling.is_reference(blob):
            return self._client.functions.add(function, blob)
        number = self._numbers.get(blob)
        if number is None:
            number = self._client.functions.next_number()
            self._send([msg.FunctionDefined(number, blob, self._program)])
            self._numbers[blob] = number
            self.sent_bytes += len(blob)
        return number
