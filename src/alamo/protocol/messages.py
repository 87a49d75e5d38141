"""Every message between alamo's processes, grouped by direction.

Control data is typed and checked by msgspec when it is decoded; nothing here is ever
unpickled.  User data (functions, arguments, results) travels inside as opaque bytes.
Columns are little arrays in machine byte order, uint32 unless said otherwise.

    client ──► manager ──► worker           nursery: forks workers for the manager
           ◄──         ◄──
"""

from __future__ import annotations

import msgspec

#: Bumped with every incompatible change; peers of another version are refused.
VERSION = 1
#: A function number that means: nothing to run (a join).
NO_FUNCTION = 0xFFFF_FFFF


class Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Base of all messages; the class name is the tag."""


# -- client -> manager ---------------------------------------------------------------


class Setup(Message):
    """First words of the process that starts a manager, over an inherited socket."""

    version: int
    secret: bytes
    runtime_root: str
    slots: int
    log_level: int
    sys_path: list[str]
    cwd: str
    pid: int


class Hello(Message):
    """A further client introduces itself and proves that it knows the secret."""

    version: int
    proof: bytes
    nonce: bytes
    pid: int
    #: The worker in which this client lives, -1 outside of workers.
    worker: int = -1


class FunctionDefined(Message):
    """A pickled function, by the sender's number."""

    number: int
    blob: bytes


class ObjectDefined(Message):
    """An argument that is large or used by several tasks, shipped once a program."""

    program: int
    number: int
    value: bytes
    block: int = -1
    spans: tuple[int, ...] = ()


class Opened(Message):
    """A program begins; its tasks run in ``cwd``.  ``growing``: pages come after Started too."""

    program: int
    cwd: str
    growing: bool = False


class Sealed(Message):
    """A growing program gets no more pages."""

    program: int


class Page(Message):
    """The next ``count`` elements of a program.

    ``functions`` is one number for all, or a column.  ``lengths`` cut ``args`` into the
    pickled argument tuples (lengths, not ends: any range of them is a column again).
    ``pred_ends``/``preds`` as in the scheduler.
    ``inputs``: elements whose arguments hold handles of the elements listed.
    ``objects``: elements whose arguments refer to the objects listed.
    """

    program: int
    count: int
    functions: int | bytes
    lengths: bytes
    args: bytes
    pred_ends: bytes = b""
    preds: bytes = b""
    joins: tuple[int, ...] = ()
    inputs: tuple[tuple[int, tuple[int, ...]], ...] = ()
    objects: tuple[tuple[int, tuple[int, ...]], ...] = ()


class Started(Message):
    """The program may run."""

    program: int
    ranks: bytes = b""


class Dropped(Message):
    """Nobody holds the program's handles any more."""

    program: int


class BlocksReleased(Message):
    """The sender has copied what it wanted out of these blocks."""

    blocks: list[int]


class Forked(Message):
    """The client's process is about to fork: its child keeps the blocks that it has mapped."""


class Blocked(Message):
    """The task in which this client lives waits for other tasks, or goes on."""

    blocked: bool


class Closed(Message):
    """The client submits no more."""


class JoinAsked(Message):
    """The primary client waits for the end of the service."""


class TerminateAsked(Message):
    """End at once."""


# -- manager -> client ---------------------------------------------------------------


class Challenge(Message):
    """First words of a manager to whoever connects."""

    nonce: bytes


class Welcome(Message):
    """The client is registered; ``proof`` shows that the manager knows the secret too."""

    client: int
    proof: bytes
    address: str
    secret_path: str
    host: str
    pid: int
    slots: int
    blocks_max: int


class Refused(Message):
    """The client is not let in."""

    reason: str


class Results(Message):
    """Outcomes of elements ``first``.. or of those in the column ``elements``.

    ``ends`` are cumulative ends into ``payload``; each piece is a result as in ``Record``.
    ``failed`` are positions of failures, ``blocks`` pairs (position, block).
    """

    program: int
    first: int
    elements: bytes
    ends: bytes
    payload: bytes
    failed: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()


class Skipped(Message):
    """Elements (column) that did not run, and the failed element (column) each depends on."""

    program: int
    elements: bytes
    roots: bytes


class Ended(Message):
    """The service ends; no message follows.  An empty reason: all work is done."""

    reason: str = ""


class Logged(Message):
    """A log record of the manager or a worker."""

    name: str
    level: int
    text: str


# -- manager -> worker ---------------------------------------------------------------


class Chunk(Message):
    """Tasks to run in this order.

    Element ``first + i`` or ``elements[i]`` has sequence number ``seq + i``.
    ``fused``: stop at the first failure.  ``keep``: positions whose outcome later
    elements of this chunk take as an argument.  ``inputs``: outcomes of elements
    outside the chunk that are arguments inside.
    """

    number: int
    epoch: int
    seq: int
    program: int
    first: int
    elements: bytes
    count: int
    functions: int | bytes
    lengths: bytes
    args: bytes
    cwd: str
    fused: bool = False
    keep: tuple[int, ...] = ()
    inputs: tuple[tuple[int, bytes], ...] = ()


class ObjectsForgotten(Message):
    """No further task of the program will come here."""

    program: int


# -- worker -> manager ---------------------------------------------------------------


class Ready(Message):
    """The worker waits for work."""

    pid: int


class Finished(Message):
    """Positions ``first``..``upto`` of a chunk have ended.

    Their outcomes lie in the worker's shared buffer ``buffer``, or, when it is -1, in
    ``ends`` and ``payload``.  ``size`` is the payload's length in bytes.
    """

    chunk: int
    first: int
    upto: int
    elapsed_ns: int
    buffer: int
    size: int = 0
    failed: tuple[int, ...] = ()
    ends: bytes = b""
    payload: bytes = b""
    #: Blocks that the outcomes refer to, a pair (position, block) each.
    blocks: tuple[tuple[int, int], ...] = ()


class Stopped(Message):
    """The worker stopped before ``seq`` and dropped everything behind; ``epoch`` is its new one."""

    seq: int
    epoch: int


# -- memory blocks, all directions ------------------------------------------------------


class BlockMade(Message):
    """A shared block exists; its descriptor travels with this message."""

    block: int
    size: int


class BlocksFree(Message):
    """To the maker: nobody uses these blocks any more, fill them again."""

    blocks: list[int]


class BlocksGone(Message):
    """The maker will not use these blocks again; unmap them."""

    blocks: list[int]


# -- manager <-> nursery -----------------------------------------------------------------


class NurserySetup(Message):
    """What every worker needs to know."""

    sys_path: list[str]
    cwd: str
    log_level: int
    #: Socket path of the manager: which Batch a worker belongs to.
    address: str
    #: Memory blocks that a worker may have in use at once.
    blocks_max: int
    #: Descriptors that a task may have open (the soft limit); the manager's own is higher.
    files: int


class Spawn(Message):
    """Fork a worker; descriptors: its socket, shared memory, stdout, stderr, lifeline."""

    worker: int


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
    | BlocksReleased
    | BlockMade
    | BlocksGone
    | Forked
    | Blocked
    | Closed
    | JoinAsked
    | TerminateAsked
)
ToClient = (
    Challenge
    | Welcome
    | Refused
    | Results
    | Skipped
    | Ended
    | Logged
    | BlockMade
    | BlocksFree
    | BlocksGone
)
ToWorker = (
    Chunk | FunctionDefined | ObjectDefined | ObjectsForgotten | BlockMade | BlocksFree | BlocksGone
)
WorkerMessage = Ready | Finished | Stopped | BlockMade | BlocksGone | Logged
ToNursery = NurserySetup | Spawn
NurseryMessage = NurseryReady | Spawned | Exited

#: Messages that one file descriptor travels with, and how many.
DESCRIPTORS: dict[type[Message], int] = {BlockMade: 1, Spawn: 5}
