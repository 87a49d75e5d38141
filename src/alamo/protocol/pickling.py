"""User values as bytes: C pickle first, cloudpickle by value where that cannot work.

cloudpickle costs ten times as much, so it is used only for what a worker cannot import
by name: ``__main__``, lambdas, functions of a notebook, modules outside ``sys.path``.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pickle import PickleBuffer
from types import ModuleType
from typing import Any

import cloudpickle

from alamo.errors import AlamoError, SerializationError
from alamo.protocol.blocks import BUFFER_MIN_BYTES

PROTOCOL = 5
#: Values of these types hold no references, buffers or classes.
ATOMS: frozenset[type] = frozenset({int, float, str, bool, type(None), complex})
#: For them the older protocol, which has no frames: half the bytes of a small pickle.
ATOMS_PROTOCOL = 3

#: Modules that workers cannot import, registered with cloudpickle; name -> importable.
_modules: dict[str, bool] = {"__main__": False, "builtins": True}
_by_value = False


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

    if not _by_value:
        try:
            data = pickle.dumps(value, PROTOCOL, buffer_callback=in_band)
        except AlamoError:
            raise
        except Exception:
            pass
        else:
            if b"__main__" not in data:
                return data, buffers
        buffers.clear()
    return _dump_by_value(value, in_band), buffers


def _dump_by_value(value: Any, in_band: Callable[[PickleBuffer], bool] | None) -> bytes:
    try:
        return cloudpickle.dumps(value, protocol=PROTOCOL, buffer_callback=in_band)  # type: ignore[no-any-return]
    except AlamoError:
        raise
    except Exception as error:
        raise SerializationError(
            f"a value of type {type(value).__qualname__} cannot be pickled: "
            f"{type(error).__name__}: {error}"
        ) from error


def dump_in_line(value: Any) -> bytes:
    """Pickle a value that ``dump`` can pickle, with its buffers inside."""
    if not _by_value:
        try:
            data = pickle.dumps(value, PROTOCOL)
            if b"__main__" not in data:
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
    if isinstance(module, str) and not is_importable(module):
        return _dump_by_value(function, None)
    data, buffers = dump(function)
    return data if not buffers else _dump_by_value(function, None)


def is_importable(name: str) -> bool:
    """Whether a fresh interpreter with this ``sys.path`` imports the same module by this name.

    A module that it cannot import is registered with cloudpickle, so that it travels by
    value from then on.  Answers are kept: looking takes some 100 us.
    """
    known = _modules.get(name)
    if known is not None:
        return known
    module = sys.modules.get(name)
    answer = module is None or _is_found(name, module)
    _modules[name] = answer
    if not answer and module is not None:
        global _by_value
        _by_value = True
        cloudpickle.register_pickle_by_value(module)
    return answer


def _is_found(name: str, module: ModuleType) -> bool:
    parent, _, _ = name.rpartition(".")
    if parent and not is_importable(parent):
        return False
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, path) if find is not None else None
        except Exception:
            spec = None
        if spec is None:
            continue
        file = getattr(module, "__file__", None)
        if file is None or spec.origin is None or not spec.has_location:
            return True
        return bool(os.path.realpath(spec.origin) == os.path.realpath(file))
    return False


def load(data: bytes | memoryview, buffers: Sequence[Any] = ()) -> Any:
    """Unpickle; ``buffers`` are what came out of band, in order."""
    return pickle.loads(data, buffers=buffers) if buffers else pickle.loads(data)
