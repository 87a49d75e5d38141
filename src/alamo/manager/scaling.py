"""More or fewer slots, when the primary client asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.errors import ProtocolError
from alamo.manager.blocks import blocks_max_of
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.manager.clients import Client
    from alamo.manager.service import Service


def scale(service: Service, client: Client, slots: int) -> None:
    """Run so many tasks at once from now on, and tell the other clients.

    Raises:
        ProtocolError: the client is not the primary, or that is no number of slots.
    """
    if client.number != service.session.primary or not 1 <= slots <= msg.SLOTS_MAX:
        raise ProtocolError(f"scaling to {slots} slots by client {client.number}")
    service.pool.limit_blocks(blocks_max_of(slots)[0])
    for other in service.clients.values():
        if other is not client:
            other.connection.send(msg.SlotsChanged(slots))
    service.drive(ev.SlotsChanged(slots))
