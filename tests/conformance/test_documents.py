"""The examples in the documents that the API comes from do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from _engines import MakeBatch

import _documents as documents
import alamo


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_the_example_of_a_document(
    make_batch: MakeBatch,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands, in a namespace like that of a notebook."""
    monkeypatch.setattr(alamo, "Batch", make_batch)
    base_dir = tmp_path / "base_dir"
    check = documents.prepare(base_dir)
    exec(documents.code(name, base_dir), {"__name__": "__main__"})
    check(capsys.readouterr().out)
