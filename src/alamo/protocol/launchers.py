"""MPI launchers: what they are called, and the command line that starts ranks with each.

All ranks run on this machine, where alamo has given the job its slots.  So a launcher is told
not to look for an allocation, not to count slots of its own and not to pin: two jobs at once
would both begin at core 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

__all__ = ["HYDRA", "OPEN_MPI", "OTHER", "RANK_VARIABLES", "SRUN", "Launcher", "kind_of", "outer"]

#: MPICH's process manager; Open MPI's; Slurm's; anything that takes ``-n``, Intel MPI's for one.
HYDRA, OPEN_MPI, SRUN, OTHER = "hydra", "openmpi", "srun", "other"

#: Where a rank finds its number.  Slurm's stands last: a batch script has it too.
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")

#: Variables by which a launcher tells a rank about itself; a launcher that meets them takes itself
#: for a part of that other job.
_OF_LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "ORTE_", "MPIR_", "HYDRA_", "HYDI_", "MPIEXEC_")
#: The same by whole names.
_ALSO = frozenset(("MPI_LOCALNRANKS", "MPI_LOCALRANKID"))
#: Slurm's about one step and one of its tasks; what it says about the allocation stays.
_OF_STEPS = (
    *("SLURM_STEP", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_TASK_PID"),
    *("SLURM_TASKS_PER_NODE", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_GTIDS", "SLURM_LAUNCH_"),
    *("SLURM_SRUN_", "SLURM_CPU_BIND", "SLURM_MPI_TYPE", "SLURM_PMI"),
)
#: A user's own settings, which stay unless an outer launcher has written its own there too.
_SETTINGS = ("OMPI_MCA_", "PMIX_MCA_", "PRTE_MCA_", "MPIR_CVAR_", "HYDRA_", "OMPI_ALLOW_RUN_AS_")


class Launcher(msgspec.Struct, frozen=True, gc=False):
    """A program that starts the ranks of an MPI job.

    Attributes:
        kind: ``HYDRA``, ``OPEN_MPI``, ``SRUN`` or ``OTHER``.
        path: the program.
        version: its main version, 0 when it does not matter.
        options: further options that the user gave.
    """

    kind: str
    path: str
    version: int = 0
    options: tuple[str, ...] = ()

    def line(self, num_procs: int, root: bool = False, node: str = "") -> list[str]:
        """The command line up to the program that each rank runs.

        Args:
            num_procs: ranks.
            root: it is started by root, which Open MPI wants to be told.
            node: Slurm's name of this machine, for ``srun``.

        Example:
            >>> Launcher(OTHER, "/opt/mpi/bin/mpiexec").line(4)
            ['/opt/mpi/bin/mpiexec', '-n', '4']
        """
        if self.kind == HYDRA:
            options = ["-launcher", "fork", "-rmk", "user", "-topolib", "none"]
        elif self.kind == OPEN_MPI:
            options = ["--allow-run-as-root"] if root else []
            oversubscribe = ["--map-by", ":OVERSUBSCRIBE"] if self.version >= 5 else None
            options += oversubscribe or ["--oversubscribe"]
            options += ["--bind-to", "none"]
        elif self.kind == SRUN:
            options = ["--overlap", "--overcommit", "--nodes=1", "--cpu-bind=none"]
            options += ["--kill-on-bad-exit=1", "--input=none", "--export=ALL", "--quiet"]
            options += [f"--nodelist={node}"] if node else []
        else:
            options = []
        return [self.path, *options, *self.options, "-n", str(num_procs)]

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """The environment to start it with.

        Args:
            given: that of the job; nothing of a launcher around alamo is taken over from it.
        """
        inside = outer(given)
        env = {name: value for name, value in given.items() if not _is_leak(name, inside)}
        if self.kind == OPEN_MPI:
            # Else it takes a second to choose a transport; all ranks are on this machine.
            env.setdefault("OMPI_MCA_pml", "ob1")
            env.setdefault("OMPI_MCA_btl", "self,vader")
            # By this name it would know the allocation and want to start daemons through srun.
            env.pop("SLURM_JOBID", None)
        elif self.kind == HYDRA:
            # Else it writes the topology to a file in /tmp, and leaves that there after an abort.
            env.setdefault("HWLOC_XMLFILE", "")
        elif self.kind == SRUN and "SLURM_MPI_TYPE" in given and not inside:
            env["SLURM_MPI_TYPE"] = given["SLURM_MPI_TYPE"]
        return env

    def __str__(self) -> str:
        return shlex.join((self.path, *self.options))


def outer(env: Mapping[str, str]) -> bool:
    """Whether the environment is that of a rank of some MPI job."""
    return any(name in env for name in RANK_VARIABLES[:3]) or "SLURM_STEP_ID" in env


def _is_leak(name: str, inside: bool) -> bool:
    if name in _ALSO or name.startswith(_OF_STEPS):
        return True
    if not name.startswith(_OF_LAUNCHERS):
        return False
    return inside or not name.startswith(_SETTINGS)


def kind_of(version_text: str) -> tuple[str, int]:
    """Kind and main version of a launcher by what it prints for ``--version``.

    Example:
        >>> kind_of("mpiexec (Open MPI) 5.0.11")
        ('openmpi', 5)
    """
    text = version_text.strip()
    for mark in ("(Open MPI)", "(OpenRTE)", "(PRRTE)"):
        if mark in text:
            main = text.partition(mark)[2].strip().partition(".")[0]
            if mark == "(PRRTE)":  # what Open MPI 5 and later is made with
                return OPEN_MPI, 5
            return OPEN_MPI, int(main) if main.isdigit() else 5
    if "HYDRA build details" in text:
        return HYDRA, 0
    if text.lower().startswith("slurm"):
        return SRUN, 0
    return OTHER, 0
