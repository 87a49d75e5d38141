"""What goes into the scheduler and what comes out of it.

Events and effects carry ranges and batches of elements, never one object a task.
Numbers of programs, workers and chunks are given by the caller or counted up here;
an element is its index in its program.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from alamo.core.chunks import Chunk
from alamo.core.terms import PLAIN, Binding, Terms


class Event(msgspec.Struct):
    """Something that happened to the service."""


class ProgramOpened(Event):
    """A client began to send a program.

    ``depth`` is 0 for a program of an ordinary client and one more than its
    parent's for a program that a running task submitted.
    """

    program: int
    depth: int = 0
    #: Pages may come after it has started (then without edges), until it is sealed.
    growing: bool = False
    #: Among programs of one depth the higher goes first.
    priority: int = 0


class TermsDefined(Event):
    """Pages of the program may refer to these terms; ``number`` is 1 or more, 0 are the default."""

    program: int
    number: int
    terms: Terms


class MachineFound(Event):
    """What the machine has besides slots: GPUs, bytes of memory to reserve, CPUs to pin to."""

    gpus: int = 0
    memory_bytes: int = 0
    cpus: tuple[int, ...] = ()


class ProgramSealed(Event):
    """A growing program gets no more pages; ``failed``: some that were to come never will."""

    program: int
    failed: bool = False


class PageAdded(Event):
    """The next ``count`` elements of a program and the edges that lead to them.

    ``pred_ends`` (uint32, one an element) are cumulative ends into ``preds``
    (uint32; the top bit marks an order-only edge); both empty when no element of
    the page has a predecessor.  ``joins`` lists the elements with nothing to run.
    ``gates`` lists pairs (element, program): an array, whose elements are a program of
    their own, opened before.  That one starts when the element waits for nothing more,
    and the element ends when all of it has.
    ``terms`` is the number of the terms of all, or a uint32 column.
    """

    program: int
    count: int
    pred_ends: bytes | memoryview = b""
    preds: bytes | memoryview = b""
    joins: tuple[int, ...] = ()
    gates: tuple[tuple[int, int], ...] = ()
    terms: int | bytes = 0


class ProgramStarted(Event):
    """All pages are there; the program may run.  ``ranks`` (uint32) order ready elements."""

    program: int
    ranks: bytes | memoryview = b""


class ProgramDropped(Event):
    """Nobody wants the program any more: what has not begun never will."""

    program: int


class CancelAsked(Event):
    """Elements of the program shall not run, or not go on; ``None``: all, also those to come.

    Ended ones stay as they are.  What depends on them is skipped.
    """

    program: int
    elements: Sequence[int] | None = None


class ProgramPaused(Event):
    """Nothing more of the program is dealt; what has been goes on."""

    program: int


class ProgramResumed(Event):
    """The program may be dealt again."""

    program: int


class WorkerReady(Event):
    """A new worker process waits for work."""

    worker: int
    binding: Binding = PLAIN


class ChunkFinished(Event):
    """Elements of a chunk up to position ``upto`` (exclusive) have a result.

    ``failed`` are positions among the newly finished whose task raised;
    ``again`` are those of them that are to be tried again: their failure is not their end.
    ``elapsed_s`` is the time that the newly finished took together, 0 when nobody knows.
    """

    worker: int
    chunk: int
    upto: int
    failed: Sequence[int] = ()
    elapsed_s: float = 0.0
    again: Sequence[int] = ()


class ChunkRefused(Event):
    """A chunk dealt to the worker is too large to be sent: it is dealt again in smaller parts.

    Of a chunk with one element that is no way out; it is reported as finished and failed.
    """

    worker: int
    chunk: int


class TakenBack(Event):
    """Everything dealt to the worker from sequence number ``seq`` on will not run there."""

    worker: int
    seq: int


class WorkerResumed(Event):
    """The worker has confirmed that it stopped; it may be dealt work again."""

    worker: int


class WorkerLost(Event):
    """A worker process is gone.

    All before sequence number ``seq`` had finished (and was reported before this
    event); ``running`` says whether the element at ``seq`` had begun, ``again`` whether that
    one is to be tried again.  ``binding`` counts where the worker had not been ready, and
    ``hopeless`` says then that no further one for it will fare better.
    """

    worker: int
    seq: int = 0
    running: bool = False
    again: bool = False
    binding: Binding = PLAIN
    hopeless: bool = False


class StopAsked(Event):
    """The element at ``seq`` has been running for too long, or takes too much: it shall end."""

    worker: int
    seq: int


class WorkerBlocked(Event):
    """The task running in the worker waits for other tasks or for shared data, in one wait more
    than before."""

    worker: int


class WorkerUnblocked(Event):
    """One wait of the task running in the worker has ended."""

    worker: int


class SlotsChanged(Event):
    """From now on so many tasks may run at once; at least one."""

    slots: int


class Woken(Event):
    """A time asked for by ``WakeAt`` has come."""


class Effect(msgspec.Struct):
    """Something that the caller has to do, in the order of the list."""


class Deal(Effect):
    """Send the chunk to its worker."""

    worker: int
    chunk: Chunk


class Recall(Effect):
    """Take back what the worker has not begun; answer with ``TakenBack``, then ``WorkerResumed``.

    ``all`` takes everything behind the running element, otherwise the later half.
    """

    worker: int
    all: bool = False


class StopElement(Effect):
    """End the element that runs at ``seq``: nothing behind it will begin in this worker.

    Comes again only for another element.  One that has ended by then needs no answer.
    """

    worker: int
    seq: int


class SpawnWorkers(Effect):
    """Start this many more worker processes; each answers with ``WorkerReady``."""

    count: int
    binding: Binding = PLAIN


class RetireWorker(Effect):
    """End an idle worker; the scheduler has already forgotten it."""

    worker: int


class ElementLost(Effect):
    """The element was running in a worker that died; it has failed, or is tried ``again``.

    Or it was ready, and the worker is one of those that never came up with what it needs.
    """

    program: int
    element: int
    worker: int
    again: bool = False


class ElementsCancelled(Effect):
    """These elements were asked to be cancelled and had not begun; they never will."""

    program: int
    elements: list[int]


class ElementsSkipped(Effect):
    """These elements will not run: ``roots[i]`` is the failure that ``elements[i]`` depends on."""

    program: int
    elements: list[int]
    roots: list[int]


class GateClosed(Effect):
    """The program behind a gate has ended, and with it the element; it failed if one in there did.

    The ``ProgramDone`` of the inner program follows.
    """

    program: int
    element: int
    inner: int
    failed: bool


class ProgramDone(Effect):
    """Every element of the program has finished; forget the program."""

    program: int


class WakeAt(Effect):
    """Send ``Woken`` at this time."""

    at_s: float
