"""MPI jobs whose ranks, launcher or worker fail: the job ends, says why and leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import _mpi
import psutil
import pytest
from _mpi import needs_launcher, needs_mpi4py

from alamo import Batch, JobFailed, Policy, TaskTimeout, UsageError, WorkerLost

ENDS_S = 60.0


@pytest.fixture
def batch() -> Iterator[Batch]:
    with Batch(num_workers=2) as made:
        yield made


def wait_for(paths: list[Path]) -> list[int]:
    """The numbers in files that other processes write."""
    deadline = time.monotonic() + ENDS_S
    while True:
        texts = [path.read_text() if path.exists() else "" for path in paths]
        if all(texts):
            return [int(text) for text in texts]
        assert time.monotonic() < deadline, f"not there: {paths}"
        time.sleep(0.02)


def wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + ENDS_S
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {pids}"
        time.sleep(0.02)


def ancestors(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).parents()


# -- ranks -------------------------------------------------------------------------------------


@needs_mpi4py
@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("exit", "exited with code 3"),
        ("leave", r"exited with code 0 before its function had returned"),
        ("SIGKILL", r"was ended by signal 9 \(SIGKILL\)"),
        ("SIGSEGV", r"was ended by signal 11 \(SIGSEGV\)"),
    ],
)
def test_a_rank_that_ends_while_others_wait(batch: Batch, bad: int, how: str, told: str) -> None:
    job = batch.job(_mpi.fail_in_rank, (bad, how), num_procs=2)
    with pytest.raises(JobFailed, match=rf"rank {bad} of 2 of `fail_in_rank\(\)` {told}") as caught:
        job.run(timeout=ENDS_S)
    assert caught.value.rank == bad
    assert job.stdout.get() == "rank 0 was here\nrank 1 was here\n"


@needs_mpi4py
@pytest.mark.parametrize("bad", [0, 1])
def test_a_rank_that_raises_while_others_wait(batch: Batch, bad: int) -> None:
    job = batch.job(_mpi.fail_in_rank, (bad, "raise"), num_procs=2)
    with pytest.raises(LookupError, match="nothing there") as caught:
        job.run(timeout=ENDS_S)
    assert caught.value.args == ("nothing there", bad)
    assert f"on rank {bad} of 2" in "".join(caught.value.__notes__)


@needs_launcher
def test_a_rank_that_raises_before_any_mpi(batch: Batch) -> None:
    with pytest.raises(KeyError, match="early"):
        batch.job(_mpi.fail_before_mpi, (1,), num_procs=2).run(timeout=_mpi.WAIT_S / 2)


@needs_launcher
def test_a_program_whose_rank_fails_ends_the_others(batch: Batch) -> None:
    find = "r=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-$SLURM_PROCID}}}"
    job = batch.job(["sh", "-c", f"{find}; [ $r = 1 ] && exit 5; exec sleep 1000"], num_procs=2)
    with pytest.raises(JobFailed, match="exited with code 5"):
        job.run(timeout=ENDS_S)


@needs_launcher
def test_what_ranks_leave_running_ends_with_the_job(batch: Batch, tmp_path: Path) -> None:
    script = 'setsid sh -c "echo \\$\\$ >$1/pid.$$; exec sleep 1000" >/dev/null 2>&1 &\n'
    script += "while [ ! -s $1/pid.$$ ]; do sleep 0.02; done"
    batch.job(["sh", "-c", script, "sh", tmp_path], num_procs=2).run(timeout=ENDS_S)
    pids = wait_for(list(tmp_path.glob("pid.*")))
    assert len(pids) == 2
    wait_gone(pids)


@needs_launcher
def test_a_rank_that_cannot_be_ended_by_asking(batch: Batch) -> None:
    find = "r=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-$SLURM_PROCID}}}"
    script = f"{find}; [ $r = 1 ] && exit 5; trap '' TERM INT; sleep 1000; sleep 1000"
    with pytest.raises(JobFailed, match="exited with code 5"):
        batch.job(["sh", "-c", script], num_procs=2).run(timeout=ENDS_S)


# -- the launcher and the worker ---------------------------------------------------------------


@needs_mpi4py
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_is_killed(batch: Batch, tmp_path: Path, number: signal.Signals) -> None:
    job = batch.job(_mpi.note_and_sleep, (tmp_path,), num_procs=2)
    job.start()
    ranks = wait_for([tmp_path / "pid.0", tmp_path / "pid.1"])
    name = os.path.basename(_mpi.LAUNCHER.path)
    launcher = [p for p in ancestors(ranks[0]) if name in p.cmdline()[0]][-1]
    launcher.send_signal(number)
    with pytest.raises(JobFailed):
        job.result.get(timeout=ENDS_S)
    wait_gone(ranks)


def segments() -> set[str]:
    """Shared memory that MPICH has made; a killed rank leaves its own behind."""
    return {name for name in os.listdir("/dev/shm") if name.startswith("mpich_shm_")}


def assert_swept_by_the_next(left: set[str]) -> None:
    """Segments that nobody uses go when a Batch starts; other tests' jobs may use some."""
    deadline_s = time.monotonic() + ENDS_S
    while left & segments():
        assert time.monotonic() < deadline_s
        Batch(num_workers=1).terminate()
        time.sleep(0.1)


@needs_mpi4py
def test_a_worker_that_is_killed_takes_all_ranks_along(batch: Batch, tmp_path: Path) -> None:
    job = batch.job(_mpi.note_and_sleep, (tmp_path,), num_procs=2)
    before = segments()
    job.start()
    ranks = wait_for([tmp_path / "pid.0", tmp_path / "pid.1"])
    worker = next(p for p in ancestors(ranks[0]) if p.name().startswith("alamo-worker"))
    worker.kill()
    with pytest.raises(WorkerLost):
        job.result.get(timeout=ENDS_S)
    wait_gone(ranks)
    assert_swept_by_the_next(segments() - before)


@needs_mpi4py
def test_terminate_takes_all_ranks_along(tmp_path: Path) -> None:
    batch = Batch(num_workers=2)
    batch.job(_mpi.note_and_sleep, (tmp_path,), num_procs=2).start()
    before = segments()
    ranks = wait_for([tmp_path / "pid.0", tmp_path / "pid.1"])
    batch.terminate()
    wait_gone(ranks)
    assert_swept_by_the_next(segments() - before)


def fake_launcher(directory: Path, text: str) -> Path:
    """A program in the place of mpiexec."""
    path = directory / "mpiexec"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo fake; exit; fi\n{text}\n')
    path.chmod(0o755)
    return path


def test_a_launcher_that_fails(batch: Batch, tmp_path: Path) -> None:
    path = fake_launcher(tmp_path, "echo 'out of slots' >&2; exit 213")
    policy = Policy(launcher=str(path))
    job = batch.job("true", num_procs=2, policy=policy, check=False)
    told = rf"(?s)the MPI launcher {path} of .*true.* exited with status 213.*0, 1.*out of slots"
    with pytest.raises(JobFailed, match=told) as caught:
        job.run(timeout=ENDS_S)
    assert caught.value.rank == -1
    assert "out of slots" in job.stderr.get()
    with pytest.raises(JobFailed, match="out of slots"):
        batch.job(pow, (2, 5), num_procs=2, policy=policy).run(timeout=ENDS_S)


def test_a_launcher_that_starts_too_few(batch: Batch, tmp_path: Path) -> None:
    path = fake_launcher(tmp_path, 'shift 2; PMI_RANK=0 exec "$@"')
    job = batch.job("true", num_procs=2, policy=Policy(launcher=str(path)))
    with pytest.raises(JobFailed, match=r"of 2 ranks these did not end by themselves: 1"):
        job.run(timeout=ENDS_S)


def test_ranks_that_are_not_told_who_they_are(batch: Batch, tmp_path: Path) -> None:
    path = fake_launcher(tmp_path, 'shift 2; "$@"')
    job = batch.job("true", num_procs=2, policy=Policy(launcher=str(path)))
    with pytest.raises(JobFailed, match="tells a rank its number in no known variable"):
        job.run(timeout=ENDS_S)


def test_a_launcher_that_is_gone_when_the_job_runs(batch: Batch, tmp_path: Path) -> None:
    path = fake_launcher(tmp_path, "exit 1")
    job = batch.job("true", policy=Policy(launcher=str(path)))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="mpiexec"):
        job.run(timeout=ENDS_S)


def test_no_launcher(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Policy\(launcher=\) names the MPI launcher"):
        batch.job("true", policy=Policy(launcher=str(tmp_path / "mpiexec")))


@needs_mpi4py
def test_a_launcher_of_another_mpi(batch: Batch, tmp_path: Path) -> None:
    path = fake_launcher(
        tmp_path,
        'shift 2; MV2=1 SLURM_PROCID=0 "$@" & a=$!; SLURM_PROCID=1 "$@" & b=$!\n'
        "wait $a; x=$?; wait $b; y=$?; exit $((x + y))",
    )
    job = batch.job(_mpi.together, (0,), num_procs=2, policy=Policy(launcher=str(path)))
    with pytest.raises(UsageError, match=r"2 ranks, and MPI in this one knows of 1.*mpi4py"):
        job.run(timeout=ENDS_S)


@needs_launcher
def test_a_directory_that_is_not_there(batch: Batch, tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    job = batch.job("true", cwd=directory)
    directory.rmdir()
    with pytest.raises(FileNotFoundError, match="gone"):
        job.run(timeout=ENDS_S)


@needs_mpi4py
def test_two_jobs_at_once_and_failures_among_them(tmp_path: Path) -> None:
    """Segments of the job that goes on are left alone when those of the failed one are removed."""
    with Batch(num_workers=4) as batch:
        lasting = batch.job(_mpi.together, ("on",), num_procs=2)
        failing = [batch.job(_mpi.fail_in_rank, (1, "SIGKILL"), num_procs=2) for _ in range(3)]
        lasting_too = batch.job(_mpi.together, ("too",), num_procs=2)
        with pytest.warns(RuntimeWarning, match="3 of 5 tasks failed"):
            batch.compile([lasting, *failing, lasting_too]).run(timeout=ENDS_S)
        assert lasting.result.get() == [(1, 2, "on")] * 2
        assert lasting_too.result.get() == [(1, 2, "too")] * 2
        assert batch.job(_mpi.together, (0,), num_procs=2).run(timeout=ENDS_S) == [(1, 2, 0)] * 2


# -- stopping, and slots -----------------------------------------------------------------------


@needs_mpi4py
def test_a_time_limit_ends_all_ranks(batch: Batch, tmp_path: Path) -> None:
    job = batch.job(_mpi.note_and_sleep, (tmp_path,), num_procs=2, timeout=5)
    with pytest.raises(TaskTimeout):
        job.run(timeout=ENDS_S)
    notes = [path for path in (tmp_path / "pid.0", tmp_path / "pid.1") if path.exists()]
    wait_gone(wait_for(notes))
    assert batch.job(_mpi.own, (0,), num_procs=2).run(timeout=ENDS_S) == [0, 1]


@needs_launcher
def test_a_failed_job_is_tried_again(batch: Batch, tmp_path: Path) -> None:
    script = '[ -e "$1" ] && exit 0; echo x >"$1"; exit 3'
    job = batch.job(["sh", "-c", script, "sh", tmp_path / "tried"], retries=2)
    assert job.run(timeout=ENDS_S) == 0


def begun_and_ended(path: Path, took_s: float) -> None:
    """Notes when it ran."""
    begun = time.monotonic()
    time.sleep(took_s)
    with open(path, "a") as file:
        file.write(f"{begun} {time.monotonic()}\n")


def times(path: Path) -> list[tuple[float, float]]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(float(begun), float(ended)) for begun, ended in lines]


@needs_launcher
def test_a_job_takes_its_slots_at_once(batch: Batch, tmp_path: Path) -> None:
    """While its ranks run nothing else does, and a stream of small tasks does not keep it out."""
    small = [batch.function(begun_and_ended, tmp_path / "small", 0.01) for _ in range(60)]
    jobs = [batch.job(begun_and_ended, (tmp_path / "ranks", 0.1), num_procs=2) for _ in range(2)]
    batch.compile([*small[:10], *jobs, *small[10:]]).run(timeout=ENDS_S)
    ranks = times(tmp_path / "ranks")
    assert len(ranks) == 4
    for begun, ended in times(tmp_path / "small"):
        assert not [rank for rank in ranks if rank[0] < ended and begun < rank[1]]
