"""Uses of shared blocks as the manager counts them, and which arguments it gives away."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from alamo.manager.blocks import BlockRegistry
from alamo.manager.programs import ProgramData
from alamo.protocol import messages as msg


class Peer:
    """A connection that notes what is sent."""

    def __init__(self) -> None:
        self.closed = False
        self.sent: list[msg.Message] = []

    def send(self, message: msg.Message, fds: Sequence[int] = ()) -> None:
        self.sent.append(message)

    def taken(self) -> list[msg.Message]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def registry() -> Iterator[Any]:
    blocks = BlockRegistry()
    yield blocks
    blocks.gone(list(blocks._blocks))


def made(registry: Any, maker: Peer, block: int) -> None:
    registry.made(maker, block, 1 << 20, os.memfd_create("test"))


def test_an_argument_becomes_a_result(registry: Any) -> None:
    """The block is back with its maker when the result is dropped, and not before."""
    client, worker = Peer(), Peer()
    made(registry, client, 7)
    registry.use(7)  # the argument
    registry.show(7, worker)
    assert registry.is_only_use(7)
    registry.use(7)  # the outcome, while it is passed on
    registry.show(7, client)
    registry.use(7)  # the client's
    assert not registry.is_only_use(7)
    registry.released([7])  # the argument
    registry.released([7])  # the passing on
    assert client.taken() == [msg.BlockMade(7, 1 << 20)]
    registry.released([7])  # the client's view
    assert client.taken() == [msg.BlocksFree([7])]
    registry.gone([7])  # its maker gives it up: as a reader it is told to unmap it
    assert client.taken() == [msg.BlocksGone([7])]
    assert [type(m) for m in worker.taken()] == [msg.BlockMade, msg.BlocksGone]


def test_only_a_block_of_one_use_is_given(registry: Any) -> None:
    client = Peer()
    made(registry, client, 1)
    assert not registry.is_only_use(1)  # of none
    registry.use(1)
    assert registry.is_only_use(1)
    registry.keep([1])  # a forked child has it
    assert not registry.is_only_use(1)
    assert not registry.is_only_use(2)
    assert registry.is_of(1, client)
    assert not registry.is_of(1, Peer())
    assert not registry.is_of(2, client)


def test_a_result_outlives_the_maker_of_its_block(registry: Any) -> None:
    client, other = Peer(), Peer()
    made(registry, client, 1)
    registry.use(1)
    registry.show(1, other)
    registry.show(1, client)
    client.closed = True
    client.taken()
    registry.peer_gone(client)
    assert registry.knows(1)
    registry.released([1])
    assert not registry.knows(1)
    assert [type(m) for m in other.taken()] == [msg.BlockMade, msg.BlocksGone]
    assert client.taken() == []


def program(objects: dict[int, tuple[int, ...]], sizes: dict[int, int]) -> ProgramData:
    """A program whose elements use objects; a size is that of an object in a block 100 higher."""
    data = ProgramData(0, 0, 0, "/")
    for number in {n for numbers in objects.values() for n in numbers}:
        size = sizes.get(number, 0)
        definition = msg.ObjectDefined(0, number, b"")
        if size:
            definition.block, definition.spans = 100 + number, (0, 10, 64, size)
        data.definitions[number] = definition
    count = max(objects) + 1
    lengths = array("I", [0] * count).tobytes()
    data.add_page(msg.Page(0, count, 0, lengths, b"", objects=tuple(objects.items())), 0)
    return data


def test_gifts() -> None:
    data = program(
        {0: (0,), 1: (1, 2), 2: (1,), 4: (3,), 5: (4, 5, 6)},
        {0: 1000, 1: 9000, 2: 500, 4: 10, 5: 3000, 6: 2000},
    )
    # Object 1 has two users, 3 has no block; of several the largest.
    assert data.gifts_of(range(6)) == [(0, 100), (1, 102), (5, 105)]
    assert data.gifts_of([5, 3, 1]) == [(0, 105), (2, 102)]
    assert data.gifts_of([2, 4]) == []
    data.ended([1])
    assert data.gifts_of([2, 4]) == [(0, 101)]  # the last user
