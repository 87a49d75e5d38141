"""What stands in pickled arguments for things that travel apart.

A handle of another task (``task.result``) and an object that is large or shared by
several tasks are pickled as a call of a function below.  While a worker unpickles a
task's arguments, ``inputs`` holds what they resolve to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alamo.errors import SerializationError, UsageError
from alamo.protocol.output_form import OutputForm
from alamo.protocol.records import RAW
from alamo.protocol.shortening import KEPT_BYTES, is_shortened


class Inputs:
    """Sources of placeholder values in this process; the worker sets them a chunk.

    Attributes:
        outcome: (element, stream) -> a fresh copy of that task's output; of a stream plus ``RAW``
            the bytes.
        shared: object number -> a fresh copy of that object.
        part: object number -> the class or function that it is in this worker.
        fresh: copies made for the task whose arguments are being unpickled, so that one
            object passed twice is one object; emptied before each task.
    """

    def __init__(self) -> None:
        self.outcome: Callable[[int, int], Any] = _outside
        self.shared: Callable[[int], Any] = _outside
        self.part: Callable[[int], Any] = _outside
        self.fresh: dict[int, Any] = {}


def _outside(*_: int) -> Any:
    raise RuntimeError("a task's handle or argument was unpickled outside of its worker")


inputs = Inputs()


def task_output(element: int, stream: int) -> Any:
    """What a handle inside an argument becomes in the worker."""
    return inputs.outcome(element, stream)


def shown_output(element: int, stream: int, form: OutputForm) -> str | bytes:
    """What a handle of a stream becomes whose task says how it is to be read."""
    return form.given(stream, inputs.outcome(element, stream | RAW))


def raw_output(element: int, stream: int) -> bytes:
    """What a handle of a stream becomes that is another program's input."""
    data: bytes = inputs.outcome(element, stream | RAW)
    if is_shortened(data):
        raise UsageError(
            f"the output that is to be this task's stdin has more than {2 * KEPT_BYTES} bytes, "
            "of which only head and tail were kept; write it to a file: stdout=path in the task "
            "that makes it, stdin=path in this one"
        )
    return data


def array_output(elements: Sequence[int], stream: int) -> Any:
    """What a handle of an array whose elements are tasks becomes in the worker."""
    return [inputs.outcome(element, stream) for element in elements]


def shared_object(number: int) -> Any:
    """What a large or shared argument becomes in the worker."""
    fresh = inputs.fresh
    if number not in fresh:
        fresh[number] = inputs.shared(number)
    return fresh[number]


class SharedObject:
    """Stands for an object of the program inside pickled arguments."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return shared_object, (self.number,)


def not_pickled(why: str) -> Any:
    """What arguments that could not be pickled become in the worker."""
    raise SerializationError(why)


class NotPickled:
    """Stands for the arguments of an element that could not be pickled: it fails alone."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return not_pickled, (self.why,)
