"""Feeding an array: its iterables become pages of elements, as fast as they are run.

    iterables ──► puller thread ──► feeder thread ──► manager
                  (only when an       waits while too many elements are under way
                  iterator may block)

What a list or a range holds is there at once and is taken in slices.  Any other iterator may
block, or wait for the results of what it gave before: a thread of its own pulls from it, and
whatever has been pulled goes out as soon as the one before has.
"""

from __future__ import annotations

import pickle
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alamo.batch.arguments import blame_argument
from alamo.batch.array_program import ArrayProgram
from alamo.batch.program_functions import ProgramFunctions
from alamo.batch.results import compiling
from alamo.batch.shared import SharedObjects, send_and_close
from alamo.batch.sources import Source
from alamo.errors import AlamoError, BatchBroken, SerializationError, UsageError
from alamo.protocol import messages as msg
from alamo.protocol.importable import importable
from alamo.protocol.pickling import ATOMS, ATOMS_PROTOCOL
from alamo.protocol.placeholders import NotPickled

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task

#: Elements of an array that may be under way, and bytes of their arguments.
WINDOW = 1 << 17
WINDOW_BYTES = 64 << 20
#: Elements and bytes that are taken at once, and of what may block pulled ahead; the first time
#: only a few, for nobody knows how large they are.
BATCH = 8192
BATCH_BYTES = 8 << 20
BATCH_FIRST = 64
#: Elements and bytes a page of arguments that are pickled one by one.
PAGE = 256
PAGE_BYTES = 1 << 20
#: Elements a pickle, as long as it stays below so many bytes.
PICKLE = 256
PICKLE_BYTES = 32 << 10


class Feeder:
    """Makes the elements of one array.

    Args:
        function: what every element calls.
        send: sends what must come before the first page.

    Attributes:
        terms: the number of what its elements need and may do.
    """

    terms = 0

    def __init__(
        self,
        client: Client,
        program: ArrayProgram,
        function: Callable[..., Any],
        source: Source,
        send: Callable[..., None],
    ) -> None:
        self._client = client
        self._program = program
        self._source = source
        self._shared = SharedObjects(client, program.number, client.send)
        program.kinds = self._shared.parts.kinds
        self._compiler = _NoHandles(program)
        try:
            with self._refusing_handles():
                self._function = ProgramFunctions(client, program.number, send).number(function)
        except AlamoError as error:
            raise type(error)(f"the function of {program.title(-1)}: {error}") from error
        self._sent_bytes = 0
        self._mean_bytes = 0.0
        #: What the puller gave and has not been sent, how much that may be, and how it ended.
        self._pulled: deque[Any] = deque()
        self._ahead = BATCH_FIRST
        self._exhausted = False
        self._error: BaseException | None = None
        program.length = source.length

    def start(self) -> None:
        """Feed what is at hand, as much as may be under way; threads see to the rest.

        Raises:
            UsageError: a handle is among the arguments; the array has been broken off there.
        """
        if not self._program.is_wanted:  # it was cancelled before it was started
            return
        if self._source.may_block:
            self._thread(self._pull, "pull")
            self._thread(self._feed_pulled, "feed")
            return
        try:
            if not self._feed_at_hand(False):
                self._thread(lambda: self._feed_at_hand(True), "feed")
        except BaseException as error:
            self.give_up(error)
            raise

    def give_up(self, error: BaseException) -> None:
        """No more elements come, because of this."""
        self._finish(error)

    def _thread(self, body: Callable[[], Any], what: str) -> None:
        threading.Thread(
            target=self._guarded(body), name=f"alamo-{what}-{self._program.uid}", daemon=True
        ).start()

    def _guarded(self, body: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            try:
                body()
            except BatchBroken:  # waits have been told
                return
            except BaseException as error:
                self._finish(error)

        return run

    # -- what is at hand -----------------------------------------------------------------

    def _feed_at_hand(self, may_wait: bool) -> bool:
        """Feed until the end; ``False`` when that has to wait and must not."""
        while self._program.is_wanted:
            if not self._has_room():
                if not may_wait:
                    return False
                self._program.await_change(self._has_room, None)
                continue
            columns = self._source.take(self._batch_size())
            if columns:
                self._feed(columns)
            if not columns or self._source.length == self._program.count:
                self._finish(None)
                return True
        return True

    def _has_room(self) -> bool:
        """Whether more elements may be made; at least one is under way in any case."""
        program = self._program
        under_way = program.remaining
        room = under_way < WINDOW and under_way * self._mean_bytes < WINDOW_BYTES
        return room or not under_way or not program.is_wanted

    def _batch_size(self) -> int:
        """How many elements to take at once, by what those so far weighed."""
        count = self._program.count
        if not count:
            return BATCH_FIRST
        return max(1, min(BATCH, 8 * count, int(BATCH_BYTES / max(self._mean_bytes, 1.0))))

    # -- what may block ------------------------------------------------------------------

    def _pull(self) -> None:
        """Body of the thread that the user's iterator may block."""
        pulled, program = self._pulled, self._program
        try:
            for item in self._source.iterator:
                pulled.append(item)
                if len(pulled) == 1:
                    program.wake()
                if len(pulled) >= self._ahead:
                    program.await_change(self._may_pull, None)
                if not program.is_wanted:
                    break
        except BaseException as error:
            self._error = error
        self._exhausted = True
        program.wake()

    def _may_pull(self) -> bool:
        return len(self._pulled) < self._ahead or not self._program.is_wanted

    def _may_feed(self) -> bool:
        return bool(self._pulled) or self._exhausted or not self._program.is_wanted

    def _feed_pulled(self) -> None:
        """Body of the thread that sends what the other one has pulled."""
        pulled, program = self._pulled, self._program
        while True:
            program.await_change(self._may_feed, None)
            program.await_change(self._has_room, None)
            if not program.is_wanted:
                return
            items = [pulled.popleft() for _ in range(min(len(pulled), self._batch_size()))]
            if items:
                self._feed(self._source.columns(items))
                self._ahead = self._batch_size()
                program.wake()
            elif self._exhausted and not pulled:
                self._finish(self._error)
                return

    # -- pages ---------------------------------------------------------------------------

    @contextmanager
    def _refusing_handles(self) -> Iterator[None]:
        """While the user's values are pickled in here, handles of tasks among them are refused."""
        before = getattr(compiling, "compiler", None)
        compiling.compiler = self._compiler
        try:
            yield
        finally:
            compiling.compiler = before

    def _feed(self, columns: list[Sequence[Any]]) -> None:
        """Send elements.  One that cannot be pickled will fail alone."""
        importable.scan()
        sent, count = self._sent_bytes, self._program.count
        if all(c.__class__ is range or ATOMS.issuperset(map(type, c)) for c in columns):
            self._feed_in_columns(columns)
        else:
            with self._refusing_handles():
                self._feed_one_by_one(columns)
        # Of late: they may become larger.
        mean = (self._sent_bytes - sent) / max(1, self._program.count - count)
        self._mean_bytes = max(mean, self._sent_bytes / max(1, self._program.count))

    def _feed_in_columns(self, columns: list[Sequence[Any]]) -> None:
        pickles: list[bytes] = []
        counts = array("I")
        size = len(columns[0])
        for at in range(0, size, PICKLE):
            part = tuple([c[at : at + PICKLE] for c in columns])
            data = pickle.dumps(part, ATOMS_PROTOCOL)
            if len(data) <= PICKLE_BYTES:
                pickles.append(data)
                counts.append(len(part[0]))
            else:
                rows = [pickle.dumps(row, ATOMS_PROTOCOL) for row in zip(*part, strict=True)]
                pickles += rows
                counts.extend([0] * len(rows))
        self._send(size, pickles, counts, (), ())

    def _feed_one_by_one(self, columns: list[Sequence[Any]]) -> None:
        unused = self._shared.forget_unused()
        pickles: list[bytes] = []
        objects: list[tuple[int, tuple[int, ...]]] = []
        size, first = 0, self._program.count

        def send() -> None:
            counts = array("I", bytes(4 * len(pickles)))
            self._send(len(pickles), pickles, counts, tuple(objects), tuple(unused))
            for sent in (pickles, objects, unused):
                sent.clear()

        try:
            for element, row in enumerate(zip(*columns, strict=True), first):
                data = self._dump(element, row)
                pickles.append(data)
                if self._shared.used:
                    objects.append((element, tuple(self._shared.used)))
                size += len(data)
                if len(pickles) == PAGE or size + self._shared.shipped_bytes > PAGE_BYTES:
                    send()
                    size = 0
        finally:
            if pickles:
                send()

    def _dump(self, element: int, row: tuple[Any, ...]) -> bytes:
        """An element's arguments; what raises there if they cannot be pickled."""
        title = self._program.title(element)
        try:
            return self._shared.dump(row, [])
        except SerializationError as error:
            self._shared.used = []
            text = str(blame_argument(title, row, error))
            return pickle.dumps(NotPickled(text), ATOMS_PROTOCOL)
        except AlamoError as error:
            raise type(error)(f"an argument of {title}: {error}") from error

    def _send(
        self,
        count: int,
        pickles: list[bytes],
        counts: array[int],
        objects: tuple[tuple[int, tuple[int, ...]], ...],
        unused: tuple[int, ...],
    ) -> None:
        args = b"".join(pickles)
        page = msg.Page(
            self._program.number,
            count,
            self._function,
            array("I", map(len, pickles)).tobytes(),
            args,
            objects=objects,
            counts=counts.tobytes(),
            unused=unused,
            terms=self.terms,
        )
        self._sent_bytes += len(args) + self._shared.take_shipped()
        with self._program.feeding:
            if self._program.cancel_reason is not None:
                self._shared.close()
                return
            self._program.add_elements(count, count)
            messages, fds = self._shared.take_unsent()
            send_and_close(self._client.send, [*messages, page], fds)

    def _finish(self, error: BaseException | None) -> None:
        """No more elements come."""
        program, client = self._program, self._client
        self._shared.close()
        with program.feeding:
            if not program.growing:
                return
            # First here: what else ends with it must find that it has ended.
            client.callbacks.queue(program, program.seal(error))
        try:
            client.send([msg.Sealed(program.number, error is not None)])
        except BatchBroken:
            pass
        program.fed = True
        program.wake()
        client.let_go(program)


class _NoHandles:
    """Stands in for the compiler: handles cannot be arguments of an array's elements."""

    def __init__(self, program: ArrayProgram) -> None:
        self._title = program.title(-1)

    def source_of(self, task: Task, what: str) -> int:
        raise UsageError(
            f"the {what} handle of {task.title()} is an argument of an element of {self._title}, "
            "or inside its function; give the value (handle.get()), or let the function read "
            "what the task wrote"
        )
