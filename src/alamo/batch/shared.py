"""Arguments that are large or used by several tasks: shipped once a program.

An object that recurs within one compile is pickled once; every task still gets a fresh
copy, made in the worker.  Large buffers travel in shared memory blocks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from alamo.core.access import DataAccess
from alamo.errors import UsageError
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.blocks import raw_views
from alamo.protocol.placeholders import SharedObject

if TYPE_CHECKING:
    from alamo.batch.client import Client

#: An object whose pickle is smaller than this stays inside the arguments, however often it recurs.
SHARED_MIN_BYTES = 1024


class SharedObjects:
    """The shared objects of one program.

    Attributes:
        used: numbers of those that the arguments pickled last refer to.
        shipped_bytes: size of all.
    """

    def __init__(self, client: Client, program: int) -> None:
        self._client = client
        self._program = program
        # id -> (the object, kept alive so that its id stays its own; its number or -1; its sources)
        self._known: dict[int, tuple[Any, int, tuple[int, ...]]] = {}
        self._count = 0
        self.used: list[int] = []
        self.shipped_bytes = 0

    def place(self, value: Any, sources: list[int]) -> Any:
        """What stands for an argument: itself when small, else a placeholder.

        Args:
            sources: list to which handles inside the argument add their elements.
        """
        known = self._known.get(id(value))
        if known is None:
            known = self._measure(value, sources)
        _, number, inside = known
        if number < 0:
            return value
        sources.extend(inside)
        if number not in self.used:
            self.used.append(number)
        return SharedObject(number)

    def forget(self) -> None:
        """What was pickled so far may have changed since: pickle it anew."""
        self._known.clear()
        self.used = []

    def force(self, value: Any, sources: list[int]) -> Any:
        """A placeholder for an argument with large buffers that was left in line."""
        if isinstance(value, SharedObject):
            return value
        self._known.pop(id(value), None)
        return self.place(value, sources)

    def _measure(self, value: Any, sources: list[int]) -> tuple[Any, int, tuple[int, ...]]:
        if value.__class__ is DataAccess:
            raise UsageError(
                f"{value!r} is an access, not an argument; give accesses behind all arguments, "
                "or as reads= and writes="
            )
        before = len(sources)
        data, buffers = pickling.dump(value)
        inside = tuple(sources[before:])
        del sources[before:]  # they are added again by the pickle that counts
        number = -1
        if buffers or len(data) >= SHARED_MIN_BYTES:
            number = self._count
            self._count += 1
            self._ship(number, value, data, buffers)
            self.shipped_bytes += len(data) + sum([b.raw().nbytes for b in buffers])
        known = self._known[id(value)] = (value, number, inside)
        return known

    def _ship(self, number: int, value: Any, data: bytes, buffers: list[Any]) -> None:
        client = self._client
        if not buffers:
            client.send([msg.ObjectDefined(self._program, number, data)])
            return
        filled = client.blocks.fill(raw_views(buffers))
        if filled is None:
            data = pickling.dump_in_line(value)
            client.send([msg.ObjectDefined(self._program, number, data)])
            return
        block, spans, size, fd = filled
        if fd >= 0:
            client.send([msg.BlockMade(block, size)], (fd,))
            os.close(fd)
        client.send([msg.ObjectDefined(self._program, number, data, block, spans)])
