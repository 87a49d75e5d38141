"""What the suite itself is held to: it is about the API alone, of any engine."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from _engines import CAPABILITIES, ENGINES, Engine

from alamo import Batch

SUITE = sorted(Path(__file__).parent.glob("test_*.py"))
PUBLIC = {"alamo", "alamo.batch.batch"}
NOT_OURS = {"os._exit", "sys._getframe"}


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.stem)
def test_nothing_private_and_no_engine_is_named(path: Path) -> None:
    names = {engine.name for engine in ENGINES}
    for node in ast.walk(ast.parse(path.read_text())):
        what = ast.unparse(node) if isinstance(node, ast.expr) else ""
        at = f"{path.name}:{getattr(node, 'lineno', 0)}: {what}"
        match node:
            case ast.Attribute(attr=attr):
                public = not attr.startswith("_") or attr.endswith("_")  # _repr_html_
                own = what.startswith("self._")  # of a class of the test's
                assert public or own or what in NOT_OURS, f"{at} is private"
            case ast.Constant(value=str(text)):
                assert text not in names, f"{at} names an engine"
            case ast.Call(func=ast.Name(id="Batch")) if path.name != Path(__file__).name:
                raise AssertionError(f"{at} is not of the engine under test; use make_batch")
            case ast.Import(names=found):
                modules = {alias.name for alias in found if alias.name.startswith("alamo")}
                assert modules <= PUBLIC, f"{at}: imports {modules}"
            case ast.ImportFrom(module=str(module)) if module.startswith("alamo"):
                assert module in PUBLIC, f"{at}: imports {module}"
            case _:
                pass


def test_capabilities_have_names() -> None:
    with pytest.raises(pytest.UsageError, match="flying"):
        Engine("odd", Batch, frozenset({"flying"}))
    for engine in ENGINES:
        assert engine.capabilities <= CAPABILITIES.keys()
