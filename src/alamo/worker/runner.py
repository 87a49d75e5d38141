"""Running a chunk: the hot loop of a worker.

    arguments ─► function ─► outcome into shared memory ─► NEXT cell ─► next element

What every task pays for is in ``run``; whatever only some need (a failure, output, a
large result, arguments that travel apart) is in a method of its own.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from alamo.errors import SerializationError
from alamo.protocol import exceptions, pickling
from alamo.protocol.blocks import BUFFER_MIN_BYTES, BlockMaker, raw_views
from alamo.protocol.framing import encode
from alamo.protocol.layout import ENDS_MAX, GROUPED, LIMIT, NEXT, SINCE, SharedMemory
from alamo.protocol.messages import BlockMade, Chunk
from alamo.protocol.placeholders import inputs
from alamo.protocol.records import OK, RAISED, Record
from alamo.worker import output
from alamo.worker.inputs import ChunkInputs
from alamo.worker.outbox import Outbox
from alamo.worker.outcomes import ALONE_BYTES, OUTCOME_MAX_BYTES, OutcomeBuffer
from alamo.worker.stats import OWN_NS, peak
from alamo.worker.surroundings import LOOK_AFTER_NS, Surroundings

_encode_record = msgspec.msgpack.Encoder().encode


class FunctionTable:
    """Functions by number, unpickled at first use."""

    def __init__(self) -> None:
        self._blobs: dict[int, bytes] = {}
        self._functions: dict[int, Callable[..., Any]] = {}

    def define(self, number: int, blob: bytes) -> None:
        """Keep a pickled function."""
        self._blobs[number] = blob
        self._functions.pop(number, None)

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop functions."""
        for number in numbers:
            self._blobs.pop(number, None)
            self._functions.pop(number, None)

    def get(self, number: int) -> Callable[..., Any]:
        """The function; one that cannot be unpickled becomes one that raises why."""
        function = self._functions.get(number)
        if function is None:
            try:
                function = pickling.load(self._blobs.pop(number))
            except Exception as error:
                function = _failing(error)
            self._functions[number] = function
        return function


def _failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise SerializationError(
            f"the task's function cannot be loaded in the worker: {type(error).__name__}: {error}; "
            "is its module importable from the directories that sys.path held when the "
            "Batch was made?"
        ) from error

    return fail


class Runner:
    """Runs chunks and records their outcomes.

    Args:
        after_task: called after tasks that may have left something behind.
    """

    def __init__(
        self,
        outbox: Outbox,
        memory: SharedMemory,
        host: str,
        maker: BlockMaker,
        chunk_inputs: ChunkInputs,
        functions: FunctionTable,
        surroundings: Surroundings,
        after_task: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._cells = memory.cells
        self._host = host
        self._maker = maker
        self._inputs = chunk_inputs
        self._functions = functions
        self._surroundings = surroundings
        self._after_task = after_task
        self._outcomes = OutcomeBuffer(memory, outbox)
        self._record_block = -1
        #: Where in the buffer those outcomes begin that are measured together.
        self._group = ENDS_MAX

    def run(self, chunk: Chunk) -> int:
        """Run a chunk's tasks in order.

        Returns:
            How many ended; less than all when the manager took the rest back, or at the
            first failure of a fused chunk.
        """
        return self._run(chunk, self._functions_of(chunk))

    def _run(self, chunk: Chunk, functions: Sequence[Callable[..., Any]]) -> int:
        cells, outcomes, surroundings = self._cells, self._outcomes, self._surroundings
        clock, lseek, loads, dumps = time.monotonic_ns, os.lseek, pickle.loads, pickle.dumps
        atoms, protocol = pickling.ATOMS, pickling.ATOMS_PROTOCOL
        args = chunk.args
        apart = self._inputs.enter(chunk)
        fused, special, append = chunk.fused, bool(chunk.keep), outcomes.append
        seq, start, position = chunk.seq, 0, 0
        now = clock()
        cells[GROUPED] = 0
        cells[NEXT] = seq
        outcomes.begin(chunk.number, seq, 0, now)
        for position, length in enumerate(memoryview(chunk.lengths).cast("I")):
            if cells[LIMIT] <= seq:
                break
            end = start + length
            cells[SINCE] = now
            ok = True
            try:
                if apart:
                    inputs.fresh.clear()
                value = functions[position](*loads(args[start:end]))
                if value is None:
                    data = b""
                elif value.__class__ in atoms:
                    data = dumps(value, protocol)
                else:
                    data = self._dump(value, position)
            except BaseException as error:
                ok = False
                data = self._failure(error)
            begun, now = now, clock()
            look = surroundings.touched or now - begun > LOOK_AFTER_NS
            try:
                printed = look or lseek(1, 0, 2) or lseek(2, 0, 2)
            except OSError:  # a pipe in their place, or nothing
                printed = True
            if printed:
                data = self._with_output(data, ok)
                if look:
                    self._tidy(seq, begun, now)
            if not ok or special or look or self._record_block >= 0 or not append(data):
                ok = self._record(chunk, position, seq, data, ok, now - begun, now)
            start = end
            seq += 1
            cells[NEXT] = seq
            if not ok and fused:
                position += 1
                break
            if now >= outcomes.flush_at_ns:
                cells[SINCE] = 0  # a kill in here is no task's fault
                outcomes.flush(now)
                outcomes.begin(chunk.number, seq, position + 1, now)
        else:
            position = chunk.count
        cells[SINCE] = 0
        outcomes.flush(now)
        self._inputs.leave()
        self._after_task()
        return position

    def _tidy(self, seq: int, begun: int, now: int) -> None:
        """Put back what the task may have changed; measure it if that is worth while."""
        # What starts processes is measured for their sake, however short it was.
        is_own = now - begun > OWN_NS or self._surroundings.changed or peak.size_bytes
        self._after_task()
        self._surroundings.tidy()
        if is_own:
            self._outcomes.meter.take(begun, now)
        else:
            self._outcomes.meter.glance(now)
        if self._surroundings.spoiled:
            self._cells[LIMIT] = seq + 1  # no other task runs in this process

    def _functions_of(self, chunk: Chunk) -> Sequence[Callable[..., Any]]:
        get = self._functions.get
        if isinstance(chunk.functions, int):
            return [get(chunk.functions)] * chunk.count
        return [get(n) for n in memoryview(chunk.functions).cast("I")]

    def _dump(self, value: Any, position: int) -> bytes:
        """A result as bytes: its pickle, or a Record when it has large buffers."""
        try:
            data, buffers = pickling.dump(value, self._inputs)
        except SerializationError as error:
            raise exceptions.unpicklable_result(value, error) from error
        if not buffers and len(data) < BUFFER_MIN_BYTES:
            return data
        if not buffers or len(data) >= BUFFER_MIN_BYTES:
            packed = self._into_block(b"", [memoryview(data), *raw_views(buffers)], position)
        else:
            packed = self._into_block(data, raw_views(buffers), position)
        return packed or (pickling.dump_in_line(value) if buffers else data)

    def _into_block(self, data: bytes, buffers: list[memoryview], position: int) -> bytes:
        """A Record of a value whose buffers are in a block; empty when there is no room."""
        self._surroundings.end_child()  # it must not fill the worker's blocks
        given = self._inputs.fill_gift(position, buffers)
        if given is not None:
            self._record_block, spans = given
            return _encode_record(Record(OK, data, block=self._record_block, spans=spans))
        filled = self._maker.fill(buffers)
        if filled is None:
            return b""
        block, spans, size, fd = filled
        if fd >= 0:
            self._outbox.sendall(encode(BlockMade(block, size)), (fd,))
            os.close(fd)
        self._record_block = block
        return _encode_record(Record(OK, data, block=block, spans=spans))

    def _failure(self, error: BaseException) -> bytes:
        self._surroundings.end_child(error)
        trace = error.__traceback__
        if trace is not None:
            error.__traceback__ = trace.tb_next  # without the frame of run()
        try:
            packed = exceptions.dump_exception(error, self._host, os.getpid())
            return _encode_record(Record(RAISED, packed))
        except msgspec.EncodeError:  # 4 GiB and more
            kind = type(error).__qualname__
            return self._failure(SerializationError(f"the task raised {kind}, too large to send"))

    def _with_output(self, data: bytes, ok: bool) -> bytes:
        self._surroundings.end_child()  # what is printed so far is not its own
        if len(data) > OUTCOME_MAX_BYTES:  # a failure takes its place, and the output
            return data
        if not output.put_descriptors_back():
            output.take_splits()
            return data
        stdout, stderr = output.take(1), output.take(2)
        if data[:1] == b"\x80" or not data:
            record = Record(OK, data)
        else:
            record = msgspec.msgpack.decode(data, type=Record)
        record.stdout, record.stderr, record.splits = stdout, stderr, output.take_splits()
        return _encode_record(record)

    def _record(
        self, chunk: Chunk, position: int, seq: int, data: bytes, ok: bool, took_ns: int, now: int
    ) -> bool:
        """Record an outcome that does not simply go into the buffer; whether it is a result."""
        outcomes = self._outcomes
        if len(data) > OUTCOME_MAX_BYTES:
            ok = False
            data = self._with_output(self._failure(_too_large(len(data))), ok)
        if chunk.keep and position in chunk.keep:
            self._inputs.keep(chunk, position, data)
        meter = outcomes.meter
        if len(data) > ALONE_BYTES:
            if not meter.taken:
                meter.take(now - took_ns, now)
            outcomes.flush(now - took_ns)
            block, self._record_block = self._record_block, -1
            outcomes.send_alone(chunk.number, position, data, not ok, block, took_ns)
            outcomes.begin(chunk.number, seq + 1, position + 1, now)
            return ok
        if not outcomes.append(data):
            outcomes.flush(now - took_ns)
            outcomes.begin(chunk.number, seq, position, now - took_ns)
            outcomes.append(data)
        if meter.taken and not meter.put(min(self._group, outcomes.count - 1), outcomes.count):
            outcomes.flush_at_ns = 0
        if not ok:
            outcomes.mark_failed()
        if self._record_block >= 0:
            outcomes.mark_block(self._record_block)
            self._record_block = -1
        return ok


def _too_large(size: int) -> SerializationError:
    return SerializationError(
        f"the task's result (or what it raised) has {size} bytes outside of arrays, over the limit "
        f"of {OUTCOME_MAX_BYTES}; return it as arrays or bytes, which travel apart where there is "
        "shared memory for them, in parts, or through a file"
    )
