"""The function of tasks that run an executable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from alamo.errors import ProcessFailed, UsageError
from alamo.protocol.commands import DEVNULL, STDOUT, Command
from alamo.worker import child, programs

#: So much of the end of each stream is looked at for the lines that an error shows.
_TAIL_BYTES = 4096
_FILE_MODE = 0o666


def run(command: Command, stdin: Any = None, env: Mapping[Any, Any] | None = None) -> int:
    """Run an executable to its end.

    Args:
        stdin, env: those of the command, where they travel beside it because they may be large.

    Returns:
        Its exit code: 0, unless the command says that any is a result.

    Raises:
        ProcessFailed: it failed.
        OSError: it could not be started, or a file of its streams not be opened.
    """
    if stdin is not None or env is not None:
        command = msgspec.structs.replace(command, stdin=stdin, env=env)
    argv = tuple([argument(value) for value in command.argv])
    cwd = None if command.cwd is None else os.fsdecode(command.cwd)
    program = _program(command, cwd)
    with ExitStack() as files:
        fds = _streams(command, files)
        try:
            code = child.run(command, program, argv, cwd, fds)
        except OSError as error:
            raise _why(error, program, argv, cwd) from None
        if code < 0 or (code and command.check):
            raise _failure(command, argv, code)
    return code


def _program(command: Command, cwd: str | None) -> str:
    """The file to run; as Popen does, a name with a slash is taken from the child's directory."""
    program = os.fsdecode(argument(command.program))
    if program.startswith("/"):
        return program
    return programs.find(program, cwd or os.getcwd(), programs.search_path(command.env))


def _why(error: OSError, program: str, argv: tuple[Any, ...], cwd: str | None) -> OSError:
    if cwd is not None and not os.path.isdir(cwd):
        return OSError(error.errno, "the directory to run in (cwd=) is not there", cwd)
    return programs.start_error(error, program, argv)


def argument(value: Any) -> str | bytes:
    """An argument of the program; what a handle stood for may be a number."""
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, os.PathLike):
        path: str | bytes = os.fspath(value)
        return path
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise UsageError(
        f"an argument of a program is text, a path or a number, but a handle gave {value!r}"[:300]
    )


# -- streams -----------------------------------------------------------------------------------


def _streams(command: Command, files: ExitStack) -> tuple[int, int, int]:
    """Descriptors for stdin, stdout and stderr of the child."""
    stdin = files.enter_context(_input(command))
    stdout = _sink(command.stdout, child.streams[1], files)
    if command.stderr == STDOUT or (
        isinstance(command.stderr, str) and command.stderr == command.stdout
    ):
        return stdin, stdout, stdout
    return stdin, stdout, _sink(command.stderr, child.streams[2], files)


def _sink(where: str | int | None, captured: int, files: ExitStack) -> int:
    if where is None:
        return captured
    if where == DEVNULL:
        return files.enter_context(_opened(os.devnull, os.O_WRONLY))
    path = str(where)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return files.enter_context(_opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _input(command: Command) -> Iterator[int]:
    value: Any = command.stdin
    path = command.stdin_path
    if isinstance(value, os.PathLike):
        path, value = os.fsdecode(value), None
    if value is None:
        if path is None:
            yield child.streams[0]
            return
        with _opened(path, os.O_RDONLY) as fd:
            yield fd
        return
    if isinstance(value, str):
        value = value.encode(command.form.encoding, "surrogateescape")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise UsageError(f"stdin is bytes, text or a path, but the handle gave {value!r}"[:300])
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        rest = memoryview(value).cast("B")
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


# -- failures ----------------------------------------------------------------------------------


def _failure(command: Command, argv: tuple[str | bytes, ...], code: int) -> ProcessFailed:
    """The error, with the last lines of both streams; the client puts all that is kept there."""
    stdout = _tail(command.stdout, child.streams[1])
    stderr = "" if command.stderr == STDOUT else _tail(command.stderr, child.streams[2])
    cmd = command.line or [os.fsdecode(part) for part in argv]
    return ProcessFailed(code, cmd, stdout, stderr)


def _tail(where: str | int | None, captured: int) -> str:
    if where is None:
        return _end_of(captured)
    if not isinstance(where, str):
        return ""
    try:
        with _opened(where, os.O_RDONLY) as fd:
            return _end_of(fd)
    except OSError:  # the program removed it
        return ""


def _end_of(fd: int) -> str:
    size = os.fstat(fd).st_size
    data = os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return data.decode("utf-8", "backslashreplace")
