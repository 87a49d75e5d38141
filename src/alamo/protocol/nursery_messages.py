"""Messages between the manager and its nursery, which forks workers."""

from __future__ import annotations

from typing import ClassVar

from alamo.protocol.bindings import Binding
from alamo.protocol.message import Message


class NurserySetup(Message):
    """What every worker needs to know."""

    sys_path: list[bytes]
    cwd: bytes
    log_level: int
    #: Socket path of the manager: which Batch a worker belongs to.
    address: str
    #: Memory blocks that a worker may have in use at once.
    blocks_max: int
    #: Descriptors that a task may have open (the soft limit); the manager's own is higher.
    files: int


class Spawn(Message):
    """Fork a worker; descriptors: its socket, shared memory, stdout, stderr, lifeline."""

    descriptors: ClassVar[int] = 5

    worker: int
    binding: Binding = Binding()


class Spawned(Message):
    """The worker runs as this process."""

    worker: int
    pid: int


class Exited(Message):
    """A worker's process ended with this status of ``waitpid``, or could not be started."""

    worker: int
    pid: int
    status: int
    cause: str = ""


class NurseryReady(Message):
    """The nursery is up."""


ToNursery = NurserySetup | Spawn
NurseryMessage = NurseryReady | Spawned | Exited
