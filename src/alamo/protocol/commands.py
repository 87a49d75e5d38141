"""What an executable is run with, as it travels to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from subprocess import DEVNULL, STDOUT
from types import MappingProxyType
from typing import Any

import msgspec

from alamo.protocol.output_form import PLAIN, OutputForm

__all__ = ["DEVNULL", "STDOUT", "Command", "Identity"]


class Identity(msgspec.Struct, frozen=True):
    """As whom an executable runs: numbers of users and groups, ``None`` for the worker's own."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """An executable to be run.

    Handles of other tasks may stand in ``argv``, in the values of ``env``, as ``cwd`` and as
    ``stdin``; by the time that a worker has the command they have become what they stand for.

    Attributes:
        argv: the program's arguments, its name first: str, bytes or handles.
        program: the file to run.  Without a slash it is looked for in the worker: what it is was
            not known before.
        line: what the user gave, if it was one string; errors show it instead of ``argv``.
        cwd: the directory to run in; ``None`` for that of the client.
        env: the whole environment; ``None`` for that of the worker.
        stdin: bytes or what a handle stands for; ``None`` for nothing.
        stdin_path: the file to read instead.
        stdout, stderr: path of a file, ``DEVNULL``, ``STDOUT`` (stderr alone), or ``None`` to be
            captured.
        form: how output is read; its encoding is that of ``stdin`` too.
        check: an exit code other than 0 is a failure.
        close_fds, restore_signals, new_session, umask: as in Popen; -1 is the worker's umask.
    """

    argv: tuple[Any, ...]
    program: Any
    line: str | None = None
    cwd: Any = None
    env: Mapping[Any, Any] | None = None
    stdin: Any = None
    stdin_path: str | None = None
    stdout: str | int | None = None
    stderr: str | int | None = None
    form: OutputForm = PLAIN
    check: bool = True
    close_fds: bool = True
    restore_signals: bool = True
    new_session: bool = False
    umask: int = -1
    identity: Identity | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what has its default: a tenth of the time to read it in the worker."""
        argv, program, *rest = msgspec.structs.astuple(self)
        given = {
            name: value
            for name, value, default in zip(_OPTIONAL, rest, _DEFAULTS, strict=True)
            if value is not default
        }
        return _command, (argv, program, given) if given else (argv, program)


_OPTIONAL = Command.__struct_fields__[2:]
_DEFAULTS = Command.__struct_defaults__


def _command(
    argv: tuple[Any, ...], program: Any, given: Mapping[str, Any] = MappingProxyType({})
) -> Command:
    return Command(argv=argv, program=program, **given)
