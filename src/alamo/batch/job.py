"""Making tasks that run MPI jobs."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from alamo.batch import launchers
from alamo.batch.arguments import as_accesses
from alamo.batch.options import own_process
from alamo.batch.process import _Process, as_argument
from alamo.batch.process_options import check_environment, find_program, text_form
from alamo.batch.results import AsyncDict
from alamo.core.access import READ, WRITE, DataAccess
from alamo.core.paths import absolute_path
from alamo.errors import PolicyError, UsageError
from alamo.policy import Policy
from alamo.protocol.jobs import JobCommand
from alamo.worker import jobs

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task

Text = str | bytes | os.PathLike[Any] | AsyncDict


class _Job(_Process, gc=False, eq=False):
    """A task that runs an MPI job: it calls the worker's function for that."""

    #: How its ranks are started; see ``describe``.
    command: JobCommand | None = None

    def _explain_lines(self) -> list[str]:
        """What ``alamo.explain`` adds."""
        return [] if self.command is None else [f"As a job, {describe(self.command)}."]


class Jobs:
    """The part of a Batch that makes tasks which run MPI jobs."""

    #: Those of the Batch.
    function: Callable[..., Any]
    _client: Client

    def job(
        self,
        target: Callable[..., Any] | Text | Sequence[Text],
        args: Sequence[Any] | None = (),
        num_procs: int = 1,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        callback_func: Callable[..., Any] | None = None,
        callback_args: tuple[Any, ...] = (),
        reads: DataAccess | Sequence[DataAccess] | None = None,
        writes: DataAccess | Sequence[DataAccess] | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        name: str | None = None,
        check: bool = True,
        **options: Any,
    ) -> Task:
        """Make a task that runs a program or a Python function as ``num_procs`` ranks under MPI.

        All ranks start together: the job waits until it gets the slots of all of them at once,
        and no task that came later takes them away from it.

        The result of a program is the exit code 0; if a rank ends with another one or by a signal
        the others are ended, and ``JobFailed`` says which it was.  The result of a function is
        the list of what the ranks returned, in their order; each gets the same arguments, and may
        use mpi4py.  If it raises in a rank the others are ended, and its exception, in the lowest
        rank that raised, is the task's.  ``task.stdout`` and ``task.stderr`` give what all ranks
        wrote, in the order of ranks, and ``task.stdout.get(rank=2)`` gives it of one: all of up to
        a mebibyte together, of more head and tail of each rank.

        The launcher is the ``mpiexec`` or ``mpirun`` in ``PATH`` or beside the Python interpreter
        (there first for functions: mpi4py must be of the same MPI), or ``srun`` inside an
        allocation of Slurm.  ``Policy(launcher=)`` or the environment variable
        ``ALAMO_MPI_LAUNCHER`` names another one, with options for it if need be.

        Args:
            target: a function, or a program, or a list of a program and its arguments.
            args: the arguments of the function or (behind those in ``target``) of the program.
                Handles of other tasks may stand among them.
            num_procs: ranks; no more than ``num_workers``, unless ``Policy(oversubscribe=True)``.
            cwd: the directory to run in.
            env: the whole environment; without it that of the workers: this process's when the
                Batch was made.  What a launcher around this process has put there is left out.
            policy: ``cores`` is meant for each rank, the rest for the job as a whole.
            encoding, errors, text: of the output; as in ``process``.
            callback_func, callback_args, reads, writes: as in ``function``.
            name: shown in messages beside the uid; without it the target's.
            check: ``False`` makes the first exit code that is not 0 a result of a program.  A
                signal is a failure still.
            options: further ones of ``function``.

        Raises:
            UsageError: there is no launcher, or it does not work.
            PolicyError: (a ``UsageError``) there are more ranks than slots.
            FileNotFoundError: there is no such program; the error names it and the PATH.
            PermissionError: the program may not be executed.
            TypeError: an argument is none that a program can take.

        Cost: 0.1 ms here, once 10 ms to ask the launcher what it is; 0.5 ms in the worker and 1 ms
        a rank beside what launcher and program take.

        Example:
            >>> from alamo import Batch
            >>> with Batch(num_workers=2) as batch:
            ...     batch.job(pow, (2, 5), num_procs=2).run()
            [32, 32]
        """
        ranks = _ranks(num_procs)
        policy = Policy() if policy is None else policy
        whole = _whole(policy, ranks, self._client.slots)
        form = text_form(text, None, encoding, errors, None, ranks)
        environment = check_environment(env)
        where = None if cwd is None else absolute_path(cwd, os.getcwd)
        all_reads = as_accesses(reads, READ) if reads is not None else ()
        command = JobCommand(
            launchers.find(callable(target), policy.launcher),
            ranks,
            policy.cores,
            where,
            environment,
            bool(check),
        )
        if callable(target):
            given: tuple[Any, ...] = (jobs.run_function, command, target, tuple(args or ()))
        else:
            argv = _argv(target, args)
            program = find_program(argv[0], where, environment, all_reads)
            given = (jobs.run_program, command, (program, *argv[1:]))
        call = self.function(
            *given,
            callback_func=callback_func,
            callback_args=callback_args,
            reads=all_reads,
            writes=as_accesses(writes, WRITE) if writes is not None else (),
            name=name if name is not None else _name(target),
            policy=whole,
            **options,
        )
        call.options = own_process(call.options)
        task = _Job(*msgspec.structs.astuple(call))
        task.form, task.command = form, command
        return task


def _ranks(num_procs: Any) -> int:
    if isinstance(num_procs, bool) or not hasattr(num_procs, "__index__"):
        raise TypeError(f"num_procs is a number of ranks, not {num_procs!r:.80}")
    ranks: int = num_procs.__index__()
    if ranks < 1:
        raise UsageError(f"num_procs={ranks}: a job has at least one rank")
    return ranks


def _whole(policy: Policy, ranks: int, slots: int) -> Policy:
    """What the job needs as a whole: slots for all ranks at once.

    Raises:
        UsageError: it is no policy.
        PolicyError: more slots than there are.
    """
    if not isinstance(policy, Policy):
        raise UsageError(f"policy={policy!r:.200}: it is an alamo.Policy, or None")
    # CPUs that are named are those of all ranks together.
    cores = policy.cores if policy.cpu_affinity else ranks * policy.cores
    if cores > slots and not policy.oversubscribe:
        each = "" if policy.cores == 1 else f" with {policy.cores} cores each"
        raise PolicyError(
            f"num_procs={ranks}: {ranks} ranks{each} are more than the Batch has slots ({slots}); "
            "give Policy(oversubscribe=True) to let them share, fewer ranks, or the Batch a larger "
            "num_workers"
        )
    if policy.cpu_affinity:
        return policy
    return dataclasses.replace(policy, cores=min(cores, slots))


def _argv(target: Any, args: Sequence[Any] | None) -> tuple[Any, ...]:
    """The program and its arguments."""
    if isinstance(target, (str, bytes, os.PathLike, AsyncDict)):
        target = (target,)
    if isinstance(args, (str, bytes, os.PathLike, AsyncDict)):
        raise TypeError(
            f"args of job is a list or tuple of arguments; for one write ({args!r:.80},)"
        )
    try:
        argv = (*target, *(args or ()))
    except TypeError:
        raise TypeError(
            "job runs a function, a program, or a list of a program and its arguments, not "
            f"{target!r:.80}"
        ) from None
    if not argv:
        raise UsageError("target of job is empty; give at least the program")
    return tuple([as_argument(part) for part in argv])


def _name(target: Any) -> str | None:
    """What messages call the task: its function, or its program."""
    if callable(target):
        name = getattr(target, "__name__", None)
        return name if isinstance(name, str) else type(target).__qualname__
    first = target if isinstance(target, (str, bytes, os.PathLike)) else next(iter(target), "")
    return None if isinstance(first, AsyncDict) else os.path.basename(os.fsdecode(first)) or None


def describe(command: JobCommand) -> str:
    """How the ranks of a job are started, in a sentence, for ``alamo.explain``."""
    line = command.launcher.line(command.num_procs, os.geteuid() == 0)
    ranks = f"{command.num_procs} ranks are" if command.num_procs > 1 else "only rank is"
    return f"its {ranks} started by `{shlex.join(line)}`"
