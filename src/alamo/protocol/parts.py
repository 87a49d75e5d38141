"""Parts: classes and functions by value, defined once a program and referred to by number.

A class is the same object for all tasks of a program in one worker, as it would be had the
worker imported it.  Of a function its code and globals are a part; closure and defaults are
the arguments' own.  A class that comes home is referred to by its name in cloudpickle's table.
"""

from __future__ import annotations

from types import CellType, FunctionType, ModuleType
from typing import Any, Protocol

from cloudpickle import cloudpickle

from alamo.protocol.placeholders import inputs

Reduced = tuple[Any, ...]


class Parts(Protocol):
    """Says what stands in a pickle for classes and functions that travel by value."""

    def reference(self, obj: Any) -> Reduced | None:
        """How a pickle refers to the class or function; ``None`` if it is no part yet."""

    def add(self, obj: Any) -> Reduced | None:
        """The same of one that is pickled for the first time; ``None`` to have it in line."""


# -- where the arguments are pickled -----------------------------------------------------------


def class_reference(number: int) -> Reduced:
    """What stands for a class."""
    return shared_class, (number,)


def template_of(function: FunctionType) -> FunctionType:
    """The function without what is its own: empty cells, no defaults, no attributes."""
    cells = tuple([CellType() for _ in function.__closure__ or ()]) or None
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    made.__doc__ = function.__doc__
    return made


def function_reference(function: FunctionType, template: FunctionType, number: int) -> Any:
    """What stands for a function with this template; ``None`` for one that is out of the ordinary.

    Cost: 2 us.
    """
    cells = None
    if function.__closure__:
        try:
            cells = tuple([cell.cell_contents for cell in function.__closure__])
        except ValueError:  # an empty cell
            return None
        if ModuleType in map(type, cells):  # cloudpickle looks for the submodules that it uses
            return None
    others = {
        name: getattr(function, name)
        for name in ("__name__", "__qualname__", "__module__", "__doc__")
        if getattr(function, name) is not getattr(template, name)
    }
    if function.__annotations__:
        others["__annotations__"] = function.__annotations__
    own = (cells, function.__defaults__, function.__kwdefaults__, function.__dict__, others)
    return function_like, (number,), own, None, None, fill_function


# -- where they are unpickled ------------------------------------------------------------------


def shared_class(number: int) -> Any:
    """A class that is a part becomes itself in the worker."""
    return inputs.part(number)


def function_like(number: int) -> FunctionType:
    """A new function with the code and globals of a part."""
    like = inputs.part(number)
    cells = tuple([CellType() for _ in like.__closure__ or ()]) or None
    made = FunctionType(like.__code__, like.__globals__, like.__name__, None, cells)
    made.__qualname__, made.__module__, made.__doc__ = (
        like.__qualname__,
        like.__module__,
        like.__doc__,
    )
    return made


def fill_function(function: FunctionType, own: tuple[Any, ...]) -> None:
    """Give a function what is its own: behind its creation, for its cells may hold itself."""
    cells, function.__defaults__, function.__kwdefaults__, attributes, others = own
    for cell, content in zip(function.__closure__ or (), cells or ()):
        cell.cell_contents = content
    function.__dict__.update(attributes)
    for name, value in others.items():
        setattr(function, name, value)


# -- classes on their way home -----------------------------------------------------------------


def homing_reference(kind: type, number: int) -> Reduced:
    """What stands for a class in a result of the program of which it is a part."""
    return homing_class, (cloudpickle._get_or_create_tracker_id(kind), number)


def homing_class(name: str, number: int) -> Any:
    """The class itself in its client; the program's part in another worker."""
    kind = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(name)
    return inputs.part(number) if kind is None else kind


#: Ids of the functions above that stand in pickles: every worker has them.
PLACEHOLDERS = frozenset(map(id, (shared_class, function_like, fill_function, homing_class)))
