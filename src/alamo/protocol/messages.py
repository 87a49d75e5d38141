"""Every message between alamo's processes, grouped by direction.

Control data is typed and checked by msgspec when it is decoded; nothing here is ever
unpickled.  User data (functions, arguments, results) travels inside as opaque bytes.
Columns are little arrays in machine byte order, uint32 unless said otherwise.  Paths that
need not be text (``cwd``, ``sys_path``) are as ``os.fsencode`` makes them.

    client ──► manager ──► worker           nursery_messages: to and from what forks workers
           ◄──         ◄──
"""

from __future__ import annotations

from typing import ClassVar

from alamo.protocol.answers import (
    Account,
    AttemptFailed,
    Cancelled,
    Challenge,
    Ended,
    Logged,
    Machine,
    Refused,
    Results,
    Skipped,
    SlotsChanged,
    Welcome,
)
from alamo.protocol.client_messages import (
    AccountAsked,
    BlocksReleased,
    CancelAsked,
    Closed,
    Dropped,
    Forked,
    FunctionDefined,
    Hello,
    JoinAsked,
    MachineAsked,
    ObjectDefined,
    Opened,
    Page,
    ScaleAsked,
    Sealed,
    Setup,
    Started,
    TerminateAsked,
    TermsDefined,
)
from alamo.protocol.message import NO_FUNCTION, SLOTS_MAX, VERSION, Message
from alamo.protocol.worker_messages import (
    Chunk,
    Finished,
    FunctionsForgotten,
    ObjectsForgotten,
    Ready,
    Stopped,
)

__all__ = [
    "NO_FUNCTION",
    "SLOTS_MAX",
    "VERSION",
    "Account",
    "AccountAsked",
    "AttemptFailed",
    "BlockMade",
    "Blocked",
    "BlocksFree",
    "BlocksGone",
    "BlocksReleased",
    "CancelAsked",
    "Cancelled",
    "Challenge",
    "Chunk",
    "ClientMessage",
    "Closed",
    "Dropped",
    "Ended",
    "Finished",
    "Forked",
    "FunctionDefined",
    "FunctionsForgotten",
    "Hello",
    "JoinAsked",
    "Logged",
    "Machine",
    "MachineAsked",
    "Message",
    "ObjectDefined",
    "ObjectsForgotten",
    "Opened",
    "Page",
    "Ready",
    "Refused",
    "Results",
    "ScaleAsked",
    "Sealed",
    "Setup",
    "Skipped",
    "SlotsChanged",
    "Started",
    "Stopped",
    "TerminateAsked",
    "TermsDefined",
    "ToClient",
    "ToWorker",
    "Welcome",
    "WorkerMessage",
]

# -- from clients and workers -----------------------------------------------------------


class Blocked(Message):
    """The task in which the sender lives, or that it runs, stands still in a wait, or goes on.

    A client tells of waits for other tasks, a worker of waits for shared data.
    """

    blocked: bool


# -- memory blocks, all directions ------------------------------------------------------


class BlockMade(Message):
    """A shared block exists; its descriptor travels with this message."""

    descriptors: ClassVar[int] = 1

    block: int
    size: int


class BlocksFree(Message):
    """To the maker: nobody uses these blocks any more, fill them again."""

    blocks: list[int]


class BlocksGone(Message):
    """The maker will not use these blocks again; unmap them."""

    blocks: list[int]


ClientMessage = (
    Setup
    | Hello
    | FunctionDefined
    | ObjectDefined
    | Opened
    | Page
    | Started
    | Dropped
    | Sealed
    | TermsDefined
    | CancelAsked
    | AccountAsked
    | MachineAsked
    | BlocksReleased
    | BlockMade
    | BlocksGone
    | Forked
    | Blocked
    | Closed
    | ScaleAsked
    | JoinAsked
    | TerminateAsked
)
ToClient = (
    Challenge
    | Welcome
    | Refused
    | Results
    | Skipped
    | Cancelled
    | AttemptFailed
    | Account
    | Machine
    | SlotsChanged
    | Ended
    | Logged
    | BlockMade
    | BlocksFree
    | BlocksGone
)
ToWorker = (
    Chunk
    | FunctionDefined
    | FunctionsForgotten
    | ObjectDefined
    | ObjectsForgotten
    | BlockMade
    | BlocksFree
    | BlocksGone
)
WorkerMessage = Ready | Finished | Stopped | Blocked | BlockMade | BlocksGone | Logged
