"""Finding the MPI launcher of this machine."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys

from alamo.errors import UsageError
from alamo.protocol.launchers import Launcher, kind_of

#: Overrides the choice: a program, and options for it if need be.
VARIABLE = "ALAMO_MPI_LAUNCHER"
_VERSION_TIMEOUT_S = 20.0
_TAIL_CHARS = 500


def find(python: bool, wanted: str | None = None) -> Launcher:
    """The launcher that starts a job's ranks.

    Args:
        python: the ranks are Python's: their mpi4py was most likely installed together with the
            launcher that lies beside the interpreter, on ``PATH`` or not.
        wanted: the user's choice for this job; else that in ``ALAMO_MPI_LAUNCHER``.  A program,
            and options for it if need be, as in a shell.

    Raises:
        UsageError: there is none, or it fails at ``--version``.

    Cost: 5 us; the first time 10 ms, as the launcher is asked what it is.
    """
    origin = "Policy(launcher=)"
    if not wanted:
        origin, wanted = f"the environment variable {VARIABLE}", os.environ.get(VARIABLE)
    if wanted:
        return _chosen(wanted, origin)
    beside = os.path.dirname(os.path.abspath(sys.executable))
    path = os.environ.get("PATH", os.defpath)
    directories = f"{beside}{os.pathsep}{path}" if python else f"{path}{os.pathsep}{beside}"
    names = ["mpiexec", "mpirun"]
    if "SLURM_JOB_ID" in os.environ:
        names.append("srun")
    for name in names:
        program = shutil.which(name, path=directories)
        if program is not None:
            return _described(program, ())
    raise UsageError(
        f"no MPI launcher is to be found: there is no {' or '.join(names)} in {directories}; "
        "install an MPI (`pip install mpich mpi4py`, or Debian's openmpi-bin), or name a launcher "
        f"in Policy(launcher=) or in the environment variable {VARIABLE}"
    )


def _chosen(wanted: str, origin: str) -> Launcher:
    try:
        name, *options = [wanted] if os.path.isfile(wanted) else shlex.split(wanted)
    except ValueError as error:
        raise UsageError(f"{origin} is no command line ({error}): {wanted!r}") from None
    program = shutil.which(name)
    if program is None:
        where = "" if os.sep in name else f" in {os.environ.get('PATH', os.defpath)}"
        raise UsageError(
            f"{origin} names the MPI launcher {name!r}, and there is no such program{where}"
        )
    return _described(program, tuple(options))


def _described(program: str, options: tuple[str, ...]) -> Launcher:
    path = os.path.abspath(program)
    kind, version = _probe(path, os.stat(path).st_mtime_ns)
    return Launcher(kind, path, version, options)


@functools.lru_cache(maxsize=32)
def _probe(path: str, _changed_ns: int) -> tuple[str, int]:
    """Kind and main version of a program; asked once, and again when it has changed."""
    try:
        asked = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=Launcher("", path).environment(os.environ),
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"the MPI launcher {path} does not run: {error}") from error
    text = asked.stdout.decode("utf-8", "replace")
    if asked.returncode:
        raise UsageError(
            f"the MPI launcher {path} fails: `{path} --version` exits with status "
            f"{asked.returncode} and says: {text.strip()[-_TAIL_CHARS:]!r}"
        )
    return kind_of(text)
