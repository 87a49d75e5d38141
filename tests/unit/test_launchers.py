"""MPI launchers: recognised, found, and their command lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alamo.batch import launchers
from alamo.errors import UsageError
from alamo.protocol.launchers import HYDRA, OPEN_MPI, OTHER, SRUN, Launcher, kind_of

MPIEXEC = "/opt/mpi/bin/mpiexec"


@pytest.mark.parametrize(
    ("launcher", "root", "line"),
    [
        (
            Launcher(HYDRA, MPIEXEC),
            True,
            "-launcher fork -rmk user -topolib none -n 4",
        ),
        (
            Launcher(OPEN_MPI, MPIEXEC, 4),
            True,
            "--allow-run-as-root --oversubscribe --bind-to none -n 4",
        ),
        (
            Launcher(OPEN_MPI, MPIEXEC, 4),
            False,
            "--oversubscribe --bind-to none -n 4",
        ),
        (
            Launcher(OPEN_MPI, MPIEXEC, 5, ("--mca", "btl", "tcp,self")),
            False,
            "--map-by :OVERSUBSCRIBE --bind-to none --mca btl tcp,self -n 4",
        ),
        (
            Launcher(SRUN, "/usr/bin/srun", 0, ("--mpi=pmi2",)),
            True,
            "--overlap --overcommit --nodes=1 --cpu-bind=none --kill-on-bad-exit=1 --input=none "
            "--export=ALL --quiet --nodelist=node3 --mpi=pmi2 -n 4",
        ),
        (Launcher(OTHER, MPIEXEC), True, "-n 4"),
    ],
)
def test_command_lines(launcher: Launcher, root: bool, line: str) -> None:
    assert launcher.line(4, root, node="node3") == [launcher.path, *line.split()]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("HYDRA build details:\n    Version:           4.0.2\n", (HYDRA, 0)),
        ("mpiexec.openmpi (OpenRTE) 4.1.4\n\nReport bugs to", (OPEN_MPI, 4)),
        ("mpirun (Open MPI) 4.1.5rc1", (OPEN_MPI, 4)),
        ("mpiexec (Open MPI) 5.0.11\n", (OPEN_MPI, 5)),
        ("prterun (PRRTE) 3.0.7\n", (OPEN_MPI, 5)),
        ("slurm 22.05.8\n", (SRUN, 0)),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.9", (OTHER, 0)),
        ("", (OTHER, 0)),
    ],
)
def test_kinds(text: str, kind: tuple[str, int]) -> None:
    assert kind_of(text) == kind


def test_nothing_of_an_outer_launcher_leaks() -> None:
    outer = {
        "HOME": "/home/u",
        "PMI_RANK": "3",
        "PMI_FD": "9",
        "PMIX_NAMESPACE": "x",
        "OMPI_COMM_WORLD_RANK": "3",
        "OMPI_MCA_ess": "pmi",
        "PRTE_LAUNCHED": "1",
        "HYDI_CONTROL_FD": "7",
        "HYDRA_LAUNCHER": "ssh",
        "MPI_LOCALNRANKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_ID": "77",
    }
    env = Launcher(OTHER, MPIEXEC).environment(outer)
    assert env == {"HOME": "/home/u", "SLURM_JOB_ID": "77"}


def test_the_users_own_settings_stay() -> None:
    own = {"OMPI_MCA_btl": "tcp,self", "MPICH_GPU_SUPPORT_ENABLED": "1", "PMI_SIZE": "2"}
    env = Launcher(OPEN_MPI, MPIEXEC, 5).environment(own)
    assert env["OMPI_MCA_btl"] == "tcp,self"
    assert env["MPICH_GPU_SUPPORT_ENABLED"] == "1"
    assert env["OMPI_MCA_pml"] == "ob1"
    assert "PMI_SIZE" not in env


def test_open_mpi_does_not_see_the_allocation() -> None:
    given = {"SLURM_JOBID": "7", "SLURM_JOB_ID": "7"}
    assert "SLURM_JOBID" not in Launcher(OPEN_MPI, MPIEXEC, 4).environment(given)
    assert Launcher(OPEN_MPI, MPIEXEC, 4).environment(given)["SLURM_JOB_ID"] == "7"
    given["SLURM_MPI_TYPE"] = "pmi2"
    assert Launcher(SRUN, "/usr/bin/srun").environment(given)["SLURM_MPI_TYPE"] == "pmi2"


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that takes the place of the interpreter's, and an empty PATH."""
    directory = tmp_path / "venv" / "bin"
    directory.mkdir(parents=True)
    monkeypatch.setattr(launchers.sys, "executable", str(directory / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv(launchers.VARIABLE, raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return directory


def test_python_ranks_take_the_launcher_beside_the_interpreter(
    beside: Path, tmp_path: Path
) -> None:
    ours = make_program(beside / "mpiexec", "echo 'HYDRA build details:'")
    systems = make_program(tmp_path / "path" / "mpiexec", "echo 'mpiexec (OpenRTE) 4.1.4'")
    assert launchers.find(python=True) == Launcher(HYDRA, str(ours))
    assert launchers.find(python=False) == Launcher(OPEN_MPI, str(systems), 4)
    systems.unlink()
    assert launchers.find(python=False) == Launcher(HYDRA, str(ours))


def test_srun_counts_inside_an_allocation(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    srun = make_program(tmp_path / "path" / "srun", "echo slurm 23.11.4")
    with pytest.raises(UsageError, match="no MPI launcher"):
        launchers.find(python=True)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert launchers.find(python=True) == Launcher(SRUN, str(srun))


def test_the_users_choice(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_program(beside / "mpiexec", "echo 'HYDRA build details:'")
    other = make_program(tmp_path / "my mpi" / "run", "echo 'mpiexec (Open MPI) 5.0.1'")
    assert launchers.find(True, str(other)) == Launcher(OPEN_MPI, str(other), 5)
    monkeypatch.setenv(launchers.VARIABLE, f"'{other}' --verbose")
    assert launchers.find(True) == Launcher(OPEN_MPI, str(other), 5, ("--verbose",))
    monkeypatch.setenv(launchers.VARIABLE, "no-such-mpi")
    with pytest.raises(UsageError, match=r"ALAMO_MPI_LAUNCHER.*'no-such-mpi'.*path"):
        launchers.find(True)
    with pytest.raises(UsageError, match=r"Policy\(launcher=\) is no command line"):
        launchers.find(True, "mpi 'exec")


def test_a_launcher_that_fails_says_why(beside: Path) -> None:
    make_program(beside / "mpiexec", "echo out of order; exit 3")
    with pytest.raises(UsageError, match=r"exits with status 3 and says: 'out of order'"):
        launchers.find(python=True)


def test_a_launcher_is_asked_again_when_it_changes(beside: Path) -> None:
    path = make_program(beside / "mpiexec", "echo 'HYDRA build details:'")
    assert launchers.find(python=True).kind == HYDRA
    make_program(path, "echo 'mpiexec (Open MPI) 5.0.1'")
    os.utime(path, ns=(1, 1))
    assert launchers.find(python=True).kind == OPEN_MPI


def test_none_at_all(beside: Path) -> None:
    with pytest.raises(UsageError, match=r"no MPI launcher.*venv/bin.*mpich.*ALAMO_MPI_LAUNCHER"):
        launchers.find(python=True)
