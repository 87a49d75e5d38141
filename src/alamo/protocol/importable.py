"""Which modules a worker can import: what is in the others travels by value.

A worker imports by the ``sys.path`` that this process had when it made its first Batch.
Modules outside of it (notebook helpers, tests of pytest's importlib mode, a path added
later) are registered with cloudpickle, and their names are looked for in every pickle.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import cloudpickle

#: Where Python's own library and installed packages lie: looked at only when asked for.
_LIBRARY = os.path.join(os.path.dirname(os.__file__), "")
_INSTALLED = ("/site-packages/", "/dist-packages/")


def _marker(name: str) -> bytes:
    """How a module's name stands in a pickle (SHORT_BINUNICODE; BINUNICODE for a long one)."""
    text = name.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(text)]) + text if len(text) < 256 else text


class Importable:
    """What is known of the modules of this process.

    Attributes:
        markers: bytes that are in a pickle which refers to a module no worker can import.
    """

    def __init__(self) -> None:
        self.markers: tuple[bytes, ...] = (_marker("__main__"),)
        self._known: dict[str, bool] = {"__main__": False, "builtins": True}
        self._path: list[str] | None = None
        self._scanned: set[str] = set()
        self._scanned_count = 0

    def fix_path(self, path: list[str]) -> None:
        """Workers import by this path from now on; a second call changes nothing."""
        if self._path is None:
            self._path = path

    def scan(self) -> None:
        """Look at modules imported since the last call.  Cost: 0.05 us when there are none."""
        if len(sys.modules) == self._scanned_count:
            return
        modules = list(sys.modules.items())
        self._scanned_count = len(modules)
        for name, module in modules:
            if name not in self._scanned:
                self._scanned.add(name)
                file = getattr(module, "__file__", None)
                if isinstance(file, str) and not _is_installed(file):
                    self.look_at(name)

    def look_at(self, name: str) -> bool:
        """Whether a worker imports the same module by this name.

        Answers are kept: looking takes some 100 us.
        """
        known = self._known.get(name)
        if known is not None:
            return known
        module = sys.modules.get(name)
        if module is None or getattr(module, "__name__", None) != name:
            return True
        answer = self._known[name] = self._is_found(name, module)
        if not answer:
            self.markers = (*self.markers, _marker(name))
            cloudpickle.register_pickle_by_value(module)
        return answer

    def _is_found(self, name: str, module: ModuleType) -> bool:
        parent, _, _ = name.rpartition(".")
        if parent and not self.look_at(parent):
            return False
        path = getattr(sys.modules.get(parent), "__path__", None) if parent else self._path
        for finder in sys.meta_path:
            spec = _spec_by(finder, name, path)
            if spec is None:
                continue
            file = getattr(module, "__file__", None)
            if file is None or spec.origin is None or not spec.has_location:
                return True
            return bool(os.path.realpath(spec.origin) == os.path.realpath(file))
        return False


def _is_installed(file: str) -> bool:
    return file.startswith(_LIBRARY) or any(part in file for part in _INSTALLED)


def _spec_by(finder: Any, name: str, path: Any) -> Any:
    find = getattr(finder, "find_spec", None)
    try:
        return find(name, path) if find is not None else None
    except Exception:
        return None


importable = Importable()
