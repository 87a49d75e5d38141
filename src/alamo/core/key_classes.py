"""Which classes count as keys by their structure: dataclasses, Enums, numpy's scalars, numbers.

Asked once a class by :mod:`alamo.core.keys`.  Nothing here imports numpy.
"""

from __future__ import annotations

import dataclasses
import numbers
from enum import Enum
from typing import Any

__all__ = [
    "class_name",
    "compared_fields",
    "counts_by_identity",
    "has_hash",
    "is_number",
    "is_numpy_scalar",
]

#: numpy's scalars without a Python type of the same equality.
_NUMPY_REFUSED = frozenset(("datetime64", "timedelta64", "void", "object_"))


def class_name(cls: type) -> str:
    """Return the name by which a class is known in every process.

    The main module of a process that ``multiprocessing`` has spawned is the main module.
    """
    module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
    return f"{module}.{cls.__qualname__}"


def compared_fields(cls: type) -> tuple[str, ...] | None:
    """Return the fields that make instances of a frozen dataclass equal.

    None for any other class, also for a dataclass with an ``__eq__`` of its own.
    """
    params = getattr(cls, "__dataclass_params__", None)
    if params is None or not (params.frozen and params.eq):
        return None
    names = tuple(field.name for field in dataclasses.fields(cls) if field.compare)
    # The one way to know a generated __eq__ in every version of Python.
    reference = dataclasses.make_dataclass("Reference", names, frozen=True)
    generated = reference.__eq__.__code__
    own = getattr(cls.__eq__, "__code__", None)
    if own is None or (own.co_code, own.co_names) != (generated.co_code, generated.co_names):
        return None
    return names


def counts_by_identity(cls: type) -> bool:
    """Whether this is an Enum whose members equal only themselves."""
    return issubclass(cls, Enum) and cls.__eq__ is object.__eq__


def has_hash(cls: Any) -> bool:
    """Whether a class has a hash; an instance of it may have none all the same."""
    return cls.__hash__ is not None


def is_numpy_scalar(cls: type) -> bool:
    """Whether this is a scalar type of numpy's own with a Python type of the same equality.

    A ``datetime64`` is equal to ones of other units, to dates and to datetimes, but its ``item()``
    may be an int: there is no one form of it.
    """
    if cls.__module__ != "numpy":
        return False
    names = {base.__name__ for base in cls.__mro__ if base.__module__ == "numpy"}
    return "generic" in names and not names & _NUMPY_REFUSED


def is_number(cls: type) -> bool:
    """Whether a class has joined the integers or rationals of :mod:`numbers`.

    numpy counts ``timedelta64`` among the integers.
    """
    foreign = all(base.__module__ != "numpy" for base in cls.__mro__)
    return foreign and issubclass(cls, numbers.Rational)
