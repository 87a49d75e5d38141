"""The elements of an array task, as opaque bytes: they come while it runs, many to a pickle."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from alamo.core.chunks import Chunk
from alamo.errors import ProtocolError
from alamo.manager.programs import ProgramData
from alamo.protocol import messages as msg
from alamo.protocol.records import as_record, pack_array

#: Elements this short run without a look at each (see ``worker.runner``).
QUICK_S = 0.000_02


def check_array_page(page: msg.Page) -> None:
    """Whether the columns fit together.

    Raises:
        ProtocolError: they do not.
    """
    counts = array("I", page.counts)
    lengths = array("I", page.lengths)
    if len(counts) != len(lengths) or sum(lengths) != len(page.args):
        raise ProtocolError("a page of an array whose arguments do not fit their lengths")
    if sum(counts) + counts.count(0) != page.count or not isinstance(page.functions, int):
        raise ProtocolError("a page of an array that does not fit its elements")
    if page.preds or page.joins or page.inputs or page.gates:
        raise ProtocolError("a page of an array with dependencies of its own")


class ArrayData(ProgramData):
    """The program behind one array task.

    Attributes:
        gate: the program that the array was compiled in and its element there; ``None`` for
            an array started by itself.
    """

    is_array = True

    def __init__(self, number: int, client: int, remote: int, cwd: bytes) -> None:
        super().__init__(number, client, remote, cwd)
        self.gate: tuple[ProgramData, int] | None = None
        self._function = msg.NO_FUNCTION
        # A pickle of arguments each: its first element, its bytes, how many elements it holds.
        self._starts = array("I")
        self._pickles: list[bytes] = []
        self._counts = array("I")
        #: Objects that elements to come may refer to.
        self._held: set[int] = set()
        self._outcomes: list[tuple[int, bytes, bytes, bytes]] = []
        self._outcome_blocks: list[int] = []

    def add_page(self, page: msg.Page, functions: int | array[int]) -> None:
        """Append elements."""
        assert isinstance(functions, int)
        self._function = functions
        view, at = memoryview(page.args), 0
        counts = memoryview(page.counts).cast("I").tolist()
        for length, count in zip(memoryview(page.lengths).cast("I"), counts, strict=True):
            self._starts.append(self.count)
            self._pickles.append(bytes(view[at : at + length]))
            self.count += count or 1
            at += length
        self._counts.frombytes(page.counts)
        self._note_objects(page)

    def add_object(self, message: msg.ObjectDefined) -> None:
        """Keep an object until no unfinished element needs it, and none to come."""
        super().add_object(message)
        if not message.is_part:
            self._held.add(message.number)

    def let_go(self, numbers: Iterable[int] | None) -> list[int]:
        """No element to come refers to these objects, or to any; returns those nobody needs now."""
        gone = self._held.intersection(self._held if numbers is None else numbers)
        self._held -= gone
        return [number for number in gone if not self.object_users.get(number)]

    def _is_gift(self, number: int) -> bool:
        return super()._is_gift(number) and number not in self._held

    def make_chunk(self, chunk: Chunk, epoch: int) -> msg.Chunk:
        """The message that has a worker run the chunk."""
        elements = chunk.elements
        first = bisect_right(self._starts, elements[0]) - 1
        end = bisect_left(self._starts, elements[-1] + 1)
        pickles = self._pickles[first:end]
        mean_s = chunk.program.mean_s
        return msg.Chunk(
            chunk.number,
            epoch,
            chunk.seq,
            self.number,
            elements[0],
            b"",
            len(elements),
            self._function,
            array("I", map(len, pickles)).tobytes(),
            b"".join(pickles),
            self.cwd,
            counts=self._counts[first:end].tobytes(),
            skip=elements[0] - self._starts[first],
            quick=mean_s is not None and mean_s < QUICK_S,
        )

    def ended(self, elements: Iterable[int]) -> tuple[list[int], list[int]]:
        """These elements have ended: pickles of no others are let go."""
        if isinstance(elements, range):
            first = bisect_left(self._starts, elements.start)
            end = bisect_right(self._starts, elements.stop) - 1
            if elements.stop == self.count:
                end = len(self._starts)
            self._pickles[first:end] = [b""] * max(0, end - first)
        else:
            for element in elements:
                k = bisect_right(self._starts, element) - 1
                if not self._counts[k]:
                    self._pickles[k] = b""
        if not self.objects:
            return [], []
        blocks, objects = super().ended(elements)
        return blocks, [number for number in objects if number not in self._held]

    # -- outcomes that another task takes as an argument ----------------------------------

    @property
    def is_collected(self) -> bool:
        """Whether a task takes the outcomes as an argument."""
        return self.gate is not None and self.gate[1] in self.gate[0].consumers

    def collect(self, elements: Sequence[int], ends: bytes, payload: bytes) -> list[int]:
        """Keep outcomes; returns the blocks that they refer to."""
        column = b"" if isinstance(elements, range) else array("I", elements).tobytes()
        self._outcomes.append((elements[0], column, ends, payload))
        blocks = []
        start = 0
        for end in memoryview(ends).cast("I") if payload else ():
            record = as_record(payload[start:end])
            if record is not None and record.block >= 0:
                blocks.append(record.block)
            start = end
        self._outcome_blocks += blocks
        return blocks

    def hand_over(self) -> tuple[bytes, list[int]]:
        """All outcomes as one, and the blocks that it refers to."""
        outcomes, self._outcomes = self._outcomes, []
        blocks, self._outcome_blocks = self._outcome_blocks, []
        return pack_array(self.count, outcomes), blocks
