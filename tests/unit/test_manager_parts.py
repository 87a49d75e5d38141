"""Parts of the manager that need no processes: outcomes out of shared memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alamo.errors import ProtocolError
from alamo.manager.functions import Functions
from alamo.manager.harvest import news_of
from alamo.manager.settling import replaced
from alamo.protocol.layout import BUFFERS, PAYLOAD_BYTES, SharedMemory, make_memory
from alamo.protocol.messages import Finished
from alamo.protocol.records import block_of

PIECES = [b"one", b"", b"three", b"4"]


def column(*values: int) -> bytes:
    return array("I", values).tobytes()


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Buffer 1 holds the pieces, as positions 2 to 5 of a chunk."""
    fd = make_memory()
    memory = SharedMemory(fd)
    os.close(fd)
    at = 0
    for k, piece in enumerate(PIECES):
        memory.payloads[1][at : at + len(piece)] = piece
        at += len(piece)
        memory.ends[1][k] = at
    yield memory
    memory.close()


def finished(buffer: int = 1, size: int = 9, upto: int = 6) -> Finished:
    return Finished(0, 2, upto, 0, buffer, size)


def test_news(memory: SharedMemory) -> None:
    assert news_of(memory, finished(), 2) == (column(3, 3, 8, 9), b"onethree4")
    assert news_of(memory, finished(), 4) == (column(5, 6), b"three4")
    alone = Finished(0, 2, 4, 0, -1, 3, ends=column(1, 3), payload=b"abc")
    assert news_of(memory, alone, 2) == (column(1, 3), b"abc")
    assert news_of(memory, alone, 3) == (column(2), b"bc")


@pytest.mark.parametrize(
    "message",
    [
        finished(buffer=BUFFERS),
        finished(size=PAYLOAD_BYTES + 1),
        finished(size=-1),
        finished(size=8),
        finished(upto=10_000),
        Finished(0, 2, 4, 0, -1, 3, ends=column(3), payload=b"abc"),
        Finished(0, 2, 4, 0, -1, 3, ends=column(2, 1), payload=b"abc"),
        Finished(0, 2, 4, 0, -1, 3, ends=column(4, 3), payload=b"abc"),
        Finished(0, 2, 4, 0, -1, 3, ends=b"123", payload=b"abc"),
    ],
)
def test_news_that_make_no_sense(memory: SharedMemory, message: Finished) -> None:
    for base in (2, 3):
        with pytest.raises(ProtocolError):
            news_of(memory, message, base)


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("value", [2, 9, 10, 0xFFFF_FFFF])
def test_ends_that_were_written_over(memory: SharedMemory, k: int, value: int) -> None:
    """No outcome may begin behind its end or end behind the payload."""
    memory.ends[1][k] = value
    for base in range(2, 6):
        try:
            ends, payload = news_of(memory, finished(), base)
        except ProtocolError:
            continue
        found = memoryview(ends).cast("I").tolist()
        assert found == sorted(found)
        assert found[-1] == len(payload)


def test_outcomes_are_replaced() -> None:
    ends, payload = column(3, 3, 8), b"onethree"
    assert replaced(ends, payload, {}) == (ends, payload)
    assert replaced(ends, payload, {0: b"", 2: b"ab"}) == (column(0, 0, 2), b"ab")


@pytest.mark.parametrize("data", [b"", b"\x80abc", b"\x90\xff", b"\xff" * 9, b"\x93\x00\x01\x02"])
def test_bytes_that_are_no_record_refer_to_no_block(data: bytes) -> None:
    assert block_of(data) == -1


# -- functions -------------------------------------------------------------------------------------


def test_functions_have_one_number_for_equal_bytes_as_long_as_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alamo.manager.functions.IDLE_MAX_BYTES", 3)
    forgotten: list[int] = []
    functions = Functions(forgotten.append)
    assert [functions.add(blob) for blob in (b"aa", b"bb", b"aa", b"cccc")] == [0, 1, 0, 2]
    functions.release([0, 1])
    assert (forgotten, len(functions)) == ([], 3), "one is used, one may be used again"
    assert functions.add(b"bb") == 1
    functions.release([1, 0])
    assert forgotten == [1], "the one that has been idle for longest"
    assert functions[0] == b"aa"
    functions.release([2])
    assert forgotten == [1, 0, 2]
    assert len(functions) == 0
    assert functions.add(b"aa") == 3, "a number is never used again"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5))))
def test_functions_in_use_are_there(steps: list[tuple[bool, int]]) -> None:
    used: list[int] = []
    blobs: dict[int, bytes] = {}
    forgotten: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alamo.manager.functions.IDLE_MAX_BYTES", 6)
        functions = Functions(forgotten.append)
        for add, k in steps:
            if add or not used:
                number = functions.add(bytes([k]) * k)
                used.append(number)
                blobs[number] = bytes([k]) * k
            else:
                functions.release([used.pop(k % len(used))])
            assert all(functions[number] == blobs[number] for number in used)
            assert not set(used) & set(forgotten)
            idle = set(functions._blobs) - set(used)
            assert sum(len(functions[number]) for number in idle) <= 6
    assert len(forgotten) == len(set(forgotten))
