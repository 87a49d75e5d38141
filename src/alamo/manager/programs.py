"""The user's data of each program, as opaque bytes, and chunks made of it for workers."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter

from alamo.core.chunks import Chunk
from alamo.errors import ProtocolError
from alamo.manager.terms import TermsTable
from alamo.protocol import messages as msg


class Segment:
    """Neighbouring elements of a program: functions and pickled arguments in columns."""

    __slots__ = ("_offsets", "args", "count", "first", "functions", "lengths")

    def __init__(
        self, first: int, count: int, functions: int | array[int], lengths: array[int], args: bytes
    ) -> None:
        self.first = first
        self.count = count
        self.functions = functions
        self.lengths = lengths
        self.args = args
        self._offsets: array[int] | None = None

    @property
    def offsets(self) -> array[int]:
        """Where each element's arguments begin, and the end of the last."""
        if self._offsets is None:
            try:
                self._offsets = array("I", accumulate(self.lengths, initial=0))
            except OverflowError:  # 4 GiB and more
                self._offsets = array("Q", accumulate(self.lengths, initial=0))
        return self._offsets

    def take_range(self, a: int, b: int) -> tuple[int | bytes, bytes, bytes]:
        """Functions, lengths and arguments of positions a..b."""
        functions = (
            self.functions if isinstance(self.functions, int) else self.functions[a:b].tobytes()
        )
        if a == 0 and b == self.count:
            return functions, self.lengths.tobytes(), self.args
        offsets = self.offsets
        return functions, self.lengths[a:b].tobytes(), self.args[offsets[a] : offsets[b]]

    def take_list(self, positions: Sequence[int]) -> tuple[int | bytes, bytes, bytes]:
        """The same of scattered positions."""
        if len(positions) == 1:
            return self.take_range(positions[0], positions[0] + 1)
        pick = itemgetter(*positions)
        lengths = array("I", pick(self.lengths))
        args, offsets = self.args, self.offsets
        blob = b"".join([args[a : a + n] for a, n in zip(pick(offsets), lengths, strict=True)])
        functions = self.functions
        if not isinstance(functions, int):
            functions = array("I", pick(functions))
            return functions.tobytes(), lengths.tobytes(), blob
        return functions, lengths.tobytes(), blob


class ProgramData:
    """One program as its client sent it.

    Attributes:
        number: the manager's number; ``remote`` is the client's own.
        inputs: element -> elements whose outcome is among its arguments.
        objects: element -> numbers of objects that its arguments refer to.
        kept: outcomes of elements that are arguments of others, as bytes.
        kept_blocks: element -> the shared blocks that its kept outcome refers to.
        consumers: element -> how many unfinished elements need its outcome.
        object_users: object number -> how many unfinished elements need it.
        definitions: object number -> its message.
        parts: numbers of objects that any element may need, also as a part of an outcome.
        functions: the client's numbers -> the manager's, of those that are forgotten with it.
        gated: elements that stand for an array -> the number of its program.
        terms: what elements ask for, ``None`` where none asks for anything.
        cancelled: why all of it was cancelled.
        cancelled_each: element -> why, of those that were cancelled one by one.
    """

    is_array = False

    def __init__(self, number: int, client: int, remote: int, cwd: bytes) -> None:
        self.number = number
        self.client = client
        self.remote = remote
        self.cwd = cwd
        self.count = 0
        self._segments: list[Segment] = []
        self._firsts: list[int] = []
        self.inputs: dict[int, tuple[int, ...]] = {}
        self.objects: dict[int, tuple[int, ...]] = {}
        self.kept: dict[int, bytes] = {}
        self.kept_blocks: dict[int, list[int]] = {}
        self.consumers: dict[int, int] = {}
        self.object_users: dict[int, int] = {}
        self.definitions: dict[int, msg.ObjectDefined] = {}
        self.parts: list[int] = []
        self.functions: dict[int, int] = {}
        self.gated: dict[int, int] = {}
        self.terms: TermsTable | None = None
        self.cancelled = ""
        self.cancelled_each: dict[int, str] = {}

    def note_cancel(self, elements: Sequence[int] | None, reason: str) -> None:
        """Keep why elements are cancelled, or all."""
        if elements is None:
            self.cancelled = reason
        elif reason:
            self.cancelled_each.update(dict.fromkeys(elements, reason))

    def why_cancelled(self, element: int) -> str:
        """Why an element was cancelled, as the user said."""
        return self.cancelled_each.get(element, self.cancelled)

    def add_page(self, page: msg.Page, functions: int | array[int]) -> None:
        """Append a page, whose function numbers are translated to the manager's."""
        lengths = array("I")
        lengths.frombytes(page.lengths)
        self._append(Segment(self.count, page.count, functions, lengths, page.args))
        self.count += page.count
        for element, sources in page.inputs:
            self.inputs[element] = sources
            for source in sources:
                self.consumers[source] = self.consumers.get(source, 0) + 1
        self._note_objects(page)

    def _note_objects(self, page: msg.Page) -> None:
        for element, numbers in page.objects:
            self.objects[element] = numbers
            for number in numbers:
                self.object_users[number] = self.object_users.get(number, 0) + 1

    def add_object(self, message: msg.ObjectDefined) -> None:
        """Keep an object until no unfinished element needs it."""
        self.definitions[message.number] = message
        if message.is_part:
            self.parts.append(message.number)

    def _append(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._firsts.append(segment.first)

    def merge(self) -> None:
        """Make all pages one, when the program starts: any chunk is then one slice."""
        segments = self._segments
        if len(segments) < 2:
            return
        lengths = array("I")
        for segment in segments:
            lengths += segment.lengths
        first = segments[0].functions
        functions: int | array[int]
        if isinstance(first, int) and all(s.functions == first for s in segments):
            functions = first
        else:
            functions = array("I")
            for s in segments:
                functions += (
                    array("I", [s.functions]) * s.count
                    if isinstance(s.functions, int)
                    else s.functions
                )
        args = b"".join([s.args for s in segments])
        self._segments, self._firsts = [], []
        self._append(Segment(0, self.count, functions, lengths, args))

    def make_chunk(self, chunk: Chunk, epoch: int) -> msg.Chunk:
        """The message that has a worker run the chunk.

        Raises:
            ProtocolError: the client has asked for an outcome that cannot be there.
        """
        elements = chunk.elements
        functions, lengths, args = self._take(elements)
        is_range = isinstance(elements, range)
        message = msg.Chunk(
            chunk.number,
            epoch,
            chunk.seq,
            self.number,
            elements[0],
            b"" if is_range else array("I", elements).tobytes(),
            len(elements),
            functions,
            lengths,
            args,
            self.cwd,
            chunk.fused,
        )
        if self.inputs:
            self._add_inputs(message, elements)
        return message

    def define_terms(self, message: msg.TermsDefined) -> None:
        """Pages may refer to these terms from now on.

        Raises:
            ProtocolError: nothing can be like that.
        """
        if self.terms is None:
            self.terms = TermsTable()
            self.terms.add_page(0, self.count, 0)
        self.terms.define(message)

    def _take(self, elements: Sequence[int]) -> tuple[int | bytes, bytes, bytes]:
        if len(self._segments) == 1:
            segment = self._segments[0]
            if isinstance(elements, range):
                return segment.take_range(elements.start, elements.stop)
            return segment.take_list(elements)
        parts = []
        functions = array("I")
        for element in elements:
            segment = self._segments[bisect_right(self._firsts, element) - 1]
            at = element - segment.first
            parts.append(segment.take_range(at, at + 1))
            number = segment.functions
            functions.append(number if isinstance(number, int) else number[at])
        lengths = b"".join([p[1] for p in parts])
        uniform = functions.count(functions[0]) == len(functions)
        return (
            functions[0] if uniform else functions.tobytes(),
            lengths,
            b"".join([p[2] for p in parts]),
        )

    def _add_inputs(self, message: msg.Chunk, elements: Sequence[int]) -> None:
        """Outcomes from outside, and which positions the worker keeps for later ones."""
        positions = {element: k for k, element in enumerate(elements)}
        outside: dict[int, bytes] = {}
        keep: set[int] = set()
        for element in elements:
            for source in self.inputs.get(element, ()):
                if source in positions:
                    keep.add(positions[source])
                elif source in self.kept:
                    outside[source] = self.kept[source]
                else:
                    raise ProtocolError(f"element {element} needs what {source} has not made")
        message.inputs = tuple(outside.items())
        message.keep = tuple(sorted(keep))

    def objects_of(self, elements: Iterable[int]) -> set[int]:
        """Numbers of the objects that these elements need."""
        objects = self.objects
        return {number for element in elements for number in objects.get(element, ())}

    def gifts_of(self, elements: Sequence[int]) -> list[tuple[int, int]]:
        """Blocks of arguments that one element alone needs: pairs (position, block).

        No more than one an element, the largest.
        """
        gifts = []
        for position, element in enumerate(elements):
            if self._may_run_again(element):
                continue  # its arguments must be there as they were
            own = [
                self.definitions[number]
                for number in self.objects.get(element, ())
                if self._is_gift(number)
            ]
            largest = max(own, key=lambda d: sum(d.spans[1::2]), default=None)
            if largest is not None and largest.block >= 0:
                gifts.append((position, largest.block))
        return gifts

    def _may_run_again(self, element: int) -> bool:
        terms = self.terms.of(element) if self.terms is not None else None
        return terms is not None and terms.retries > 0

    def _is_gift(self, number: int) -> bool:
        """Whether one element alone needs the object, and none to come."""
        return self.object_users[number] == 1

    def ended(self, elements: Iterable[int]) -> tuple[list[int], list[int]]:
        """These elements have ended; returns blocks and objects that nobody needs now."""
        blocks: list[int] = []
        objects: list[int] = []
        for element in elements:
            for source in self.inputs.pop(element, ()):
                self.consumers[source] -= 1
                if not self.consumers[source]:
                    del self.consumers[source]
                    self.kept.pop(source, None)
                    blocks += self.kept_blocks.pop(source, ())
            for number in self.objects.pop(element, ()):
                self.object_users[number] -= 1
                if not self.object_users[number]:
                    objects.append(number)
        return blocks, objects
