"""Finding the program that a command names, and saying why one cannot be run.

The client looks before anything runs, a worker when it runs it: by then an earlier task may
have made the program, or removed it.
"""

from __future__ import annotations

import errno
import os
import reprlib
import stat
from collections.abc import Mapping
from typing import Any


def search_path(env: Mapping[Any, Any] | None) -> str:
    """The PATH of an environment, as Popen takes it; ``None`` is that of this process."""
    if env is None:
        return os.environ.get("PATH", os.defpath)
    return os.fsdecode(env.get("PATH", os.defpath))


def find(name: str, cwd: str, path: str) -> str:
    """The file that a program's name means.

    Args:
        name: a path, taken from ``cwd``, or a name to be looked for in the directories of ``path``.
        cwd: where the program will run.
        path: directories between colons.

    Raises:
        FileNotFoundError: there is none; the error names it and what was searched.
        PermissionError: it may not be run, or is a directory.

    Cost: 3 us, and 1 us for each directory that is searched.
    """
    if "/" in name:
        return check(os.path.join(cwd, name))
    candidates = [os.path.join(cwd, part, name) for part in path.split(os.pathsep)] if name else []
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    for candidate in candidates:
        if os.path.isfile(candidate):
            return check(candidate)
    hint = "; to run a command line give a list of arguments, or shell=True" if " " in name else ""
    raise FileNotFoundError(errno.ENOENT, f"there is no such program in PATH ({path}){hint}", name)


def _problem_with(file: str) -> type[OSError] | None:
    """The class of the error that running this file gives, as far as can be seen from outside."""
    try:
        mode = os.stat(file).st_mode
    except PermissionError:
        return PermissionError
    except OSError:
        return FileNotFoundError
    if stat.S_ISREG(mode) and os.access(file, os.X_OK):
        return None
    return PermissionError


def check(file: str) -> str:
    """The file itself, if it can be run.

    Raises:
        FileNotFoundError, PermissionError: it cannot.
    """
    problem = _problem_with(file)
    if problem is FileNotFoundError:
        raise FileNotFoundError(
            errno.ENOENT,
            "there is no such program; if an earlier task makes it, say so: reads=batch.read(path)",
            file,
        )
    if problem is PermissionError:
        what = "it is a directory" if os.path.isdir(file) else "try chmod +x"
        raise PermissionError(errno.EACCES, f"the program may not be executed: {what}", file)
    return file


def start_error(error: OSError, program: str, argv: tuple[Any, ...]) -> OSError:
    """What is to be said of a program that the system did not start."""
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
        try:
            check(program)
        except OSError as problem:
            return problem
        interpreter = _interpreter(program)
        text = f"{os.strerror(number)}: the program is there, but not what runs it"
        if interpreter:
            text += f": its first line names {interpreter}"
    elif number == errno.ENOEXEC:
        text = (
            "the file is no program of this machine, and no script: the first line of one "
            f"names what runs it, such as #!/bin/sh; or run ['sh', {program!r}]"
        )
    elif number == errno.E2BIG:
        text = (
            f"{len(argv)} arguments and the environment are longer than the system takes; "
            f"give them through stdin or a file ({reprlib.repr(argv)})"
        )
    else:
        text = f"{os.strerror(number)}: the system did not start the program"
    return OSError(number, text, program)


def _interpreter(program: str) -> str:
    try:
        with open(program, "rb") as file:
            line = file.readline(256)
    except OSError:
        return ""
    return os.fsdecode(line[2:].strip()) if line.startswith(b"#!") else ""
