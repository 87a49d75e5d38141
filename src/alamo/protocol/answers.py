"""Messages from the manager to clients."""

from __future__ import annotations

from alamo.protocol.marks import Timing
from alamo.protocol.message import Message

__all__ = [
    "Account",
    "AttemptFailed",
    "Cancelled",
    "Challenge",
    "Ended",
    "Logged",
    "Machine",
    "Refused",
    "Results",
    "Skipped",
    "SlotsChanged",
    "Welcome",
]


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
    ``failed`` are positions of failures, ``blocks`` pairs (position, block).  ``timing``: when,
    where and at what cost they came to be, as far as known.
    """

    program: int
    first: int
    elements: bytes
    ends: bytes
    payload: bytes
    failed: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    timing: Timing | None = None


class Skipped(Message):
    """Elements (column) that did not run, and the failed element (column) each depends on."""

    program: int
    elements: bytes
    roots: bytes


class Cancelled(Message):
    """Elements (column) that were cancelled before they began."""

    program: int
    elements: bytes
    reason: str = ""


class AttemptFailed(Message):
    """An attempt failed and another follows in ``delay_s``; ``outcome`` as in ``Results``."""

    program: int
    element: int
    outcome: bytes
    delay_s: float = 0.0


class Account(Message):
    """How it stands with an element: see ``core.explain.Account``, whose fields these are.

    ``waits_for``: elements of the same program.  ``lacks``: (what, wanted, free).  ``holders``:
    (program, element) of those that hold what it lacks, ``program`` -1 when another client's.
    ``awaits``: what one that runs stands still for, "tasks" that it submitted or shared "data".
    """

    request: int
    state: str
    waits_for: tuple[int, ...] = ()
    waits_for_count: int = 0
    lacks: tuple[tuple[str, int, int], ...] = ()
    holders: tuple[tuple[int, int], ...] = ()
    ahead: int = 0
    attempt: int = 1
    retry_in_s: float = 0.0
    worker: int = -1
    pid: int = -1
    host: str = ""
    awaits: tuple[str, ...] = ()


class Machine(Message):
    """What there is: slots, names of GPUs, memory that may be reserved, CPUs to pin to."""

    request: int
    slots: int
    gpus: tuple[str, ...] = ()
    memory_bytes: int = 0
    cpus: tuple[int, ...] = ()
    #: Why GPUs could not be looked for.
    gpu_error: str = ""


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
