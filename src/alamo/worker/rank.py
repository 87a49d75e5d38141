"""The program that is one rank of a job whose target is a Python function.

Run as ``python -P rank.py FILE``; FILE holds two pickles: what the process needs before it can
load anything (``sys.path``, where to leave what the function returns), and the call.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from typing import Any, BinaryIO


def main() -> None:
    """Call the function and leave its value or exception in this rank's file."""
    with open(sys.argv[1], "rb") as file:
        rank, values = _enter(file)
        from alamo.protocol import pickling
        from alamo.protocol.jobs import RAISED, RETURNED

        _unbuffer()
        try:
            function, args = pickling.load(file.read())
            result = function(*args)
            _check_world(len(values))
            data = RETURNED + _dump(result)
        except BaseException as error:
            data = RAISED + _packed(error, rank, len(values))
    with open(values[rank], "r+b", buffering=0) as out:
        for start in range(1, len(data), 1 << 30):  # a write takes 2 GiB at most
            out.seek(start)
            out.write(memoryview(data)[start : start + (1 << 30)])
        out.seek(0)
        out.write(data[:1])
    if data[:1] == RAISED:
        _abort()


def _enter(file: BinaryIO) -> tuple[int, list[str]]:
    """Find modules where the worker finds them; this rank's number, and where values go."""
    path, variables, values = pickle.load(file)
    sys.path[:] = path
    sys.argv[:] = ["alamo-rank"]
    rank = next((os.environ[name] for name in variables if os.environ.get(name)), "0")
    return int(rank), values


def _unbuffer() -> None:
    """What is printed must be there when another rank's failure ends this one."""
    from alamo import linux

    linux.unbuffer_c_stdout()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace", write_through=True
        )


def _dump(value: Any) -> bytes:
    from alamo.errors import SerializationError
    from alamo.protocol import exceptions, pickling

    try:
        return pickling.dump_in_line(value)
    except SerializationError as error:
        raise exceptions.unpicklable_result(value, error) from error


def _packed(error: BaseException, rank: int, num_procs: int) -> bytes:
    from alamo.protocol import exceptions

    trace = error.__traceback__
    if trace is not None:
        error.__traceback__ = trace.tb_next  # without the frame of main()
    where = f"rank {rank} of {num_procs} on {socket.gethostname()}"
    return exceptions.dump_exception(error, where, os.getpid())


def _loaded_mpi() -> Any:
    """mpi4py's MPI if the function has loaded it and it is at work."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() else None


def _check_world(num_procs: int) -> None:
    """Each rank is alone in its world when mpi4py belongs to another MPI than the launcher."""
    mpi = _loaded_mpi()
    if mpi is not None and mpi.COMM_WORLD.Get_size() != num_procs and num_procs > 1:
        from alamo.errors import UsageError

        library = mpi.Get_library_version().splitlines()[0]
        raise UsageError(
            f"the job has {num_procs} ranks, and MPI in this one knows of "
            f"{mpi.COMM_WORLD.Get_size()}: the launcher is not that of mpi4py's MPI ({library}); "
            "name the right one in Policy(launcher=) or in the environment variable "
            "ALAMO_MPI_LAUNCHER"
        )


def _abort() -> None:
    """End the other ranks, which may wait for this one for ever."""
    mpi = _loaded_mpi()
    if mpi is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        mpi.COMM_WORLD.Abort(1)
    sys.exit(1)


if __name__ == "__main__":
    main()
