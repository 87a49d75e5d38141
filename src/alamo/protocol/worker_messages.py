"""Messages between the manager and its workers."""

from __future__ import annotations

from alamo.protocol.bindings import Binding
from alamo.protocol.message import Message

__all__ = [
    "Chunk",
    "Finished",
    "FunctionsForgotten",
    "ObjectsForgotten",
    "Ready",
    "Stopped",
]


class Chunk(Message):
    """Tasks to run in this order.

    Element ``first + i`` or ``elements[i]`` has sequence number ``seq + i``.
    ``fused``: stop at the first failure.  ``keep``: positions whose outcome later
    elements of this chunk take as an argument.  ``inputs``: outcomes of elements
    outside the chunk that are arguments inside.  ``gifts``: pairs (position, block): a
    block that nobody but this element needs, whose result may be put there.
    ``counts``: of an array, as in ``Page``; ``skip`` elements of the first pickle are not meant.
    ``quick``: its elements are too short to be looked at one by one.
    ``binding``: what executables that it starts are bound to, where that is not the worker's.
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
    binding: Binding | None = None


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
    ``marks`` of outcomes in a buffer are there too.
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
    marks: bytes = b""


class Stopped(Message):
    """The worker stopped before ``seq`` and dropped everything behind; ``epoch`` is its new one."""

    seq: int
    epoch: int
