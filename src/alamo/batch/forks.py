"""A fork of the process and its clients: the child registers anew when it first uses one."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.outcomes import Program

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_programs: weakref.WeakSet[Program] = weakref.WeakSet()


def watch(client: Client) -> None:
    """Tell the client of forks."""
    _clients.add(client)


def watch_program(program: Program) -> None:
    """Tell the program of forks."""
    _programs.add(program)


class RegisterAtUse(Iterator[int]):
    """Stands in for the uids of a client that is not registered: the first one registers it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __next__(self) -> int:
        self._client.register_again()
        return next(self._client.uids)


def _before() -> None:
    for client in list(_clients):
        client.before_fork()


def _after_in_child() -> None:
    for program in list(_programs):
        program.after_fork()
    for client in list(_clients):
        client.after_fork()


os.register_at_fork(before=_before, after_in_child=_after_in_child)
