"""What a client sends arrives whole and in order, and posting never blocks."""

from __future__ import annotations

import socket
import threading

from alamo.batch.outlet import Outlet
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader


def received(sock: socket.socket, count: int) -> list[msg.Message]:
    reader: MessageReader[msg.Message] = MessageReader(msg.ClientMessage)
    found: list[msg.Message] = []
    while len(found) < count and reader.receive(sock):
        found += reader.messages()
    return found


def test_posting_does_not_block_and_loses_nothing() -> None:
    """Nobody reads; then somebody does, and the next message brings the rest along."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = Outlet(ours)
        posted = [msg.BlocksReleased([n] * 100) for n in range(2000)]
        for message in posted:
            outlet.post(message)
            outlet.push()
        thread = threading.Thread(target=outlet.send, args=([msg.Closed()],))
        thread.start()
        assert received(theirs, 2001) == [*posted, msg.Closed()]
        thread.join(60)
        assert not thread.is_alive()


def test_posting_while_another_thread_is_stuck_in_a_send() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = Outlet(ours)
        large = msg.FunctionDefined(0, bytes(4_000_000))
        thread = threading.Thread(target=outlet.send, args=([large],))
        thread.start()
        while not outlet._lock.locked():
            pass
        outlet.post(msg.BlocksReleased([1]))
        outlet.push()
        assert not outlet.send_at_once(msg.TerminateAsked(), 0.01)
        assert received(theirs, 1) == [large]
        thread.join(60)
        assert not thread.is_alive()
        outlet.push()
        assert received(theirs, 1) == [msg.BlocksReleased([1])]


def test_a_broken_connection_is_the_senders_affair() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        outlet = Outlet(ours)
        outlet.post(msg.Closed())
        outlet.push()
        assert not outlet.send_at_once(msg.Closed(), 1)
