"""Making tasks that run executables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from alamo.batch.options import own_process
from alamo.batch.process_options import (
    check_environment,
    check_options,
    find_program,
    identity_of,
    text_form,
)
from alamo.batch.redirections import Redirections
from alamo.batch.results import AsyncDict
from alamo.batch.task import Task, _Function
from alamo.core.access import DataAccess
from alamo.core.paths import absolute_path
from alamo.errors import UsageError
from alamo.protocol.commands import Command
from alamo.protocol.output_form import OutputForm
from alamo.worker import executables

_SHELL = "/bin/sh"
Text = str | bytes | os.PathLike[Any] | AsyncDict


class _Process(_Function, gc=False, eq=False):
    """A task that runs an executable: it calls the worker's function for that."""


class Processes:
    """The part of a Batch that makes tasks which run executables."""

    #: That of the Batch.
    function: Callable[..., Any]

    def process(
        self,
        args: Text | Sequence[Text],
        bufsize: int = -1,
        executable: Text | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        preexec_fn: None = None,
        close_fds: bool = True,
        shell: bool = False,
        cwd: Text | None = None,
        env: Mapping[Any, Any] | None = None,
        universal_newlines: bool | None = None,
        startupinfo: None = None,
        creationflags: int = 0,
        restore_signals: bool = True,
        start_new_session: bool = False,
        pass_fds: Iterable[int] = (),
        group: str | int | None = None,
        extra_groups: Iterable[str | int] | None = None,
        user: str | int | None = None,
        umask: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        pipesize: int = -1,
        process_group: int | None = None,
        callback_func: Callable[..., Any] | None = None,
        callback_args: tuple[Any, ...] = (),
        reads: DataAccess | Sequence[DataAccess] | None = None,
        writes: DataAccess | Sequence[DataAccess] | None = None,
        name: str | None = None,
        check: bool = True,
        **options: Any,
    ) -> Task:
        """Make a task that runs an executable in a worker.

        Its result is the exit code 0; another one, or a signal, is a ``ProcessFailed``.  What it
        writes is given by ``task.stdout`` and ``task.stderr``, also when it fails: all of up to a
        mebibyte, of more the first and last 512 KiB.  Processes that it leaves behind end with it.

        The program is looked for here and now, as Popen does, in the PATH of ``env`` or of this
        process, and again when it runs.

        Args:
            args: the program and its arguments, or the program alone, or with ``shell=True`` a
                command line.  Paths and handles of other tasks may stand among them.
            executable: the program to run, where ``args`` begins with another name for it.
            stdin: bytes to read; the path of a file, which the task then READs; ``DEVNULL``; or a
                handle of another task: of its result, or of its stdout, byte for byte.  Without
                it nothing is there to be read.
            stdout, stderr: the path of a file instead of being captured: relative to the current
                directory, its directories made, emptied first, a WRITE of the task, read back by
                the handle; ``DEVNULL``; for ``stderr`` also ``STDOUT``.
            shell, cwd, umask, user, group, extra_groups, close_fds, restore_signals,
                start_new_session: as in Popen.
            env: the whole environment; without it that of the workers: this process's when the
                Batch was made.
            encoding, errors: how output is decoded (and ``str`` input encoded): UTF-8, with
                backslashes for what is no UTF-8.
            text: ``False`` for output as bytes.  With it, ``universal_newlines`` or ``encoding``
                line ends are made ``\\n``, as by Popen; without any they stay what they are.
            process_group: the task has a group of its own in any case, so 0 changes nothing.
            bufsize: nothing to buffer, as there is no pipe.
            preexec_fn, pass_fds, pipesize, startupinfo, creationflags: refused.
            callback_func, callback_args, reads, writes: as in ``function``.
            name: shown in messages beside the uid; without it the program's.
            check: ``False`` makes any exit code a result.  A signal is a failure still.
            options: further ones of ``function``.

        Raises:
            FileNotFoundError: there is no such program; the error names it and the PATH.
                A path in ``reads`` may be made by an earlier task.
            PermissionError: the program may not be executed.
            UsageError: an argument cannot be honoured in a worker; says what to do instead.
            TypeError: an argument is no text.

        Cost: 15 us here; 0.1 ms in the worker beside what the program takes.

        Example:
            >>> from alamo import Batch
            >>> with Batch(num_workers=1) as batch:
            ...     task = batch.process(["sort", "-r"], stdin=b"a\\nb\\n")
            ...     task.run(), task.stdout.get()
            (0, 'b\\na\\n')
        """
        check_options(
            bufsize, preexec_fn, pass_fds, startupinfo, creationflags, pipesize, process_group
        )
        streams = Redirections(stdin, stdout, stderr, reads, writes)
        form = text_form(text, universal_newlines, encoding, errors, streams)
        command, environment = _command(
            *(args, executable, shell, cwd, env, streams, form),
            check=check,
            close_fds=close_fds,
            restore_signals=restore_signals,
            new_session=start_new_session,
            umask=umask,
            identity=identity_of(user, group, extra_groups),
        )
        call = self.function(
            *(executables.run, *_arguments(command, streams.stdin, environment)),
            callback_func=callback_func,
            callback_args=callback_args,
            reads=streams.reads,
            writes=streams.writes,
            name=name if name is not None else _name(command),
            **options,
        )
        return _as_process(call, form)


def _command(
    args: Any,
    executable: Any,
    shell: bool,
    cwd: Any,
    env: Mapping[Any, Any] | None,
    streams: Redirections,
    form: OutputForm,
    **rest: Any,
) -> tuple[Command, Mapping[str, Any] | None]:
    """The command without its environment, and that."""
    argv, line = _argv(args, shell)
    program = argv[0] if executable is None else executable
    if shell:
        argv = (program, *argv[1:])
    where = cwd if cwd is None or isinstance(cwd, AsyncDict) else absolute_path(cwd, os.getcwd)
    environment = check_environment(env)
    command = Command(
        argv=argv,
        program=find_program(program, where, environment, streams.reads),
        line=line,
        cwd=where,
        stdin_path=streams.stdin_path,
        stdout=streams.stdout,
        stderr=streams.stderr,
        form=form,
        **rest,
    )
    return command, environment


def _as_process(call: Any, form: OutputForm) -> _Process:
    call.options = own_process(call.options)
    task = _Process(*msgspec.structs.astuple(call))
    task.form = form
    return task


def _arguments(command: Command, stdin: Any, env: Any) -> tuple[Any, ...]:
    """Those of the task's function: what may be large travels beside the command."""
    if env is not None:
        return command, stdin, env
    return (command,) if stdin is None else (command, stdin)


def _argv(args: Any, shell: bool) -> tuple[tuple[Any, ...], str | None]:
    """The arguments, and what the user gave if it was one text."""
    line = None
    if isinstance(args, (str, bytes, os.PathLike)):
        line = os.fsdecode(args)
        args = (args,)
    elif isinstance(args, AsyncDict):
        args = (args,)
    try:
        argv = tuple([as_argument(part) for part in args])
    except TypeError as error:
        raise TypeError(f"args of process: {error}") from None
    if not argv:
        raise UsageError("args of process is empty; give at least the program")
    return ((_SHELL, "-c", *argv) if shell else argv), line


def as_argument(part: Any) -> Any:
    """An argument of a program, checked: text, or a handle to become one."""
    if isinstance(part, AsyncDict):
        return part
    if not isinstance(part, (str, bytes, os.PathLike)):
        raise TypeError(
            f"an argument is str, bytes, a path or a handle of another task, not "
            f"{type(part).__qualname__} ({part!r:.80}); numbers are given as text: str(...)"
        )
    text = os.fspath(part)
    if (b"\0" if isinstance(text, bytes) else "\0") in text:
        raise ValueError(f"an argument of a program, {text!r:.80}, holds a null byte")
    return text


def _name(command: Command) -> str | None:
    """What messages call the task: its program, or the first word of its command line."""
    line = command.line
    first = line.split(None, 1)[0] if line and line.strip() else command.argv[0]
    if isinstance(first, AsyncDict):
        return None
    return os.path.basename(os.fsdecode(first)) or None
