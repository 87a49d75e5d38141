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
from typing import Any

import cloudpickle

from alamo.errors import AlamoError, SerializationError
from alamo.protocol.blocks import BUFFER_MIN_BYTES
from alamo.protocol.importable import importable

PROTOCOL = 5
#: Values of these types hold no references, buffers or classes.
ATOMS: frozenset[type] = frozenset({int, float, str, bool, type(None), complex})
#: For them the older protocol, which has no frames: half the bytes of a small pickle.
ATOMS_PROTOCOL = 3

#: Classes of this process that were pickled by value, and those that came by value.
_native: weakref.WeakSet[type] = weakref.WeakSet()
_foreign: weakref.WeakSet[type] = weakref.WeakSet()


def dump(value: Any) -> tuple[bytes, list[PickleBuffer]]:
    """Pickle a value; buffers of 64 KiB and more come out of band.

    Raises:
        SerializationError: neither pickle nor cloudpickle can do it.
    """
    buffers: list[PickleBuffer] = []

    def in_band(buffer: PickleBuffer) -> bool:
        if buffer.raw().nbytes < BUFFER_MIN_BYTES:
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
    return _dump_by_value(value, in_band), buffers


def _can_load_there(data: bytes) -> bool:
    """Whether a pickle refers to no module that workers cannot import."""
    for marker in importable.markers:  # noqa: SIM110
        if marker in data:
            return False
    return True


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, but a class that comes home keeps its own methods and attributes, and one
    with slots has slots there too, so that its objects fit the class here."""

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) or not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        if obj not in _foreign:
            _native.add(obj)
        make, args, state, *rest, _ = reduced
        if make is cloudpickle.cloudpickle._make_skeleton_class and "__slots__" in vars(obj):
            kind, name, bases, namespace, *ids = args
            args = (kind, name, bases, {**namespace, "__slots__": vars(obj)["__slots__"]}, *ids)
        return (make, args, state, *rest, set_class_state)


def set_class_state(kind: type, state: Any) -> type:
    """Fill a class that came by value, unless it is from here: cloudpickle would replace the
    methods of this process's own class by copies with globals of their own."""
    if kind not in _native:
        _foreign.add(kind)
        cloudpickle.cloudpickle._class_setstate(kind, state)
    return kind


def _dump_by_value(value: Any, in_band: Callable[[PickleBuffer], bool] | None) -> bytes:
    file = io.BytesIO()
    try:
        _ByValue(file, protocol=PROTOCOL, buffer_callback=in_band).dump(value)
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
    return _dump_by_value(value, None)


def dump_function(function: Callable[..., Any]) -> bytes:
    """Pickle a function: by reference when workers can import it, else by value.

    Raises:
        SerializationError: it cannot be pickled.
    """
    module = getattr(function, "__module__", None)
    if isinstance(module, str):
        importable.look_at(module)
    return dump_in_line(function)


def load(data: bytes | memoryview, buffers: Sequence[Any] = ()) -> Any:
    """Unpickle; ``buffers`` are what came out of band, in order."""
    return pickle.loads(data, buffers=buffers) if buffers else pickle.loads(data)
