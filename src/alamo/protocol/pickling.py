"""User values as bytes: C pickle first, cloudpickle by value where that cannot work.

cloudpickle costs ten times as much, so it is used only for what a worker cannot import
by name: ``__main__``, lambdas, functions of a notebook, modules outside ``sys.path``.
"""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Callable, Sequence
from pickle import PickleBuffer
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

import cloudpickle

from alamo.errors import AlamoError, SerializationError
from alamo.protocol.blocks import BUFFER_MIN_BYTES
from alamo.protocol.importable import importable
from alamo.protocol.parts import PLACEHOLDERS, Parts

PROTOCOL = 5
#: Values of these types hold no references, buffers or classes.
ATOMS: frozenset[type] = frozenset({int, float, str, bool, type(None), complex})
#: For them the older protocol, which has no frames: half the bytes of a small pickle.
ATOMS_PROTOCOL = 3
#: How the pickle of a function ends that is its module and name: STACK_GLOBAL, MEMOIZE, STOP.
_REFERENCE_END = b"\x93\x94."

#: Classes of this process that were pickled by value, and those that came by value.
_native: weakref.WeakSet[type] = weakref.WeakSet()
_foreign: weakref.WeakSet[type] = weakref.WeakSet()


def dump(
    value: Any, parts: Parts | None = None, apart_bytes: int = BUFFER_MIN_BYTES
) -> tuple[bytes, list[PickleBuffer]]:
    """Pickle a value; large buffers come out of band.

    Args:
        parts: what stands for classes and functions that travel by value; they are all there
            in the pickle without it.
        apart_bytes: buffers from this size on are large.

    Raises:
        SerializationError: neither pickle nor cloudpickle can do it.
    """
    buffers: list[PickleBuffer] = []

    def in_band(buffer: PickleBuffer) -> bool:
        if buffer.raw().nbytes < apart_bytes:
            return True
        buffers.append(buffer)
        return False

    try:
        data = pickle.dumps(value, PROTOCOL, buffer_callback=in_band)
    except AlamoError:
        raise
    except Exception:
        pass
    else:
        if _can_load_there(data):
            return data, buffers
    buffers.clear()
    return _dump_by_value(value, in_band, parts), buffers


def _can_load_there(data: bytes) -> bool:
    """Whether a pickle refers to no module that workers cannot import."""
    for marker in importable.markers:  # noqa: SIM110
        if marker in data:
            return False
    return True


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, but a class that comes home keeps its own methods and attributes, and one
    with slots has slots there too, so that its objects fit the class here.

    Cost: 100 us a class and 30 a function; 10 for an instance of a class that is a part.
    """

    def __init__(
        self,
        file: io.BytesIO,
        in_band: Callable[[PickleBuffer], bool] | None,
        parts: Parts | None,
    ) -> None:
        super().__init__(file, PROTOCOL, in_band)
        self._parts = parts

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, (type, FunctionType)):
            return _reduce_method(obj) if obj.__class__ is MethodType else NotImplemented
        if id(obj) in PLACEHOLDERS:
            return NotImplemented
        parts = self._parts
        if parts is not None:
            reference = parts.reference(obj)
            if reference is not None:
                return reference
        reduced = super().reducer_override(obj)
        if not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        if parts is not None:
            reference = parts.add(obj)
            if reference is not None:
                return reference
        return self._whole_class(obj, reduced) if isinstance(obj, type) else reduced

    @staticmethod
    def _whole_class(obj: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        if obj not in _foreign:
            _native.add(obj)
        make, args, state, *rest, _ = reduced
        kind, name, bases, namespace, *ids = args
        if (
            make is cloudpickle.cloudpickle._make_skeleton_class
            and "__slots__" in vars(obj)
            and NamedTuple not in bases  # which brings its own
        ):
            args = (kind, name, bases, {**namespace, "__slots__": vars(obj)["__slots__"]}, *ids)
        return (make, args, state, *rest, set_class_state)


def _reduce_method(method: MethodType) -> Any:
    """A bound method by its object and name; cloudpickle would make a copy of the function."""
    name = method.__func__.__name__
    if getattr(method.__self__, name, None) == method:
        return getattr, (method.__self__, name)
    return NotImplemented


def set_class_state(kind: type, state: Any) -> type:
    """Fill a class that came by value, unless it is from here: cloudpickle would replace the
    methods of this process's own class by copies with globals of their own."""
    if kind not in _native:
        _foreign.add(kind)
        cloudpickle.cloudpickle._class_setstate(kind, state)
    return kind


def _dump_by_value(
    value: Any,
    in_band: Callable[[PickleBuffer], bool] | None = None,
    parts: Parts | None = None,
) -> bytes:
    file = io.BytesIO()
    try:
        _ByValue(file, in_band, parts).dump(value)
        return file.getvalue()
    except AlamoError:
        raise
    except Exception as error:
        raise SerializationError(
            f"a value of type {type(value).__qualname__} cannot be pickled: "
            f"{type(error).__name__}: {error}"
        ) from error


def dump_in_line(value: Any) -> bytes:
    """Pickle a value that ``dump`` can pickle, with its buffers inside."""
    try:
        data = pickle.dumps(value, PROTOCOL)
        if _can_load_there(data):
            return data
    except Exception:
        pass
    return _dump_by_value(value)


def dump_function(function: Callable[..., Any]) -> bytes:
    """Pickle a function: by reference when workers can import it, else by value.

    Raises:
        SerializationError: it cannot be pickled.
    """
    _look_at_module_of(function)
    return dump_in_line(function)


def goes_by_reference(function: Callable[..., Any]) -> bool:
    """Whether ``dump_function`` sends no more than its name.  Cost: 2 us."""
    if not isinstance(function, (FunctionType, BuiltinFunctionType, type)):
        return False
    _look_at_module_of(function)
    try:
        data = pickle.dumps(function, PROTOCOL)
    except Exception:
        return False
    return is_reference(data) and _can_load_there(data)


def is_reference(data: bytes) -> bool:
    """Whether a pickled function is its module and name."""
    return data.endswith(_REFERENCE_END)


def _look_at_module_of(function: Callable[..., Any]) -> None:
    module = getattr(function, "__module__", None)
    if isinstance(module, str):
        importable.look_at(module)


def load(data: bytes | memoryview, buffers: Sequence[Any] = ()) -> Any:
    """Unpickle; ``buffers`` are what came out of band, in order."""
    return pickle.loads(data, buffers=buffers) if buffers else pickle.loads(data)
