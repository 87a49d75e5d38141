"""Running the elements of an array, of which a million may take a second."""

from __future__ import annotations

import os
import pickle
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import msgspec

from alamo.protocol import pickling
from alamo.protocol.layout import ENDS_MAX, GROUPED, LIMIT, NEXT, PAYLOAD_BYTES, SINCE
from alamo.protocol.messages import Chunk
from alamo.worker.alert import alert
from alamo.worker.runner import Runner
from alamo.worker.surroundings import LOOK_AFTER_NS

#: Of the shortest elements one in so many is looked at.
_LOOK_EACH = 64

_NO_ARGS = pickle.dumps((), 3)


class ArrayRunner(Runner):
    """Runs chunks of arrays too."""

    #: Functions whose C code prints, by number; that of the chunk, -1 for no array.
    _noisy: set[int]
    _function: int

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._noisy = set()
        self._function = -1

    def run(self, chunk: Chunk) -> int:
        """Run a chunk, see ``Runner.run``."""
        self._function, self._group = -1, ENDS_MAX
        if chunk.counts:
            assert isinstance(chunk.functions, int)
            self._function = chunk.functions
            alert.raised = False
            columns = _columns_of(chunk) if chunk.quick else None
            if columns is not None and chunk.functions not in self._noisy:
                return self._run_quick(chunk, columns)
            # As tasks without arguments, whose functions hold them: what is slow may be slower.
            calls = calls_of(chunk, self._functions.get(chunk.functions))
            lengths = array("I", [len(_NO_ARGS)]) * chunk.count
            args = _NO_ARGS * chunk.count
            chunk = msgspec.structs.replace(chunk, lengths=lengths.tobytes(), args=args)
            return self._run(chunk, calls)
        return super().run(chunk)

    def _run_quick(self, chunk: Chunk, columns: Iterator[tuple[Any, ...]]) -> int:
        """Run elements of an array that take microseconds.

        The first and one in ``_LOOK_EACH`` are looked at as every task is: their output, the
        clock.  Of the others only what Python code prints is told apart: ``alert`` says so.
        """
        cells, outcomes = self._cells, self._outcomes
        clock, dumps, atoms = time.monotonic_ns, pickle.dumps, pickling.ATOMS
        protocol = pickling.ATOMS_PROTOCOL
        function = self._functions.get(self._function)
        quiet = 1
        now = clock()
        cells[GROUPED] = 1
        cells[NEXT] = seq = chunk.seq
        end_seq = seq + chunk.count
        outcomes.begin(chunk.number, seq, 0, now)
        self._inputs.enter(chunk)
        while seq < end_seq and cells[LIMIT] > seq:
            cells[SINCE] = now
            count, size, ends, payload = outcomes.cursor()
            self._group = count
            value = error = None
            taken_back = alert.raised = False
            try:
                for args in islice(columns, min(quiet, end_seq - seq, ENDS_MAX - count) - 1):
                    value = function(*args)
                    if value is not None:
                        if value.__class__ not in atoms:
                            break
                        data = dumps(value, protocol)
                        end = size + len(data)
                        if end > PAYLOAD_BYTES or alert.raised:
                            break
                        payload[size:end] = data
                        size = end
                    elif alert.raised:
                        break
                    ends[count] = size
                    count += 1
                    seq += 1
                    cells[NEXT] = seq
                    if cells[LIMIT] <= seq:
                        taken_back = True
                        break
                else:
                    value = function(*next(columns))
            except BaseException as raised:
                error = raised
            outcomes.advance(count, size)
            if taken_back:
                break
            now = self._look(chunk, seq, value, error, now)
            quiet = 1 if self._function in self._noisy else _LOOK_EACH
            seq += 1
            cells[NEXT] = seq
            if now >= outcomes.flush_at_ns or outcomes.count >= ENDS_MAX - 1:
                cells[SINCE] = 0
                outcomes.flush(now)
                outcomes.begin(chunk.number, seq, seq - chunk.seq, now)
        cells[SINCE] = 0
        outcomes.flush(now)
        self._inputs.leave()
        self._after_task()
        return seq - chunk.seq

    def _look(
        self, chunk: Chunk, seq: int, value: Any, error: BaseException | None, begun: int
    ) -> int:
        """Record the outcome of one element, with its output; returns the time."""
        data = b""
        if error is None:
            try:
                if value.__class__ in pickling.ATOMS:
                    data = b"" if value is None else pickle.dumps(value, pickling.ATOMS_PROTOCOL)
                else:
                    data = self._dump(value, seq - chunk.seq)
            except BaseException as raised:
                error = raised
        ok = error is None
        if error is not None:
            data = self._failure(error)
        if os.lseek(1, 0, 2) or os.lseek(2, 0, 2):
            data = self._with_output(data, ok)
        now = time.monotonic_ns()
        if self._surroundings.touched or now - begun > LOOK_AFTER_NS:
            self._tidy(seq, begun, now)
        measured = self._outcomes.meter.taken
        if not ok or measured or self._record_block >= 0 or not self._outcomes.append(data):
            self._record(chunk, seq - chunk.seq, seq, data, ok, 0, now)
        return now

    def _with_output(self, data: bytes, ok: bool) -> bytes:
        with_output = super()._with_output(data, ok)
        if with_output is not data and not alert.raised:
            self._noisy.add(self._function)  # C code prints: from now on each element is looked at
        return with_output


def _call(function: Callable[..., Any], data: bytes) -> Any:
    return function(*pickle.loads(data))


def _pickles(chunk: Chunk) -> Iterator[tuple[bytes, int]]:
    start = 0
    lengths, counts = memoryview(chunk.lengths).cast("I"), memoryview(chunk.counts).cast("I")
    for length, count in zip(lengths, counts, strict=True):
        yield chunk.args[start : start + length], count
        start += length


def calls_of(chunk: Chunk, function: Callable[..., Any]) -> list[Callable[[], Any]]:
    """For each element of the chunk a call of the function with its arguments."""
    calls: list[Callable[[], Any]] = []
    skip = chunk.skip
    for data, count in _pickles(chunk):
        if count:  # of a pickle of many only some may be meant
            rows = islice(zip(*pickle.loads(data)), skip, skip + chunk.count - len(calls))
            calls += [partial(function, *args) for args in rows]
        elif not skip:
            calls.append(partial(_call, function, data))
        skip = max(0, skip - (count or 1))
    return calls


def _columns_of(chunk: Chunk) -> Iterator[tuple[Any, ...]] | None:
    """The arguments of each element, ``None`` when some are pickled one by one."""
    if 0 in memoryview(chunk.counts).cast("I"):
        return None
    columns = chain.from_iterable(zip(*pickle.loads(data)) for data, _ in _pickles(chunk))
    return islice(columns, chunk.skip, chunk.skip + chunk.count)
