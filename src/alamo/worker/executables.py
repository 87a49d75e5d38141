"""The function of tasks that run an executable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from alamo.errors import ProcessFailed, UsageError
from alamo.protocol.commands import DEVNULL, STDOUT, Command
from alamo.protocol.shortening import read
from alamo.worker import child, programs
from alamo.worker.context import context

#: So much of the end of each stream is looked at for the lines that an error shows.
_TAIL_BYTES = 4096
_FILE_MODE = 0o666
#: Descriptors for stdin, stdout and stderr; and those of a worker.
Streams = tuple[int, int, int]
_WORKERS: Streams = (0, 1, 2)


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
        texts = None if env is None else {name: argument(value) for name, value in env.items()}
        command = msgspec.structs.replace(command, stdin=stdin, env=texts)
    argv = tuple([argument(value) for value in command.argv])
    cwd = None if command.cwd is None else os.fsdecode(command.cwd)
    program = _program(command, cwd)
    if context.worker >= 0 and _is_plain(command):
        return _code(command, program, argv, cwd, _WORKERS, _WORKERS)
    with ExitStack() as files:
        own = files.enter_context(own_streams())
        return _code(command, program, argv, cwd, _streams(command, own, files), own)


def _code(
    command: Command,
    program: str,
    argv: tuple[str | bytes, ...],
    cwd: str | None,
    fds: Streams,
    own: Streams,
) -> int:
    """That of the executable, which runs with ``fds``; a failure shows what ``own`` captured."""
    try:
        code = child.run(command, program, argv, cwd, fds, own[1:])
    except OSError as error:
        raise _why(error, program, argv, cwd) from None
    if code < 0 or (code and command.check):
        raise _failure(command, argv, code, own)
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
        f"what a program gets is text, a path or a number, but a handle gave {value!r}"[:300]
    )


# -- streams -----------------------------------------------------------------------------------


def _is_plain(command: Command) -> bool:
    """Whether nothing is said of its streams."""
    return (
        command.stdin is None
        and command.stdin_path is None
        and command.stdout is None
        and command.stderr is None
    )


@contextmanager
def own_streams() -> Iterator[Streams]:
    """Where nothing else is said: an empty stdin, and files that capture stdout and stderr.

    In a worker these are its own.  Elsewhere they are made, and what they hold goes to
    ``sys.stdout`` and ``sys.stderr``.
    """
    if context.worker >= 0:
        yield _WORKERS
        return
    with _opened(os.devnull, os.O_RDONLY) as null, _memory() as stdout, _memory() as stderr:
        try:
            yield null, stdout, stderr
        finally:
            for fd, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
                data = read(fd)
                buffer = getattr(stream, "buffer", None)
                if buffer is not None:
                    stream.flush()
                    buffer.write(data)
                else:
                    stream.write(data.decode("utf-8", "backslashreplace"))


@contextmanager
def _memory() -> Iterator[int]:
    fd = os.memfd_create("alamo-stream", os.MFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _streams(command: Command, own: Streams, files: ExitStack) -> Streams:
    """Descriptors for stdin, stdout and stderr of the child."""
    stdin = files.enter_context(_input(command, own[0]))
    stdout = _sink(command.stdout, own[1], files)
    if command.stderr == STDOUT or (
        isinstance(command.stderr, str) and command.stderr == command.stdout
    ):
        return stdin, stdout, stdout
    return stdin, stdout, _sink(command.stderr, own[2], files)


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
def _input(command: Command, empty: int) -> Iterator[int]:
    value: Any = command.stdin
    path = command.stdin_path
    if isinstance(value, os.PathLike):
        path, value = os.fsdecode(value), None
    if value is None:
        if path is None:
            yield empty
            return
        with _opened(path, os.O_RDONLY) as fd:
            yield fd
        return
    if isinstance(value, str):
        value = value.encode(command.form.encoding, "surrogateescape")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise UsageError(f"stdin is bytes, text or a path, but the handle gave {value!r}"[:300])
    with _memory() as fd:
        rest = memoryview(value).cast("B")
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd


# -- failures ----------------------------------------------------------------------------------


def _failure(
    command: Command, argv: tuple[str | bytes, ...], code: int, own: Streams
) -> ProcessFailed:
    """The error, with the last lines of both streams; the client puts all that is kept there."""
    stdout = _tail(command.stdout, own[1])
    stderr = "" if command.stderr == STDOUT else _tail(command.stderr, own[2])
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
