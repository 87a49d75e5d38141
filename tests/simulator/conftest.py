"""Simulated worlds are small; larger first chunks make more of them fused and taken back."""

from __future__ import annotations

import pytest

from alamo.core import chunks


@pytest.fixture(autouse=True)
def larger_first_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """First chunks of 16, so that small graphs are fused and taken back in part."""
    if request.module.__name__.rpartition(".")[2].startswith(("test_scheduler", "test_worlds")):
        monkeypatch.setattr(chunks, "FIRST_SIZE", 16)
