"""Calls of an executor: single tasks that are sent many at a time and leave nothing behind."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from alamo.batch.call_future import CallFuture
from alamo.batch.outcomes import Program
from alamo.batch.results import compiling
from alamo.batch.single import PROGRAM_MAX, NoHandles, SingleTasks
from alamo.errors import BatchBroken
from alamo.protocol import messages as msg
from alamo.protocol.importable import importable
from alamo.protocol.records import Record
from alamo.worker.calls import apply

if TYPE_CHECKING:
    from alamo.batch.client import Client

#: A plain tuple, for there are many.
Call: TypeAlias = tuple[CallFuture, Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_decode_record = msgspec.msgpack.Decoder(Record).decode


class Arrival(NamedTuple):
    """Outcomes that have come, or never will."""

    program: CallProgram
    elements: Sequence[int]
    broken: BaseException | None = None


class CallProgram(Program):
    """A program of calls: its outcomes are taken out as they come, and are not kept.

    Attributes:
        futures: of each element; ``None`` when that has ended.
        left: how many have not ended.
    """

    def __init__(self, number: int, client: Client, inbox: SimpleQueue[Any]) -> None:
        super().__init__(number, client)
        self._inbox = inbox
        self.futures: list[CallFuture | None] = []
        self.left = 0

    def _note_arrival(self, elements: Sequence[int]) -> None:
        self._inbox.put(Arrival(self, elements))

    def break_off(self, error: BaseException) -> None:
        """No further outcome will come."""
        super().break_off(error)
        if self.broken is not None:
            self._inbox.put(Arrival(self, (), self.broken))

    def take(self, element: int) -> Any:
        """The value of a call, once; raises its exception."""
        value = self.value(element)
        if self._values:
            self._values.pop(element, None)
        return value

    def printed(self, element: int) -> tuple[bytes, bytes] | None:
        """What a call wrote to stdout and stderr, if anything."""
        data = self._data(element)
        if not data or data[0] == 0x80:
            return None
        record = _decode_record(data)
        return record.stdout, record.stderr


class Calls(SingleTasks):
    """Sends the calls of one executor, from one thread.

    Args:
        inbox: gets an ``Arrival`` for what comes back.

    Attributes:
        programs: those with calls that have not ended, and perhaps some others.
    """

    def __init__(self, client: Client, inbox: SimpleQueue[Any]) -> None:
        super().__init__(client)
        self._inbox = inbox
        self.programs: set[CallProgram] = set()

    def _new_program(self) -> CallProgram:
        client = self._client
        program = CallProgram(client.next_program_number(), client, self._inbox)
        self.programs = {p for p in self.programs if p.left}
        self.programs.add(program)
        return client.adopt(program)

    def send(self, calls: Sequence[Call]) -> int:
        """Send calls that have begun; one that cannot be pickled ends with that error.

        Returns:
            How many are under way now.

        Raises:
            BatchBroken: the service is gone; some may have been sent.
        """
        sent = at = 0
        while at < len(calls):
            program = self._open()
            assert isinstance(program, CallProgram)
            page = calls[at : at + PROGRAM_MAX - program.count]
            sent += self._send_page(program, page)
            at += len(page)
        return sent

    def _send_page(self, program: CallProgram, calls: Sequence[Call]) -> int:
        client, shared = self._client, self._shared
        assert shared is not None
        assert program.uids is not None
        shared.forget()
        importable.scan()
        numbers, lengths = array("I"), array("I")
        blobs: list[bytes] = []
        objects: list[tuple[int, tuple[int, ...]]] = []
        first, now_s = program.count, monotonic()
        by_identity: dict[int, int] = {}
        compiling.compiler = NoHandles
        try:
            for future, function, args, keywords in calls:
                called = function
                if keywords or not _is_lasting(function):
                    called, args = apply, (function, keywords, *args)
                try:
                    number = by_identity.get(id(called), -1)
                    if number < 0:
                        number = by_identity[id(called)] = self._functions.number(called)
                    data = shared.dump(args, [])
                except BatchBroken:
                    raise
                except Exception as error:
                    future.set_exception(error.with_traceback(None))
                    continue
                if shared.used:
                    objects.append((first + len(blobs), tuple(shared.used)))
                blobs.append(data)
                lengths.append(len(data))
                numbers.append(number)
                future.sent_s = now_s
                program.futures.append(future)
                program.uids.append(next(client.uids))
                program.names[first + len(blobs) - 1] = _name_of(function)
        finally:
            compiling.compiler = None
        if blobs:
            data = b"".join(blobs)
            program.add_elements(len(blobs), len(blobs))
            program.left += len(blobs)
            functions = numbers[0] if len(by_identity) == 1 else numbers.tobytes()
            page = msg.Page(
                program.number,
                len(blobs),
                functions,
                lengths.tobytes(),
                data,
                objects=tuple(objects),
            )
            self._send_with_seal(program, page, len(data))
        return len(blobs)


def _is_lasting(function: Any) -> bool:
    """Whether it is one of a limited number of functions, each of which the manager may keep.

    Others (bound methods, partials, closures) travel as arguments.
    """
    kind = function.__class__
    if kind is FunctionType:
        return "<" not in function.__qualname__
    return kind is BuiltinFunctionType and function.__self__.__class__ is _MODULE


_MODULE = type(msgspec)


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__
