"""The calls that a chunk holds, to be made in the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.worker import arrays
from alamo.worker.runner import FunctionTable


def calls_of(message: msg.Chunk, functions: FunctionTable) -> list[Callable[[], Any]]:
    """One for each element."""
    if message.counts:
        assert isinstance(message.functions, int)
        return arrays.calls_of(message, functions.get(message.functions))
    numbers: Sequence[int]
    if isinstance(message.functions, int):
        numbers = [message.functions] * message.count
    else:
        numbers = memoryview(message.functions).cast("I")
    calls: list[Callable[[], Any]] = []
    start = 0
    for number, length in zip(numbers, memoryview(message.lengths).cast("I"), strict=True):
        calls.append(_call_of(functions, number, message.args[start : start + length]))
        start += length
    return calls


def function_at(message: msg.Chunk, position: int) -> int:
    """The number of an element's function."""
    if isinstance(message.functions, int):
        return message.functions
    return memoryview(message.functions).cast("I")[position]


def cut_traceback(error: BaseException, own_files: frozenset[str]) -> None:
    """Leave the frames of the task's own code."""
    own_files = own_files | {__file__, arrays.__file__}
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in own_files:
        trace = trace.tb_next
    error.__traceback__ = trace


def _call_of(functions: FunctionTable, number: int, blob: bytes) -> Callable[[], Any]:
    def call() -> Any:
        return functions.get(number)(*pickling.load(blob))

    return call
