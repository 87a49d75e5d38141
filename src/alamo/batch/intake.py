"""What comes in from the manager, message by message, on the receiver thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alamo.batch.logs import show
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.client import Client


def take(client: Client, message: msg.Message) -> None:
    """Pass a message on to whom it concerns."""
    match message:
        case msg.Results():
            program = client._programs.get(message.program)
            if program is not None:
                client.called(program, program.add_results(message))
            elif message.blocks:
                client.release_blocks([block for _, block in message.blocks])
        case msg.Skipped():
            program = client._programs.get(message.program)
            if program is not None:
                client.called(program, program.add_skipped(message))
        case msg.Cancelled():
            program = client._programs.get(message.program)
            if program is not None:
                elements = memoryview(message.elements).cast("I")
                client.called(program, program.add_cancelled(elements, message.reason))
        case msg.AttemptFailed():
            program = client._programs.get(message.program)
            if program is not None:
                program.add_attempt(message)
        case msg.BlockMade(block, size):
            client.memory.add_block(block, size, client._reader.take_descriptors(message)[0])
        case msg.BlocksFree(blocks):
            gone = client.blocks.freed(blocks)
            if gone:
                client.post(msg.BlocksGone(gone))
        case msg.BlocksGone(blocks):
            client.memory.blocks.gone(blocks)
            client.blocks.forget(blocks)
        case msg.Logged(name, level, text):
            show(name, level, text)
        case msg.SlotsChanged(slots):
            client.slots = slots
            client.options.forget()
        case msg.Account() | msg.Machine():
            client.inquiries.answered(message)
        case msg.Ended(reason):
            client.ended_by_manager(reason)
