"""The house: imports run downwards only, the core is pure, and nothing outgrows its measure."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
FILES = sorted(SRC.rglob("*.py"))

# A room may import itself and rooms of a lower rank. A new room is given its place here.
RANKS = {
    "alamo.errors": 0,
    "alamo.linux": 0,  # system calls; the core may not use it, see PURE
    "alamo.sizes": 0,
    "alamo.deadlines": 1,
    "alamo.leaving": 1,  # what is let go of when the interpreter ends
    "alamo.lingering": 1,  # what a worker keeps open from task to task
    "alamo.cgroups": 0,  # what limits leave of the machine
    "alamo.core": 1,
    "alamo.runtime_dir": 1,
    "alamo.blocking": 1,  # what a task that waits for data tells
    "alamo.drawing": 2,
    "alamo.policy": 2,
    "alamo.protocol": 2,
    "alamo.telemetry": 2,  # counts and serves; knows the core and nothing of processes
    "alamo.data": 3,  # DDict, Queue and their stores; knows nothing of workers
    "alamo.worker": 3,
    "alamo.manager": 4,  # starts workers
    "alamo.batch": 5,
    "alamo.testing": 6,  # for users' tests
    "alamo.executor": 6,
    "alamo": 7,  # alamo/__init__.py, the public names
}

# What the core may import: modules that only shape data. Where a set of names stands, only these of
# the module, however they are reached: the rest asks the process or the file system.
PURE: dict[str, set[str] | None] = {
    "__future__": None,
    "abc": None,
    "array": None,
    "bisect": None,
    "collections": None,
    "collections.abc": None,
    "contextlib": None,
    "copy": None,
    "dataclasses": None,
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": None,
    "enum": None,
    "fractions": None,
    "functools": None,
    "heapq": None,
    "itertools": None,
    "math": None,
    "msgspec": None,
    "numbers": None,
    "operator": None,
    "os": {"PathLike", "fsdecode", "fsencode", "fspath"},
    "pathlib": {"PurePath", "PurePosixPath", "PureWindowsPath"},
    "posixpath": {"basename", "commonpath", "dirname", "isabs", "join", "normpath", "split"},
    "reprlib": None,
    "string": None,
    "subprocess": {"CalledProcessError"},  # a base of one of our errors
    "struct": None,
    "types": None,
    "typing": None,
    "uuid": {"UUID"},
}
IMPURE_BUILTINS = {"__import__", "breakpoint", "exec", "eval", "input", "open", "print"}

FILE_LINES = 400
FUNCTION_LINES = 60


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Every import of a file, also inside functions and TYPE_CHECKING: (line, module, name)."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*base, *module.split(".")]).rstrip(".")
            for alias in node.names:
                yield node.lineno, module, alias.name


def imported_room(module: str, name: str | None) -> str:
    """`from alamo import core` names the room `alamo.core`, not the public names."""
    if module == "alamo" and name is not None and f"alamo.{name}" in RANKS:
        return f"alamo.{name}"
    return room_of(module)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(SRC.parent)}:{line}"


def upward(path: Path) -> list[str]:
    own = room_of(name_of(path))
    assert own in RANKS, f"{own} has no place in the house yet: give it a rank in {__file__}"
    wrong = []
    for line, module, name in imports(path):
        if module.split(".")[0] != "alamo":
            continue
        room = imported_room(module, name)
        assert room in RANKS, f"{where(path, line)} imports {room}, which has no rank in {__file__}"
        if room != own and RANKS[room] >= RANKS[own]:
            wrong.append(f"{where(path, line)} {own} may not import {room}")
    return wrong


def impure(path: Path) -> list[str]:
    wrong = []
    for line, module, name in imports(path):
        if imported_room(module, name) in ("alamo.core", "alamo.errors"):
            continue
        known = module if module in PURE else module.split(".")[0]
        names = PURE.get(known, set())
        if known not in PURE or (names is not None and name is not None and name not in names):
            wrong.append(f"{where(path, line)} imports {module}{'.' + name if name else ''}")
        elif names is not None and known != module:  # import os.path
            wrong.append(f"{where(path, line)} imports {module}")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = PURE.get(node.value.id)
            if names is not None and node.attr not in names:
                wrong.append(f"{where(path, node.lineno)} uses {node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in IMPURE_BUILTINS:
            wrong.append(f"{where(path, node.lineno)} uses {node.id}")
    return wrong


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    doc = ast.get_docstring(function, clean=False)
    return lines - len(doc.splitlines()) if doc else lines


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_downwards(path: Path) -> None:
    assert not upward(path)


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room_of(name_of(p)) in ("alamo.core", "alamo.errors")],
    ids=name_of,
)
def test_the_core_is_pure(path: Path) -> None:
    assert not impure(path)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_measure(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{path.name} has {lines} lines: split it by meaning"
    long = [
        f"{where(path, node.lineno)} {node.name}: {length(node)} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and length(node) > FUNCTION_LINES
    ]
    assert not long


def test_the_rules_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above see each kind of fault."""
    core = tmp_path / "src" / "alamo" / "core"
    core.mkdir(parents=True)
    bad = core / "bad.py"
    bad.write_text(
        "import time\nimport os\nfrom os import fspath, environ\nimport os.path\n"
        "import posixpath\nfrom ..batch import x\nfrom alamo import worker\n"
        "def f():\n    posixpath.abspath('a')\n    open('b')\n    import socket\n"
        "    os.fspath('c')\n    os.getpid()\n"
    )
    monkeypatch.setitem(globals(), "SRC", tmp_path / "src")
    assert [text.split()[0].rpartition(":")[2] for text in upward(bad)] == ["6", "7"]
    lines = sorted({int(text.split()[0].rpartition(":")[2]) for text in impure(bad)})
    assert lines == [1, 3, 4, 6, 7, 9, 10, 11, 13]
