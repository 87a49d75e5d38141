"""Messages from clients to the manager."""

from __future__ import annotations

from alamo.protocol.message import Message

__all__ = [
    "AccountAsked",
    "BlocksReleased",
    "CancelAsked",
    "Closed",
    "Dropped",
    "Forked",
    "FunctionDefined",
    "Hello",
    "JoinAsked",
    "MachineAsked",
    "ObjectDefined",
    "Opened",
    "Page",
    "ScaleAsked",
    "Sealed",
    "Setup",
    "Started",
    "TerminateAsked",
    "TermsDefined",
]


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
    ``priority``: a program of a higher one goes first.
    """

    program: int
    cwd: bytes
    growing: bool = False
    array: bool = False
    priority: int = 0


class TermsDefined(Message):
    """What elements of a program that refer to ``number`` (1 or more) need and may do.

    ``cores`` to ``bound`` as in ``core.terms.Need``, ``retries`` to ``jitter`` as in ``Terms``.
    ``timeout_s``: how long one may run, 0 for ever.  ``memory_bytes`` is also its limit.
    An attempt that failed is retried when one of the classes of its exception is named in
    ``types`` (``module.qualname``), its exit code is among ``exit_codes``, or its worker died and
    ``lost``; after every failure but a cancelled one when nothing of these is given.
    """

    program: int
    number: int
    cores: int = 1
    gpu_parts: int = 0
    gpu_choice: tuple[int, ...] = ()
    memory_bytes: int = 0
    cpus: tuple[int, ...] = ()
    pinned: bool = False
    bound: bool = False
    timeout_s: float = 0.0
    retries: int = 0
    backoff_s: float = 0.0
    factor: float = 2.0
    jitter: float = 0.0
    types: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = ()
    lost: bool = False


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
    ``terms``: the number of the terms of all, 0 for the default, or a column.
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
    terms: int | bytes = 0


class Started(Message):
    """The program may run."""

    program: int
    ranks: bytes = b""


class Dropped(Message):
    """Nobody holds the program's handles any more."""

    program: int


class CancelAsked(Message):
    """Elements (column) of a program shall not run, or not go on; ``everything``: all of them."""

    program: int
    elements: bytes = b""
    everything: bool = False
    reason: str = ""


class AccountAsked(Message):
    """What is it with this element?  Answered by ``Account`` with the same ``request``."""

    request: int
    program: int
    element: int


class MachineAsked(Message):
    """What is there to be had?  Answered by ``Machine`` with the same ``request``."""

    request: int


class BlocksReleased(Message):
    """The sender has copied what it wanted out of these blocks."""

    blocks: list[int]


class Forked(Message):
    """The client's process is about to fork: its child keeps the blocks that it has mapped."""


class Closed(Message):
    """The client submits no more."""


class ScaleAsked(Message):
    """The primary client wants so many tasks to run at once from now on."""

    slots: int


class JoinAsked(Message):
    """The primary client waits for the end of the service."""


class TerminateAsked(Message):
    """End at once."""
