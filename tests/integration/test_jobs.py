"""MPI jobs: programs and functions as ranks, what they give and what they write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import _mpi
import pytest
from _mpi import needs_launcher, needs_mpi4py

import _work as work
import alamo
from alamo import (
    Batch,
    JobFailed,
    Policy,
    ProcessFailed,
    TaskCancelled,
    UpstreamFailed,
    UsageError,
)

pytestmark = needs_launcher
SHARED = Policy(oversubscribe=True)


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as made:
        yield made


def rank_script(text: str) -> list[str]:
    """A shell command that knows its rank as $r."""
    find = "r=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-$SLURM_PROCID}}}"
    return ["sh", "-c", f"{find}\n{text}", "sh"]


# -- functions ---------------------------------------------------------------------------------


@needs_mpi4py
def test_a_function_gives_the_values_of_all_ranks(batch: Batch) -> None:
    job = batch.job(_mpi.together, ({"a": 1},), num_procs=2)
    assert job.run() == [(1, 2, {"a": 1})] * 2
    assert job.stdout.get() == "rank 0 speaks\nrank 1 speaks\n"
    assert job.stdout.get(rank=1) == "rank 1 speaks\n"
    assert job.title() == f"task {job.uid} (together)"


@needs_mpi4py
def test_more_ranks_than_slots(batch: Batch) -> None:
    with pytest.raises(UsageError, match=r"num_procs=4.*slots \(2\).*oversubscribe=True"):
        batch.job(_mpi.together, (0,), num_procs=4)
    with pytest.raises(UsageError, match=r"2 ranks with 2 cores each"):
        batch.job(_mpi.together, (0,), num_procs=2, policy=Policy(cores=2))
    job = batch.job(_mpi.together, (0,), num_procs=4, policy=SHARED)
    assert job.run() == [(6, 4, 0)] * 4


def test_functions_need_no_mpi(batch: Batch) -> None:
    assert batch.job(_mpi.own, (10,), num_procs=2).run() == [10, 11]
    assert batch.job(pow, [2, 5]).run() == [32]


def test_how_its_ranks_are_started_is_explained(batch: Batch) -> None:
    job = batch.job(_mpi.own, (10,), num_procs=2)
    first, line = alamo.explain(job).splitlines()
    assert "not been started" in first
    assert line.startswith("As a job, its 2 ranks are started by `")
    job.run()
    assert alamo.explain(job).splitlines()[1] == line


def test_a_job_is_cancelled(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    job = batch.job(["sh", "-c", f"touch {path}; sleep 1000"], num_procs=2)
    job.start()
    work.wait_until(path.exists)
    assert job.cancel("no more")
    with pytest.raises(TaskCancelled, match="no more"):
        job.get(timeout=work.PATIENCE_S)
    assert batch.job(_mpi.own, (10,), num_procs=2).run() == [10, 11]


def test_functions_by_value(batch: Batch) -> None:
    base = 5
    job = batch.job(lambda x: [x, base], ("y",), num_procs=2)
    assert job.run() == [["y", 5], ["y", 5]]


def test_large_arguments_and_values(batch: Batch) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(500_000)
    first, second = batch.job(np.multiply, (array, 2), num_procs=2).run()
    assert (first == 2 * array).all()
    assert (second == first).all()


def test_an_exception_is_that_of_a_rank_that_raised(batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"^[01]\n") as caught:
        batch.job(_mpi.all_fail, num_procs=2).run()
    note = "".join(caught.value.__notes__)
    assert f"on rank {caught.value} of 2" in note
    assert "in all_fail" in note


# -- programs ----------------------------------------------------------------------------------


def test_a_program_gives_its_code_and_output_by_rank(batch: Batch) -> None:
    job = batch.job(rank_script('echo "out $r $1"; echo "err $r" >&2'), ("x",), num_procs=2)
    assert job.run() == 0
    assert job.stdout.get() == "out 0 x\nout 1 x\n"
    assert job.stderr.get(rank=0) == "err 0\n"
    assert job.stderr.get(rank=1) == "err 1\n"
    for rank in (2, -1):
        with pytest.raises(UsageError, match=f"no rank {rank}: it has 2"):
            job.stdout.get(rank=rank)
    with pytest.raises(UsageError, match="stdout and stderr"):
        job.result.get(rank=0)


def test_other_tasks_have_no_ranks(batch: Batch) -> None:
    task = batch.function(print, "x")
    task.run()
    with pytest.raises(UsageError, match="only jobs have ranks"):
        task.stdout.get(rank=0)


def test_a_rank_with_another_code_fails_the_job(batch: Batch) -> None:
    command = rank_script('[ $r = 1 ] && { echo "no room" >&2; exit 7; }; exit 0')
    job = batch.job(command, num_procs=2)
    with pytest.raises(
        JobFailed, match=r"(?s)rank 1 of 2 of .* exited with code 7\n.*\n  no room"
    ) as e:
        job.run()
    assert isinstance(e.value, ProcessFailed)
    assert (e.value.rank, e.value.num_procs, e.value.returncode) == (1, 2, 7)
    assert "no room" in e.value.stderr
    assert batch.job(command, num_procs=2, check=False).run() == 7


def test_a_signal_is_a_failure_whatever_check_says(batch: Batch) -> None:
    job = batch.job(rank_script("kill -SEGV $$"), num_procs=1, check=False)
    with pytest.raises(JobFailed, match=r"(?s)rank 0 of 1 .* signal 11 \(SIGSEGV\)") as caught:
        job.run()
    assert caught.value.returncode == -11


def test_output_is_bytes_or_text(batch: Batch) -> None:
    command = rank_script(r"printf '\351'")
    job = batch.job(command, num_procs=2, text=False)
    job.run()
    assert job.stdout.get() == b"\xe9\xe9"
    assert job.stdout.get(rank=1) == b"\xe9"
    job = batch.job(command, num_procs=2, encoding="latin-1")
    job.run()
    assert job.stdout.get() == "éé"


def test_much_output_keeps_head_and_tail_of_each_rank(batch: Batch) -> None:
    text = 'echo "first $r"; head -c 20000000 /dev/zero; echo; echo "last $r"'
    job = batch.job(rank_script(text), num_procs=2)
    assert job.run() == 0
    assert len(job.stdout.get()) <= 1 << 20
    for rank in (0, 1):
        part = job.stdout.get(rank=rank)
        assert part.startswith(f"first {rank}\n")
        assert "bytes left out" in part
        assert part.endswith(f"\nlast {rank}\n")


def test_where_and_with_what_it_runs(batch: Batch, tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "GIVEN": "yes"}
    job = batch.job(rank_script('echo "$PWD $GIVEN $HOME"'), num_procs=1, cwd=tmp_path, env=env)
    job.run()
    assert job.stdout.get() == f"{tmp_path} yes \n"


def test_nothing_of_a_launcher_around_it_leaks(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"PATH": "/usr/bin:/bin", "PMI_RANK": "5", "PMI_LEAK": "1", "OMPI_LEAK": "1"}
    (seen,) = batch.job(_mpi.environment, env={**env, "PMIX_LEAK": "1", "KEPT": "1"}).run()
    assert seen["KEPT"] == "1"
    assert not [name for name in seen if name.endswith("LEAK")]
    assert batch.job(_mpi.own, (0,), num_procs=2, env=env).run() == [0, 1]
    assert not [name for name in batch.function(_mpi.environment).run() if "PMI" in name]


@needs_mpi4py
def test_a_job_in_a_rank_of_a_job(batch: Batch) -> None:
    def inner(outer: int) -> list[object]:
        with Batch(num_workers=1) as within:
            return within.job(_mpi.together, (outer,), num_procs=2, policy=SHARED).run()

    def outer() -> list[object]:
        return inner(_mpi.rank_of_environment())

    assert batch.job(outer, num_procs=2).run() == [[(1, 2, 0)] * 2, [(1, 2, 1)] * 2]


def test_threads_of_a_rank(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    (seen,) = batch.job(_mpi.environment, policy=Policy(cores=2)).run()
    assert seen["OMP_NUM_THREADS"] == "2"
    seen, _ = batch.job(_mpi.environment, num_procs=2).run()
    assert seen["OMP_NUM_THREADS"] == "1"


# -- with other tasks --------------------------------------------------------------------------


def test_order_from_files_and_handles(batch: Batch, tmp_path: Path) -> None:
    def write(path: Path) -> int:
        path.write_text("4\n2\n")
        return 7

    def total(texts: str, ranks: list[int]) -> int:
        return sum(map(int, texts.split())) + sum(ranks)

    first = batch.function(write, tmp_path / "in", writes=batch.write(tmp_path, "in"))
    program = batch.job(
        ["sh", "-c", 'cat "$1"; echo "$2"', "sh"],
        (tmp_path / "in", first.result),
        num_procs=2,
        reads=batch.read(tmp_path, "in"),
    )
    function = batch.job(_mpi.own, (first.result,), num_procs=2)
    last = batch.function(total, program.stdout, function.result)
    batch.compile([first, program, function, last]).run()
    assert program.result.get() == 0
    assert last.result.get() == 2 * (4 + 2 + 7) + 7 + 8


def test_a_failed_job_fails_what_needs_it(batch: Batch) -> None:
    job = batch.job("false")
    after = batch.function(str, job.result)
    with pytest.warns(RuntimeWarning, match="1 of 2 tasks failed"):
        batch.compile([job, after]).run()
    with pytest.raises(UpstreamFailed, match="false"):
        after.result.get()


def test_a_program_that_an_earlier_task_makes(batch: Batch, tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.write_text("#!/bin/sh\necho made\n")
        path.chmod(0o755)

    program = tmp_path / "program"
    first = batch.function(make, program, writes=batch.write(program))
    job = batch.job(program, num_procs=2, reads=batch.read(program))
    batch.compile([first, job]).run()
    assert job.stdout.get() == "made\nmade\n"


def test_callbacks(batch: Batch) -> None:
    called: list[object] = []
    args = ("seen",)
    job = batch.job(pow, (2, 3), 2, None, None, None, lambda *a: called.append(a), args)
    job.run()
    assert called == [([8, 8], "seen")]


# -- misuse ------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused_at_once(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        batch.job("no-such-program")
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(PermissionError, match="plain"):
        batch.job(plain)
    with pytest.raises(UsageError, match="at least one rank"):
        batch.job("true", num_procs=0)
    with pytest.raises(TypeError, match="num_procs"):
        batch.job("true", num_procs=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="args of job"):
        batch.job("true", args="x")
    with pytest.raises(TypeError, match=r"str\(\.\.\.\)"):
        batch.job("true", args=(3,))
    with pytest.raises(TypeError, match="job runs a function"):
        batch.job(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="target of job is empty"):
        batch.job([])


def test_python_itself_as_a_program(batch: Batch) -> None:
    job = batch.job([sys.executable, "-c", "import sys; print(sys.argv[1])", "x"], num_procs=2)
    job.run()
    assert job.stdout.get() == "x\nx\n"
