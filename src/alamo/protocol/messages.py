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

import msgspec

#: Bumped with every incompatible change; peers of another version are refused.
VERSION = 1
#: A function number that means: nothing to run (a join).
NO_FUNCTION = 0xFFFF_FFFF
#: Tasks that one service may run at once.
SLOTS_MAX = 4096


class Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Base of all messages; the class name is the tag."""

    #: File descriptors that travel with it.
    descriptors: ClassVar[int] = 0


# -- client -> manager ---------------------------------------------------------------


class Setup(Message):
    """First words of the process that starts a manager, over an inherited socket."""

    version: int
    secret: bytes
    runtime_root: str
    slots: int
    log_level: int
    sys_path: list[bytes]
    cwd: bytes
    pid: int
    telemetry: bool = False


class Hello(Message):
    """A further client introduces itself and proves that it knows the secret."""

    version: int
    proof: bytes
    nonce: bytes
    pid: int
    #: The worker in which this client lives, -1 outside of workers.
    worker: int = -1


class FunctionDefined(Message):
    """A pickled function, by the sender's number, for good or until the program is done."""

    number: int
    blob: bytes
    program: int = -1


class ObjectDefined(Message):
    """An argument that is large or used by several tasks, or a part that any may refer to."""

    program: int
    number: int
    value: bytes
    block: int = -1
    spans: tuple[int, ...] = ()
    is_part: bool = False


class Opened(Message):
    """A program begins; its tasks run in ``cwd``.  ``growing``: pages come after Started too.

    ``array``: its elements are those of one array task, which all call one function.
    """

    program: int
    cwd: bytes
    growing: bool = False
    array: bool = False


class Sealed(Message):
    """A growing program gets no more pages; ``failed``: not all that were to come."""

    program: int
    failed: bool = False


class Page(Message):
    """The next ``count`` elements of a program.

    ``functions`` is one number for all, or a column.  ``lengths`` cut ``args`` into the
    pickled argument tuples (lengths, not ends: any range of them is a column again).
    ``pred_ends``/``preds`` as in the scheduler.
    ``inputs``: elements whose arguments hold handles of the elements listed.
    ``objects``: elements whose arguments refer to the objects listed.
    ``gates``: pairs of an element and the program of the array that it stands for.

    Of an array several elements may share a pickle: ``lengths`` has an entry a pickle, and
    ``counts`` says how many elements each holds, in columns; 0 for one element's argument tuple.
    ``unused``: objects that no page from this one on refers to; the others of an array may be
    referred to until it is sealed.
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
    gates: tuple[tuple[int, int], ...] = ()
    counts: bytes = b""
    unused: tuple[int, ...] = ()


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


class ScaleAsked(Message):
    """The primary client wants so many tasks to run at once from now on."""

    slots: int


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
    metrics_url: str = ""


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


class SlotsChanged(Message):
    """So many tasks may run at once now; to all clients but the one that asked for it."""

    slots: int


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
    outside the chunk that are arguments inside.  ``gifts``: pairs (position, block): a
    block that nobody but this element needs, whose result may be put there.
    ``counts``: of an array, as in ``Page``; ``skip`` elements of the first pickle are not meant.
    ``quick``: its elements are too short to be looked at one by one.
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
    cwd: bytes
    fused: bool = False
    keep: tuple[int, ...] = ()
    inputs: tuple[tuple[int, bytes], ...] = ()
    counts: bytes = b""
    skip: int = 0
    quick: bool = False
    gifts: tuple[tuple[int, int], ...] = ()


class FunctionsForgotten(Message):
    """No further task of these functions will come here."""

    numbers: list[int]


class ObjectsForgotten(Message):
    """No further task of the program needs these objects, or any when none are listed."""

    program: int
    numbers: tuple[int, ...] = ()


# -- worker -> manager ---------------------------------------------------------------


class Ready(Message):
    """The worker waits for work."""

    pid: int


class Finished(Message):
    """Positions ``first``..``upto`` of a chunk have ended.

    Their outcomes lie in the worker's shared buffer ``buffer``, or, when it is -1, in ``ends`` and
    ``payload``; ``size`` is its length in bytes, ``blocks`` are pairs (position, block) in them.
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
    blocks: tuple[tuple[int, int], ...] = ()


class Stopped(Message):
    """The worker stopped before ``seq`` and dropped everything behind; ``epoch`` is its new one."""

    seq: int
    epoch: int


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
WorkerMessage = Ready | Finished | Stopped | BlockMade | BlocksGone | Logged
