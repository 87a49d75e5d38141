"""Arguments that are large or used by several tasks: shipped once a program.

An object that recurs within one compile is pickled once; every task still gets a fresh
copy, made in the worker.  Large buffers travel in shared memory blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from alamo.batch.parts import ProgramParts
from alamo.errors import BatchBroken
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.blocks import raw_views
from alamo.protocol.framing import DESCRIPTORS_MAX
from alamo.protocol.pickling import ATOMS
from alamo.protocol.placeholders import SharedObject

if TYPE_CHECKING:
    from alamo.batch.client import Client

Send = Callable[..., None]

#: An object whose pickle is smaller than this stays inside the arguments, however often it recurs.
SHARED_MIN_BYTES = 1024
#: Strings are cheap to copy: from this length on they are shipped apart even if they do not recur.
_LONG_TEXT = 64 * 1024
#: Objects go to the manager together, up to these bytes: each message alone wakes it up.
_UNSENT_MAX_BYTES = 1 << 18


class SharedObjects:
    """The shared objects of one program.

    Args:
        send: sends messages to the manager, behind the one that opens the program.

    Attributes:
        used: numbers of those that the arguments pickled last refer to.
        texts: ids of strings that are worth a placeholder.
        parts: what stands for classes and functions by value.
        shipped_bytes: size of all.
    """

    def __init__(self, client: Client, program: int, send: Send) -> None:
        self._client = client
        self._program = program
        self._send = send
        # id -> (the object, kept alive so that its id stays its own; its number or -1; its sources)
        self._known: dict[int, tuple[Any, int, tuple[int, ...]]] = {}
        self._count = 0
        self._recent: set[int] = set()
        #: One of these types was large: the next is looked at by itself at once.
        self._large: set[type] = set()
        self._unsent: list[msg.Message] = []
        self._unsent_fds: list[int] = []
        self._unsent_bytes = 0
        self.used: list[int] = []
        self.texts: set[int] = set()
        self.parts = ProgramParts(self._ship_part)
        self.shipped_bytes = 0

    def dump(self, args: tuple[Any, ...], sources: list[int]) -> bytes:
        """Pickle a task's arguments with placeholders for those that are large.

        Args:
            sources: the list to which handles add their elements while they are pickled;
                afterwards those of these arguments are in it, and no others.

        Cost: 3 us for small ones; 12 with an instance of a class by value.
        """
        sources.clear()
        used: list[int] = []
        self.used = used
        large, texts, placed = self._large, self.texts, args
        if texts or (large and not large.isdisjoint(map(type, args))):
            placed = tuple(
                [
                    self._place(a, sources) if a.__class__ in large or id(a) in texts else a
                    for a in args
                ]
            )
        data, buffers = pickling.dump(placed, self.parts)
        if not buffers and len(data) < SHARED_MIN_BYTES:
            return data
        found = sources[:]
        sources.clear()
        self.used = []
        placed = tuple(
            [
                a if a.__class__ in ATOMS and id(a) not in texts else self._place(a, sources)
                for a in args
            ]
        )
        if not buffers and self.used == used:  # many small ones
            sources[:] = found
            return data
        data, buffers = pickling.dump(placed, self.parts)
        if buffers:  # a large array inside a container that was placed in line
            placed = tuple([self._force(a, sources) for a in placed])
            data, _ = pickling.dump(placed, self.parts)
        return data

    def forget(self) -> None:
        """What was pickled so far may have changed since: pickle it anew."""
        self._known.clear()
        self.parts.forget()

    def end(self) -> None:
        """Nothing more is pickled: let go of the objects and of the sender, which holds this."""
        self.forget()
        del self._send

    def _place(self, value: Any, sources: list[int]) -> Any:
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
            self._recent.add(number)
        return SharedObject(number)

    def forget_unused(self) -> list[int]:
        """Forget what has not been used since the last call; it would be pickled anew.

        Returns:
            The numbers that are not used again.
        """
        recent, self._recent = self._recent, set()
        unused = [k[1] for k in self._known.values() if k[1] >= 0 and k[1] not in recent]
        self._known = {key: k for key, k in self._known.items() if k[1] in recent}
        self.parts.forget()
        return unused

    def take_unsent(self) -> tuple[list[msg.Message], list[int]]:
        """Messages, to be sent before the page that refers to them, and their descriptors.

        The caller sends and closes these.
        """
        unsent = self._unsent, self._unsent_fds
        self._unsent, self._unsent_fds, self._unsent_bytes = [], [], 0
        return unsent

    def close(self) -> None:
        """Send what no page follows any more: its blocks come back when the program ends."""
        if self._unsent:
            with suppress(BatchBroken):
                send_and_close(self._send, *self.take_unsent())

    def take_shipped(self) -> int:
        """Bytes shipped since the last call."""
        shipped, self.shipped_bytes = self.shipped_bytes, 0
        return shipped

    def _force(self, value: Any, sources: list[int]) -> Any:
        """A placeholder for an argument with large buffers that was left in line."""
        if isinstance(value, SharedObject):
            return value
        self._known.pop(id(value), None)
        return self._place(value, sources)

    def _measure(self, value: Any, sources: list[int]) -> tuple[Any, int, tuple[int, ...]]:
        before = len(sources)
        data, buffers = pickling.dump(value, self.parts)
        inside = tuple(sources[before:])
        del sources[before:]  # they are added again by the pickle that counts
        number = -1
        if buffers or len(data) >= SHARED_MIN_BYTES:
            if value.__class__ is not str:
                self._large.add(value.__class__)
            number = self._ship(value, data, buffers)
        known = self._known[id(value)] = (value, number, inside)
        return known

    def _ship(
        self, value: Any, data: bytes, buffers: list[PickleBuffer], is_part: bool = False
    ) -> int:
        """Have a pickled object sent before the next page; returns its number."""
        message = msg.ObjectDefined(self._program, self._count, data, is_part=is_part)
        self._count += 1
        self.shipped_bytes += len(data) + sum([b.raw().nbytes for b in buffers])
        filled = self._client.blocks.fill(raw_views(buffers)) if buffers else None
        if filled is not None:
            message.block, message.spans, size, fd = filled
            if fd >= 0:
                self._unsent.append(msg.BlockMade(message.block, size))
                self._unsent_fds.append(fd)
        elif buffers:
            message.value = pickling.dump_in_line(value)
        self._unsent.append(message)
        self._unsent_bytes += len(message.value)
        if len(self._unsent_fds) >= DESCRIPTORS_MAX or self._unsent_bytes > _UNSENT_MAX_BYTES:
            send_and_close(self._send, *self.take_unsent())
        return message.number

    def _ship_part(self, part: Any, data: bytes, buffers: list[PickleBuffer]) -> int:
        return self._ship(part, data, buffers, True)


def send_and_close(send: Send, messages: list[msg.Message], fds: list[int]) -> None:
    """Send messages and close the descriptors that went with them."""
    try:
        send(messages, fds)
    finally:
        for fd in fds:
            os.close(fd)


def long_texts(all_args: Iterable[tuple[Any, ...]]) -> set[int]:
    """Ids of strings that recur in the arguments of these tasks, or are very long."""
    once: set[int] = set()
    found: set[int] = set()
    for args in all_args:
        for value in args:
            if value.__class__ is str and len(value) >= SHARED_MIN_BYTES:
                key = id(value)
                (found if key in once or len(value) >= _LONG_TEXT else once).add(key)
    return found
