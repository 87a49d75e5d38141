"""Parts of one program: the classes and functions by value that its arguments hold, sent once."""

from __future__ import annotations

from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from alamo.batch.results import compiling
from alamo.errors import AlamoError
from alamo.protocol import pickling
from alamo.protocol.parts import Reduced, class_reference, function_reference, template_of


class ProgramParts:
    """Finds, pickles and ships them (``protocol.parts.Parts``).

    Args:
        ship: sends a pickled object that any task may need; returns its number.

    Attributes:
        kinds: classes among them, kept for results that come home as their instances.
    """

    def __init__(self, ship: Callable[[Any, bytes, list[PickleBuffer]], int]) -> None:
        self._ship = ship
        # id of a class, ids of a function's code and globals -> what is pickled, its number or -1
        self._known: dict[Any, tuple[Any, int]] = {}
        self._numbers: dict[bytes, int] = {}
        self.kinds: list[type] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def forget(self) -> None:
        """They may have changed since: pickle them anew; what is as before is not sent again."""
        self._known.clear()

    def reference(self, obj: Any) -> Reduced | None:
        """How a pickle refers to the class or function; ``None`` if it is no part yet."""
        if isinstance(obj, type):
            known = self._known.get(id(obj))
            return None if known is None or known[1] < 0 else class_reference(known[1])
        known = self._known.get((id(obj.__code__), id(obj.__globals__)))
        return None if known is None or known[1] < 0 else function_reference(obj, *known)

    def add(self, obj: Any) -> Reduced | None:
        """The same of one that is pickled for the first time; ``None`` to have it in line."""
        if isinstance(obj, type):
            key: Any = id(obj)
            part: Any = obj
        else:
            key = id(obj.__code__), id(obj.__globals__)
            part = template_of(obj)
        if key in self._known:
            return None
        self._known[key] = part, self._define(part)
        return self.reference(obj)

    def _define(self, part: Any) -> int:
        compiler, compiling.compiler = compiling.compiler, _NoHandles
        try:
            data, buffers = pickling.dump(part)
        except _HoldsHandle:  # each task that uses it depends on that one: in line
            return -1
        finally:
            compiling.compiler = compiler
        number = -1 if buffers else self._numbers.get(data, -1)
        if number < 0:
            number = self._ship(part, data, buffers)
            if not buffers:
                self._numbers[data] = number
            if isinstance(part, type):
                self.kinds.append(part)
        return number


class _HoldsHandle(AlamoError):
    """A handle of another task is in what should be a part."""


class _NoHandles:
    """Stands in for the compiler."""

    @staticmethod
    def source_of(*_: Any) -> int:
        raise _HoldsHandle
