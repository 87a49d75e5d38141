"""The examples, and the code in the documents that the API comes from, run as they stand."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from _mpi import needs_mpi4py

import _ddict_document as ddict_document
import _documents as documents
from alamo import Batch

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "examples"
SHARED = PROJECT.parent / "shared"
NO_SHARED = pytest.mark.skip(reason=f"nothing at {SHARED}")

RECORDS = sorted((SHARED / "workflows").glob("**/*.json"))
CASES = [pytest.param(path, id=path.stem) for path in RECORDS]


def load(name: str) -> ModuleType:
    """An example as a module, of a name that no worker can import."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run_script(path: Path, *arguments: str | Path | int, cwd: Path) -> str:
    """Run a script as a user does and return what it printed."""
    command = [sys.executable, str(path), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


# -- replay_workflow -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replay() -> ModuleType:
    module = load("replay_workflow")
    module.TARGET_S = 0.1
    module.TARGET_BYTES = 4_000_000
    return module


def make_record(path: Path) -> Path:
    """A record with all that is awkward: its order, its names, its sizes."""

    def task(name: str, reads: list[str], writes: list[str], **edges: list[str]) -> dict[str, Any]:
        both = {"parents": [], "children": []} | edges
        return {"id": name, "inputFiles": reads, "outputFiles": writes, **both}

    tasks = [
        task("last", ["/a/x", "b c", "..", "x" * 300], ["end"], parents=["left", "right"]),
        task("left", ["/a", "/a"], ["/a/x", "b c"], parents=["first"], children=["last"]),
        task("right", ["/a", ".hidden"], ["..", "x" * 300], parents=["first"], children=["last"]),
        task("first", [".hidden"], ["/a"], children=["left", "right"]),
        task("alone", [], []),
    ]
    sizes = {"/a/x": 0, "b c": 3_000_000, "..": 1, "x" * 300: 64, "end": 2_097_152}
    sizes |= {"/a": 1_048_577, ".hidden": 33}
    files = [{"id": name, "sizeInBytes": size} for name, size in sizes.items()]
    runs = [{"id": t["id"], "runtimeInSeconds": 0.01 * i} for i, t in enumerate(tasks)]
    specification = {"tasks": tasks, "files": files}
    record = {"workflow": {"specification": specification, "execution": {"tasks": runs}}}
    path.write_text(json.dumps(record))
    return path


@pytest.mark.parametrize("record", CASES or [pytest.param(None, marks=NO_SHARED)])
def test_a_recorded_workflow_replays(
    replay: ModuleType, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = replay.main([str(record), "--workers", "2"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "inferred from the files, as recorded" in printed
    assert "all as a serial run leaves them" in printed
    assert "ratio" in printed


def test_an_awkward_record_replays_as_a_script(tmp_path: Path) -> None:
    record = make_record(tmp_path / "awkward.json")
    keep = tmp_path / "keep"
    options = ("--scale-time", "1", "--scale-bytes", "1", "--workers", "2", "--keep", keep)
    printed = run_script(EXAMPLES / "replay_workflow.py", record, *options, cwd=tmp_path)
    assert "5 tasks, sorted" in printed
    assert "4 inferred" in printed
    assert len(list(keep.iterdir())) == 7
    assert (keep / "b%20c").stat().st_size == 3_000_000


def test_what_alamo_is_not_told_shows(
    replay: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Deaf(Batch):
        def function(self, *args: Any, reads: Any = None, **options: Any) -> Any:
            return super().function(*args, **options)

    monkeypatch.setattr(replay, "Batch", Deaf)
    record = make_record(tmp_path / "awkward.json")
    assert replay.main([str(record), "--workers", "2"]) == 1
    assert "4 edges either inferred or recorded" in capsys.readouterr().out


def test_every_wrong_file_shows(replay: ModuleType, tmp_path: Path) -> None:
    workflow = replay.Workflow.load(make_record(tmp_path / "awkward.json"))
    directory = tmp_path / "files"
    directory.mkdir()
    serial = replay.Replay(workflow, directory, 0.0, 1.0)
    serial.write_first_files()
    for task in workflow.tasks:
        inputs, outputs = serial.files(task.inputs), serial.files(task.outputs)
        replay.run_task(directory, task.id, inputs, outputs, 0.0)
    assert serial.wrong_files() == []
    for path in sorted(directory.iterdir()):
        right = path.read_bytes()
        for wrong in (b"", right[:-1], right + b"+", right[:-1] + b"+", bytes(len(right))):
            path.write_bytes(wrong)
            assert len(serial.wrong_files()) == 1, (path, len(wrong))
        path.unlink()
        assert len(serial.wrong_files()) == 1, path
        path.write_bytes(right)
    assert serial.wrong_files() == []


def test_bad_arguments_are_refused(
    replay: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert replay.main([str(tmp_path / "missing.json")]) == 2
    assert "missing.json" in capsys.readouterr().err
    (tmp_path / "other.json").write_text("{}")
    assert replay.main([str(tmp_path / "other.json")]) == 2
    assert "no WfFormat record" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        replay.main(["--keep", str(tmp_path)])
    assert "is not empty" in capsys.readouterr().err
    monkeypatch.setattr(replay, "WORKFLOWS", tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "wfcommons", None)
    assert replay.main([]) == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_made_workflow_replays(
    replay: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wfcommons", reason="it is in the extra `examples`")
    monkeypatch.setattr(replay, "WORKFLOWS", tmp_path / "nowhere")
    assert replay.main(["--workers", "2"]) == 0


# -- matrix_powers ---------------------------------------------------------------------------


def test_matrix_powers_as_a_script(tmp_path: Path) -> None:
    printed = run_script(EXAMPLES / "matrix_powers.py", "--count", "200", cwd=tmp_path)
    assert printed.count("200 powers") == 3
    assert "all powers are those of a serial loop" in printed


def test_matrix_powers_in_pytest(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("matrix_powers").main(["--count", "20"]) == 0
    assert "WRONG" not in capsys.readouterr().out


# -- matrix_powers_ddict ---------------------------------------------------------------------


def test_matrix_powers_in_a_ddict(tmp_path: Path) -> None:
    printed = run_script(EXAMPLES / "matrix_powers_ddict.py", "--count", "200", cwd=tmp_path)
    assert "200 powers in" in printed
    assert "201 keys" in printed
    assert "all powers are those of a serial loop" in printed


def test_matrix_powers_in_a_ddict_in_pytest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("matrix_powers_ddict")
    assert module.main(["--count", "20"]) == 0
    assert "WRONG" not in capsys.readouterr().out
    monkeypatch.setattr(module, "gpu_matmul_func", lambda m, d, i: d.put(i + 1, d[i]))
    assert module.main(["--count", "5"]) == 1
    assert "WRONG: 5" in capsys.readouterr().out


# -- pipeline_queue --------------------------------------------------------------------------


def test_a_pipeline_loses_nothing_to_a_killed_consumer(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("pipeline_queue").main(["--count", "600"]) == 0
    printed = capsys.readouterr().out
    assert "the producer has put 600 messages" in printed
    assert printed.count("a consumer has worked on") == 2
    assert "ended by signal 9" in printed
    assert "all accounted for" in printed


# -- the documents ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_the_code_here_is_that_of_the_document(name: str) -> None:
    document = SHARED / "api" / name
    if not document.exists():
        pytest.skip(f"no {document}")
    assert textwrap.indent(documents.DOCUMENTS[name], "    ") in document.read_text()


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_the_code_of_a_document_runs(name: str, tmp_path: Path) -> None:
    base_dir = tmp_path / "base_dir"
    check = documents.prepare(base_dir)
    script = tmp_path / "document.py"
    script.write_text(documents.code(name, base_dir))
    check(run_script(script, cwd=tmp_path))


def test_the_code_of_the_ddict_example_is_that_of_the_document() -> None:
    document = SHARED / "api" / ddict_document.DOCUMENT
    if not document.exists():
        pytest.skip(f"no {document}")
    text = document.read_text()
    for part in (ddict_document.TASKS, ddict_document.FUNCTION):
        lines = textwrap.indent(part, "    ").splitlines()
        assert "\n".join(lines) in text


def test_the_ddict_example_of_the_document_runs(tmp_path: Path) -> None:
    whole = documents.DOCUMENTS[ddict_document.DOCUMENT]
    script = tmp_path / "document.py"
    script.write_text(ddict_document.code(whole[whole.index("serial_task_list") :]))
    printed = run_script(script, cwd=tmp_path)
    assert printed == "result=None\n" * ddict_document.COUNT


# -- monte_carlo -----------------------------------------------------------------------------


def test_monte_carlo(tmp_path: Path) -> None:
    """Twenty thousand draws, reduced by a task, lie as near to the formula as they should."""
    printed = run_script(EXAMPLES / "monte_carlo.py", "20000", cwd=tmp_path)
    assert "20000 elements in" in printed
    assert "Black-Scholes 7.1281" in printed


def test_monte_carlo_notices_a_wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("monte_carlo")
    monkeypatch.setattr(module, "black_scholes", lambda: 9.0)
    monkeypatch.setattr(sys, "argv", ["monte_carlo.py", "3000"])
    assert module.main() == 1


# -- mixed_mpi -------------------------------------------------------------------------------


@needs_mpi4py
@pytest.mark.parametrize("readings", [3, 5000])
def test_functions_a_program_and_a_job_in_one(tmp_path: Path, readings: int) -> None:
    printed = run_script(EXAMPLES / "mixed_mpi.py", readings, cwd=tmp_path)
    assert "rank 3 of 4" in printed
    assert f"count {readings:,}" in printed
