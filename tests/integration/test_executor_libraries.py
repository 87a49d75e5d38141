"""Libraries that take an executor take alamo's."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import _work as work
from alamo import Batch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "joblib_backend.py"


@pytest.fixture(scope="module")
def backend() -> Iterator[ModuleType]:
    """The backend of joblib that the examples show."""
    pytest.importorskip("joblib")
    spec = importlib.util.spec_from_file_location("example_joblib_backend", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.register()
    yield module
    del sys.modules[spec.name]


def test_joblib_in_a_batch(backend: ModuleType) -> None:
    from joblib import Parallel, delayed, parallel_config

    with Batch(num_workers=2) as batch, parallel_config(backend="alamo", batch=batch):
        assert Parallel()(delayed(math.sqrt)(i) for i in range(500)) == [i**0.5 for i in range(500)]
        found = Parallel(return_as="generator", batch_size=1)(
            delayed(work.add)(i, i) for i in range(100)
        )
        assert list(found) == list(range(0, 200, 2))
        with pytest.raises(work.Awkward):
            Parallel()(delayed(work.fail_awkwardly)(i) for i in range(10))
        assert Parallel()([delayed(work.same)(1)]) == [1]
        assert batch.function(work.same, 2).run() == 2


def test_joblib_without_a_batch(backend: ModuleType) -> None:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="alamo", n_jobs=2):
        assert Parallel()(delayed(math.sqrt)(i) for i in range(10)) == [i**0.5 for i in range(10)]


def test_the_example_runs(backend: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    backend.main(100)
    assert capsys.readouterr().out == "100 calls of joblib in the workers of a Batch\n"
