"""Where a Valkey or Redis is, how to be let in, and what of that may be shown.

    valkey://user:password@host:port/db        redis:// means the same
    valkeys://host1:port,host2:port            over TLS, as rediss://; several hosts of a cluster,
                                               of which any that answers tells the rest
    unix:///path/of/socket?db=0

Options, behind ``?`` and between ``&``:

    password_file=PATH   a file with the password in it, readable for nobody but its owner
    cluster=1            it is a cluster (0: it is none) instead of asking it
    wait_replicas=N      a change is done only when N replicas have it, see ``Servers.write``
    socket_timeout=S     seconds in which a server must answer, 30 unless told
    ssl_ca_certs=PATH    ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname: as redis-py's
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from alamo.errors import DataStoreError, UsageError

__all__ = ["SCHEMES", "Address"]

SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix")
_TLS = ("valkeys", "rediss")
_PORT = 6379
_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5.0
_TEXT_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_OPTIONS = (
    "password_file",
    "cluster",
    "db",
    "wait_replicas",
    "socket_timeout",
    "ssl_check_hostname",
    *_TEXT_OPTIONS,
)


@dataclass(frozen=True, repr=False)
class Address:
    """A URL, taken apart.  Made by :meth:`parse`.

    Attributes:
        url: as it was given.  It is what a handle carries, with the password when that is in it;
            with ``password_file`` only the path travels, and each process reads the file.
        place: the URL without password and options, for messages.
        hosts: host and port of each; empty with a socket.
        socket_path: of a Unix socket, or empty.
        cluster: whether it is one; ``None``: it is asked.
        wait_replicas: how many replicas must have a change before it is done.
    """

    url: str
    place: str
    hosts: tuple[tuple[str, int], ...]
    socket_path: str
    cluster: bool | None
    wait_replicas: int
    db: int
    username: str | None
    password: str | None = field(repr=False)
    password_file: str | None
    options: dict[str, Any] = field(hash=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a URL apart.

        Raises:
            UsageError: it is none of these forms; the password is not repeated.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise UsageError(
                f"the URL of a server begins with {', '.join(f'{s}://' for s in SCHEMES)}; "
                f"this one with {parts.scheme!r}"
            )
        is_socket = parts.scheme == "unix"
        if not is_socket and "@" in parts.path + parts.query + parts.fragment:
            raise UsageError(
                f"the {parts.scheme}:// URL has an @ behind its host: in a user or password write "
                "@ / ? # : as %40 %2F %3F %23 %3A"
            )
        login, _, hosts = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        place = f"{parts.scheme}://{hosts}{parts.path}"
        unknown = sorted(given.keys() - set(_OPTIONS))
        if unknown:
            raise UsageError(
                f"{place}: unknown option {', '.join(unknown)}; there are {', '.join(_OPTIONS)}"
            )
        if is_socket and not parts.path:
            raise UsageError("unix:// wants the path of a socket, as in unix:///run/valkey.sock")
        try:
            return cls(
                url=url,
                place=place,
                hosts=() if is_socket else _hosts(hosts),
                socket_path=unquote(parts.path) if is_socket else "",
                cluster=_flag(given["cluster"]) if "cluster" in given else None,
                wait_replicas=_natural(given.get("wait_replicas", "0")),
                db=_natural(given.get("db") or ("" if is_socket else parts.path.strip("/")) or "0"),
                username=unquote(username) or None,
                password=unquote(password) or None,
                password_file=given.get("password_file"),
                options=_options(parts.scheme, given),
            )
        except ValueError as error:
            raise UsageError(f"{place}: {error}") from None

    @property
    def key(self) -> str:
        """What tells two addresses apart whose connections cannot be shared."""
        return self.url

    def connection(self) -> dict[str, Any]:
        """Arguments of a redis-py client, but for host and port.

        Raises:
            UsageError: the password's file cannot be read, or others can read it.
        """
        arguments = {
            "username": self.username,
            "password": self.password,
            **self.options,
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "socket_read_size": 1 << 18,
            "protocol": 2,  # a waiter reads what is published as plain replies
        }
        if self.password_file is not None:
            arguments["password"] = _read_password(self.password_file)
        if self.socket_path:
            arguments["unix_socket_path"] = self.socket_path
            del arguments["socket_keepalive"]
        return arguments

    def __repr__(self) -> str:
        return f"Address({self.place})"


def _hosts(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for host in (text or "localhost").split(","):
        parts = urlsplit(f"//{host}")
        found.append((unquote(parts.hostname or "localhost"), parts.port or _PORT))
    return tuple(found)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"an option that is 0 or 1 is {quote(text)}")
    return text == "1"


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{quote(text)} is no number from 0 on")
    return int(text)


def _options(scheme: str, given: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": float(given.get("socket_timeout", _TIMEOUT_S))}
    if scheme in _TLS:
        options["ssl"] = True
        options.update({name: given[name] for name in _TEXT_OPTIONS if name in given})
        if "ssl_check_hostname" in given:
            options["ssl_check_hostname"] = _flag(given["ssl_check_hostname"])
    elif any(name.startswith("ssl_") for name in given):
        raise ValueError("options of TLS belong to valkeys:// or rediss://")
    return options


def _read_password(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"the password file {path} cannot be read: {error.strerror}") from None
    with os.fdopen(fd, encoding="utf-8") as file:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077:
            raise UsageError(
                f"the password file {path} can be read by others (mode "
                f"{stat.S_IMODE(state.st_mode):o}): chmod 600 {path}"
            )
        password = file.read().rstrip("\r\n")
    if not password:
        raise DataStoreError(f"the password file {path} is empty")
    return password
