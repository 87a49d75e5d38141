"""Parts of a worker that need no manager: recorded outcomes, output, functions, blocks."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from alamo.errors import SerializationError
from alamo.protocol import pickling, shortening
from alamo.protocol.blocks import BlockMaker, BlockReader, raw_views
from alamo.protocol.framing import MessageReader
from alamo.protocol.layout import BUFFERS, ENDS_MAX, FREE, NEXT, SharedMemory, make_memory
from alamo.protocol.messages import Chunk, Finished, ObjectDefined
from alamo.protocol.placeholders import SharedObject, inputs
from alamo.protocol.records import OK, Record
from alamo.worker import output
from alamo.worker.context import WorkerContext
from alamo.worker.inputs import ChunkInputs
from alamo.worker.outcomes import OutcomeBuffer, salvage
from alamo.worker.runner import FunctionTable

# -- outcomes --------------------------------------------------------------------------------------


class Bench:
    """Memory of a worker, and the socket on which it announces."""

    def __init__(self) -> None:
        fd = make_memory()
        self.memory = SharedMemory(fd)
        os.close(fd)
        self.ours, self.theirs = socket.socketpair()
        self.outcomes = OutcomeBuffer(self.memory, self.ours)
        self.reader: MessageReader[Any] = MessageReader(Finished)

    def announced(self) -> list[Finished]:
        self.theirs.setblocking(False)
        try:
            self.reader.receive(self.theirs)
        except BlockingIOError:
            pass
        return list(self.reader.messages())

    def pieces(self, message: Finished) -> list[bytes]:
        ends = self.memory.ends[message.buffer]
        payload = bytes(self.memory.payloads[message.buffer])
        count = message.upto - message.first
        return [payload[ends[k - 1] if k else 0 : ends[k]] for k in range(count)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.ours.close()
    one.theirs.close()


def record(bench: Bench, seq: int, data: bytes) -> None:
    assert bench.outcomes.append(data)
    bench.memory.cells[NEXT] = seq + 1


def test_outcomes_are_announced_and_found(bench: Bench) -> None:
    bench.memory.cells[NEXT] = 10
    bench.outcomes.begin(chunk=3, seq=10, position=0, now_ns=100)
    for k, data in enumerate((b"one", b"", b"three")):
        record(bench, 10 + k, data)
    bench.outcomes.mark_failed()
    bench.outcomes.mark_block(77)
    bench.outcomes.flush(600)
    (message,) = bench.announced()
    assert (message.chunk, message.first, message.upto, message.elapsed_ns) == (3, 0, 3, 500)
    assert message.failed == (2,)
    assert message.blocks == ((2, 77),)
    assert bench.pieces(message) == [b"one", b"", b"three"]
    assert bench.memory.cells[FREE + message.buffer] == 0


def test_what_was_recorded_can_be_salvaged(bench: Bench) -> None:
    """At every moment between two stores the finished ones, and no others, are there."""
    bench.memory.cells[NEXT] = 0
    assert salvage(bench.memory, lambda _: 0) is None
    bench.outcomes.begin(chunk=3, seq=0, position=0, now_ns=0)
    assert salvage(bench.memory, lambda _: 0) is None
    for k in range(5):
        bench.outcomes.append(b"%d" % k)
        before = salvage(bench.memory, lambda _: 0)
        assert (before.upto if before else 0) == k
        bench.memory.cells[NEXT] = k + 1
        after = salvage(bench.memory, lambda _: 0)
        assert after is not None
        assert bench.pieces(after) == [b"%d" % j for j in range(k + 1)]
    bench.outcomes.flush(1)
    found = salvage(bench.memory, lambda _: 0)
    assert found is not None  # announced, but perhaps not seen
    assert found.upto == 5
    assert salvage(bench.memory, lambda _: 5) is None  # seen
    assert salvage(bench.memory, lambda _: -1) is None  # another's
    bench.outcomes.begin(chunk=3, seq=5, position=5, now_ns=0)
    assert salvage(bench.memory, lambda _: 5) is None


def test_a_buffer_takes_so_many(bench: Bench) -> None:
    bench.outcomes.begin(0, 0, 0, 0)
    assert all(bench.outcomes.append(b"") for _ in range(ENDS_MAX))
    assert not bench.outcomes.append(b"")
    bench.outcomes.flush(0)
    bench.outcomes.begin(0, 0, 0, 0)
    assert not bench.outcomes.append(bytes(1 << 20))
    while bench.outcomes.append(bytes(5000)):
        pass
    assert bench.outcomes.size > 100_000
    assert bench.outcomes.append(b"") is True


def test_buffers_take_turns(bench: Bench) -> None:
    used = set()
    for k in range(BUFFERS):
        bench.outcomes.begin(k, k, 0, 0)
        record(bench, k, b"x")
        bench.outcomes.flush(0)
        used |= {m.buffer for m in bench.announced()}
    assert len(used) == BUFFERS


# -- output ----------------------------------------------------------------------------------------


def test_output_is_taken_once_and_bounded() -> None:
    fd = os.memfd_create("out")
    os.write(fd, b"text\n")
    assert output.take(fd) == b"text\n"
    assert output.take(fd) == b""
    os.write(fd, b"again")
    assert output.take(fd) == b"again"
    half = shortening.KEPT_BYTES
    os.write(fd, b"h" * half + b"m" * 5 + b"t" * half)
    data = output.take(fd)
    assert data.startswith(b"h" * half + b"\n[... 5 bytes left out ...]\n")
    assert data.endswith(b"\n" + b"t" * half)
    os.close(fd)


# -- functions -------------------------------------------------------------------------------------


def test_functions_are_loaded_once() -> None:
    table = FunctionTable()
    table.define(1, pickling.dump_function(len))
    table.define(2, pickling.dump_function(lambda: 5))
    table.define(3, b"\x80\x05\x8c\x07no_such\x8c\x01f\x93.")
    assert table.get(1) is len
    assert table.get(2) is table.get(2)
    assert table.get(2)() == 5
    for _ in range(2):
        with pytest.raises(SerializationError, match=r"cannot be loaded.*no_such"):
            table.get(3)(1, 2)


# -- arguments that travel apart -------------------------------------------------------------------


@pytest.fixture
def parts() -> Iterator[tuple[ChunkInputs, BlockMaker, BlockReader]]:
    saved = inputs.outcome, inputs.shared
    maker, reader = BlockMaker(5, 100), BlockReader(lending=False)
    yield ChunkInputs(reader, maker), maker, reader
    inputs.outcome, inputs.shared = saved
    inputs.fresh.clear()


def chunk(**changes: Any) -> Chunk:
    fields = {
        "number": 0, "epoch": 0, "seq": 0, "program": 1, "first": 0, "elements": b"", "count": 1,
        "functions": 0, "lengths": b"", "args": b"", "cwd": "/",
    }  # fmt: skip
    return Chunk(**(fields | changes))


def test_shared_objects_are_fresh_for_each_task(
    parts: tuple[ChunkInputs, BlockMaker, BlockReader],
) -> None:
    table, _, _ = parts
    table.define(ObjectDefined(1, 0, pickling.dump([1])[0]))
    assert table.enter(chunk())
    args = pickling.dump((SharedObject(0), SharedObject(0)))[0]
    one, two = pickling.load(args)
    assert one is two
    assert one == [1]
    inputs.fresh.clear()
    assert pickling.load(args)[0] is not one
    table.leave()
    table.forget(1)
    assert not table.enter(chunk())
    with pytest.raises(KeyError):
        pickling.load(args)


def test_outcomes_of_this_worker_and_of_others(
    parts: tuple[ChunkInputs, BlockMaker, BlockReader],
) -> None:
    table, maker, reader = parts
    array = np.arange(20_000)
    data, buffers = pickling.dump(array)
    filled = maker.fill(raw_views(buffers))
    assert filled is not None
    block, spans, size, fd = filled
    own = msgspec.msgpack.encode(Record(OK, data, block=block, spans=spans))
    reader.add(999, size, fd)
    others = msgspec.msgpack.encode(Record(OK, data, stdout=b"out", block=999, spans=spans))
    table.enter(chunk(keep=(0,), inputs=((8, others), (9, b""))))
    table.keep(chunk(first=4), 0, own)
    for element in (4, 8):
        value = inputs.outcome(element, 0)
        assert (value == array).all()
        value[:] = 0  # a copy
    assert (inputs.outcome(4, 0) == array).all()
    assert inputs.outcome(8, 1) == "out"
    assert inputs.outcome(9, 0) is None
    assert inputs.outcome(9, 1) == ""


def test_a_result_goes_where_an_argument_lay(
    parts: tuple[ChunkInputs, BlockMaker, BlockReader],
) -> None:
    table, _, reader = parts
    clients, owner = BlockMaker(1, 100), BlockReader(lending=True)
    data, buffers = pickling.dump(np.arange(20_000))
    filled = clients.fill(raw_views(buffers))
    assert filled is not None
    block, spans, size, fd = filled
    owner.add(block, size, os.dup(fd))
    reader.add(block, size, fd)
    table.define(ObjectDefined(1, 0, data, block, spans))
    table.enter(chunk(count=3, gifts=((1, block),)))
    argument = inputs.shared(0)
    assert table.fill_gift(0, [b"r" * size]) is None  # another's
    for other in (size + 1, size // 2):
        assert table.fill_gift(1, [b"r" * other]) is None  # it would lie in a block of another size
    assert table.fill_gift(1, [b"r" * (size // 2), b"e" * 100]) == (
        block,
        (0, size // 2, size // 2, 100),
    )
    assert (argument == np.arange(20_000)).all()  # a copy
    views = owner.lend(block, (0, 3, size // 2, 2), lambda _: None)
    assert [bytes(view) for view in views] == [b"rrr", b"ee"]
    table.leave()
    table.enter(chunk())
    assert table.fill_gift(1, [b"r" * size]) is None  # a gift of an earlier chunk


def test_blocks_are_filled_again_when_they_are_free() -> None:
    maker, reader = BlockMaker(5, 3), BlockReader(lending=False)
    seen = []
    for k in range(4):
        filled = maker.fill([b"%d" % k * 70_000])
        if filled is None:
            break
        block, spans, size, fd = filled
        seen.append(block)
        reader.add(block, size, fd)
        assert reader.copy(block, spans) == [b"%d" % k * 70_000]
    assert len(seen) == len(set(seen)) == 3  # no room for a fourth
    assert maker.freed([seen[1]]) == []
    filled = maker.fill([b"x" * 100_000, b"y" * 100])
    assert filled is not None
    assert (filled[0], filled[3]) == (seen[1], -1)
    assert [bytes(b) for b in reader.copy(seen[1], filled[1])] == [b"x" * 100_000, b"y" * 100]
    maker.forget([seen[0]])
    assert maker.copy(seen[0], (0, 1)) is None
    assert maker.freed([seen[0]]) == []
    assert maker.fill([b"z" * 70_000]) is not None  # room again
    reader.gone(seen)
    assert reader.is_empty


def test_tasks_end_what_they_registered() -> None:
    context = WorkerContext()
    ended: list[int] = []
    for k in range(3):
        context.at_task_end(lambda k=k: ended.append(k))  # type: ignore[misc]
    context.end_task()
    context.end_task()
    assert ended == [2, 1, 0]
