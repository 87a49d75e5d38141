"""What stands in pickled arguments for things that travel apart.

A handle of another task (``task.result``) and an object that is large or shared by
several tasks are pickled as a call of a function below.  While a worker unpickles a
task's arguments, ``inputs`` holds what they resolve to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Inputs:
    """Sources of placeholder values in this process; the worker sets them a chunk.

    Attributes:
        outcome: (element, stream) -> a fresh copy of that task's output.
        shared: object number -> a fresh copy of that object.
        fresh: copies made for the task whose arguments are being unpickled, so that one
            object passed twice is one object; emptied before each task.
    """

    def __init__(self) -> None:
        self.outcome: Callable[[int, int], Any] = _outside
        self.shared: Callable[[int], Any] = _outside
        self.fresh: dict[int, Any] = {}


def _outside(*_: int) -> Any:
    raise RuntimeError("a task's handle or argument was unpickled outside of its worker")


inputs = Inputs()


def task_output(element: int, stream: int) -> Any:
    """What a handle inside an argument becomes in the worker."""
    return inputs.outcome(element, stream)


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
