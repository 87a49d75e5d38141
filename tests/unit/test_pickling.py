"""User values as bytes: what goes by reference, what by value, and classes that come home."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from alamo.errors import SerializationError, UsageError
from alamo.protocol import pickling
from alamo.protocol.blocks import BUFFER_MIN_BYTES
from alamo.protocol.importable import Importable


def by_value(data: bytes) -> bool:
    return b"cloudpickle" in data


def test_plain_values_by_c_pickle() -> None:
    for value in (1, "x", [1, {"a": (2,)}], print, Path("/x"), types.SimpleNamespace(a=1)):
        data, buffers = pickling.dump(value)
        assert not by_value(data)
        assert not buffers
        assert pickling.load(data) == value


def test_text_that_only_looks_like_a_module() -> None:
    data, _ = pickling.dump("see __main__ for more")
    assert not by_value(data)
    assert pickling.load(pickling.dump(["__main__"])[0]) == ["__main__"]


def test_lambdas_and_local_classes_by_value() -> None:
    class Local:
        pass

    for value in (lambda: 5, Local, Local(), [Local()]):
        assert by_value(pickling.dump(value)[0])
    assert pickling.load(pickling.dump_function(lambda: 5))() == 5
    assert not by_value(pickling.dump_function(len))


def test_large_buffers_come_out_of_band() -> None:
    small, large = np.zeros(10), np.arange(BUFFER_MIN_BYTES)
    data, buffers = pickling.dump([small, large, large[:5]])
    assert len(buffers) == 1
    assert len(data) < 2000
    copies = [bytearray(b.raw()) for b in buffers]
    one, two, three = pickling.load(data, copies)
    assert (two == large).all()
    assert two.flags.writeable
    assert one.flags.writeable
    assert (three == large[:5]).all()
    assert (pickling.load(pickling.dump_in_line(large)) == large).all()

    class Local:
        def __init__(self) -> None:
            self.array = large

    data, buffers = pickling.dump(Local())
    assert by_value(data)
    assert len(buffers) == 1


def test_what_cannot_be_pickled() -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise UsageError("mine")

    with pytest.raises(SerializationError, match="generator"):
        pickling.dump(i for i in ())
    with pytest.raises(SerializationError, match="generator"):
        pickling.dump_function(lambda g=(i for i in ()): g)  # type: ignore[misc]
    with pytest.raises(UsageError, match="mine"):
        pickling.dump([Refuses()])
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="ecursion"):
        pickling.dump(deep)
    while deep:
        deep = deep[0]


ELSEWHERE = """
import pickle, sys
from alamo.protocol import pickling
value = pickling.load(sys.stdin.buffer.read())
value.count += 1
type(value).shared = "changed there"
value.more = [type(value)(), type(value).make]
sys.stdout.buffer.write(pickling.dump(value)[0])
"""

calls = 0


def test_a_class_that_comes_home_is_left_alone() -> None:
    """cloudpickle would put copies of the methods, with globals of their own, into it."""

    class Local:
        shared = "here"

        def __init__(self) -> None:
            self.count = 0

        def method(self) -> int:
            global calls
            calls += 1
            return calls

        @classmethod
        def make(cls) -> Local:
            return cls()

    method = Local.method
    data = pickling.dump(Local())[0]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=data, stdout=subprocess.PIPE, check=True
    )
    value = pickling.load(done.stdout)
    assert type(value) is Local
    assert value.count == 1
    assert Local.method is method
    assert Local.shared == "here"
    assert value.method() == calls == 1
    assert type(value.more[0]) is type(value.more[1]()) is Local


def test_slots_survive() -> None:
    class Slotted:
        __slots__ = ("a", "b")

        def __init__(self) -> None:
            self.a = 1

    code = (
        "import sys\nfrom alamo.protocol import pickling\n"
        "value = pickling.load(sys.stdin.buffer.read())\n"
        "assert not hasattr(value, '__dict__')\n"
        "value.b = 2\n"
        "sys.stdout.buffer.write(pickling.dump(value)[0])\n"
    )
    data = pickling.dump(Slotted())[0]
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, stdout=subprocess.PIPE, check=True
    )
    value = pickling.load(done.stdout)
    assert type(value) is Slotted
    assert (value.a, value.b) == (1, 2)


# -- which modules workers can import ------------------------------------------------------------


@pytest.fixture
def table() -> Importable:
    table = Importable()
    table.fix_path(list(sys.path))
    return table


def load_module(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    path.write_text("def f(): return 5\n")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_importable_modules(table: Importable) -> None:
    for name in ("json", "os.path", "numpy", "numpy.linalg", "alamo.errors", "builtins", "_pickle"):
        assert table.look_at(name), name
    assert not table.look_at("__main__")
    assert table.markers == (b"\x8c\x08__main__",)


def test_modules_from_elsewhere(
    table: Importable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load_module(tmp_path / "strange.py", "strange_module", monkeypatch)
    table.scan()
    try:
        assert not table.look_at("strange_module")
        assert b"\x8c\x0estrange_module" in table.markers
        assert by_value(cloudpickle.dumps(module.f))
        data = pickle.dumps(module.f, 5)
        assert any(m in data for m in table.markers)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_module_of_another_file_with_a_known_name(
    table: Importable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker would import Python's own."""
    module = load_module(tmp_path / "colorsys.py", "colorsys", monkeypatch)
    try:
        assert not table.look_at("colorsys")
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_path_added_later(
    table: Importable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "added_later.py").write_text("x = 1\n")
    (tmp_path / "package_later").mkdir()
    (tmp_path / "package_later" / "__init__.py").touch()
    (tmp_path / "package_later" / "inner.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    import added_later  # type: ignore[import-not-found]
    import package_later.inner  # type: ignore[import-not-found]

    try:
        assert not table.look_at("added_later")
        assert not table.look_at("package_later.inner")
        assert Importable().look_at("added_later")  # a worker started now would find it
    finally:
        for module in (added_later, package_later, package_later.inner):
            cloudpickle.unregister_pickle_by_value(module)
            del sys.modules[module.__name__]


def test_a_scan_is_done_once_a_module(
    table: Importable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.scan()
    looked: list[str] = []
    monkeypatch.setattr(table, "look_at", looked.append)
    table.scan()
    load_module(tmp_path / "one_more.py", "one_more", monkeypatch)
    table.scan()
    table.scan()
    assert looked == ["one_more"]
