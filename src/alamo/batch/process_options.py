"""The parameters of Popen, as far as a worker can honour them, checked before anything runs."""

from __future__ import annotations

import codecs
import grp
import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alamo.batch.redirections import Redirections
from alamo.batch.results import AsyncDict
from alamo.core.access import FILES, DataAccess
from alamo.errors import UsageError
from alamo.protocol.commands import Identity
from alamo.protocol.output_form import PLAIN, OutputForm
from alamo.worker import programs

#: What the last environment was, and what became of it: one that many tasks share travels once.
_last_environment: tuple[dict[Any, Any], dict[str, Any]] = ({}, {})


def check_options(
    bufsize: Any,
    preexec_fn: Any,
    pass_fds: Any,
    startupinfo: Any,
    creationflags: Any,
    pipesize: Any,
    process_group: Any,
) -> None:
    """Refuse what cannot be honoured in a worker.

    Raises:
        UsageError: says which, and what to do instead.
        TypeError: ``bufsize`` is no number.
    """
    if not isinstance(bufsize, int):
        raise TypeError(f"bufsize is an integer, not {type(bufsize).__qualname__}")
    if preexec_fn is not None:
        raise UsageError(
            "preexec_fn would run in a copy of the worker, not of this process; use cwd=, env=, "
            "umask=, user=, start_new_session=, or a command line: "
            "process('ulimit -v 1000000; exec program', shell=True)"
        )
    if tuple(pass_fds):
        raise UsageError(
            "pass_fds: descriptors of this process are not those of the worker; give the paths of "
            "the files as arguments, or stdin=, stdout= and stderr= as paths"
        )
    if startupinfo is not None or creationflags:
        raise UsageError("startupinfo and creationflags are for Windows; leave them out")
    if pipesize not in (-1, None):
        raise UsageError("pipesize: output is captured without pipes, so none has a size")
    if process_group not in (None, 0):
        raise UsageError(
            f"process_group={process_group}: the task runs in a process group of its own, so that "
            "it can be ended; leave it out"
        )


def text_form(
    text: bool | None,
    universal_newlines: bool | None,
    encoding: str | None,
    errors: str | None,
    streams: Redirections | None,
    ranks: int = 0,
) -> OutputForm:
    """How the output is to be read.

    Args:
        streams: where it goes; ``None``: it is captured.
        ranks: of a job, how many write.

    Raises:
        UsageError: the parameters contradict each other.
        LookupError: there is no such encoding or error handler.
    """
    if text is not None and universal_newlines is not None and bool(text) != universal_newlines:
        raise UsageError("text and universal_newlines mean the same and differ; give one of them")
    wanted = text if text is not None else universal_newlines
    if wanted is not None and not wanted and (encoding or errors):
        raise UsageError("text=False gives bytes, so encoding= and errors= mean nothing with it")
    if encoding is not None:
        codecs.lookup(encoding)
    if errors is not None:
        codecs.lookup_error(errors)
    form = OutputForm(
        encoding or "utf-8",
        errors or "backslashreplace",
        wanted is None or bool(wanted),
        bool(wanted or encoding or errors),
        streams.stdout_path if streams is not None else "",
        streams.stderr_path if streams is not None else "",
        ranks,
    )
    return PLAIN if form == PLAIN else form


def check_environment(env: Mapping[Any, Any] | None) -> Mapping[str, Any] | None:
    """An environment as it is sent: plain texts, and handles among the values.

    Raises:
        TypeError, ValueError: something cannot be in an environment.
    """
    global _last_environment
    if env is None:
        return None
    given = dict(env)
    if given == _last_environment[0] and not any(isinstance(v, AsyncDict) for v in given.values()):
        return _last_environment[1]
    checked: dict[str, Any] = {}
    for key, value in given.items():
        try:
            variable = os.fsdecode(key)
            checked[variable] = value if isinstance(value, AsyncDict) else os.fsdecode(value)
        except TypeError:
            raise TypeError(
                f"env: names are texts, values texts, paths or handles, not {key!r}: {value!r:.80}"
            ) from None
        if not variable or "=" in variable or "\0" in variable:
            raise ValueError(f"env: {variable!r} cannot be the name of a variable")
        if isinstance(checked[variable], str) and "\0" in checked[variable]:
            raise ValueError(f"env: the value of {variable!r} holds a null byte")
    _last_environment = given, checked
    return checked


def identity_of(
    user: str | int | None, group: str | int | None, extra_groups: Iterable[str | int] | None
) -> Identity | None:
    """As whom the program runs; ``None`` for the user of the Batch.

    Raises:
        ValueError: there is no such user or group.
    """
    if user is None and group is None and extra_groups is None:
        return None
    try:
        return Identity(
            pwd.getpwnam(user).pw_uid if isinstance(user, str) else user,
            _group(group) if group is not None else None,
            tuple(map(_group, extra_groups)) if extra_groups is not None else None,
        )
    except KeyError as error:
        raise ValueError(f"user or group: {error.args[0]}") from None


def _group(group: str | int) -> int:
    return grp.getgrnam(group).gr_gid if isinstance(group, str) else group


def find_program(
    program: Any, cwd: Any, env: Mapping[Any, Any] | None, reads: Sequence[DataAccess]
) -> Any:
    """The file to run: absolute, or what is left to the worker to find.

    Args:
        cwd: the absolute directory that it will run in, a handle, or ``None`` for this one.
        reads: a program among these may be made by an earlier task.

    Raises:
        FileNotFoundError, PermissionError: it can be seen here that it cannot be run.
    """
    if isinstance(program, AsyncDict) or not isinstance(program, (str, bytes, os.PathLike)):
        return program  # known when it runs
    name = os.fsdecode(program)
    if isinstance(cwd, AsyncDict) and not name.startswith("/"):
        return name
    if "/" not in name and env is not None and isinstance(env.get("PATH"), AsyncDict):
        return name
    path = programs.search_path(env)
    base = cwd if cwd is not None else os.getcwd()
    if "/" in name:
        file = os.path.join(base, name)
        unknown = cwd is not None and not name.startswith("/") and not os.path.isdir(cwd)
        if unknown or _is_read(os.path.normpath(file), reads):
            return file
    return programs.find(name, base, path)


def _is_read(file: str, reads: Sequence[DataAccess]) -> bool:
    """Whether one of the accesses is of this file, or of a directory around it."""
    return any(
        file == channel or file.startswith(channel.rstrip("/") + "/")
        for access in reads
        if access.obj is FILES
        for channel in access.channels
    )
