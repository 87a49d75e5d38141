"""Parts of the stores over Valkey that need no server: addresses, records, buckets."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alamo.errors import UsageError

redis = pytest.importorskip("redis")

from alamo.data.valkey import parts, records  # noqa: E402
from alamo.data.valkey.address import Address  # noqa: E402
from alamo.data.valkey.buckets import Buckets  # noqa: E402

# -- addresses -----------------------------------------------------------------------------


def test_a_url_taken_apart() -> None:
    address = Address.parse("valkey://me:p%40ss@host:7000/3?wait_replicas=2&socket_timeout=5")
    assert (address.hosts, address.db, address.wait_replicas) == ((("host", 7000),), 3, 2)
    arguments = address.connection()
    assert (arguments["username"], arguments["password"]) == ("me", "p@ss")
    assert arguments["socket_timeout"] == 5
    assert "ssl" not in arguments


def test_hosts_of_a_cluster() -> None:
    address = Address.parse("redis://:secret@a:1,b:2,[::1]:3,d?cluster=1")
    assert address.hosts == (("a", 1), ("b", 2), ("::1", 3), ("d", 6379))
    assert address.cluster is True
    assert Address.parse("valkey://").hosts == (("localhost", 6379),)


def test_tls() -> None:
    arguments = Address.parse(
        "valkeys://host?ssl_ca_certs=/ca.pem&ssl_check_hostname=0"
    ).connection()
    assert arguments["ssl"] is True
    assert (arguments["ssl_ca_certs"], arguments["ssl_check_hostname"]) == ("/ca.pem", False)
    with pytest.raises(UsageError, match="valkeys://"):
        Address.parse("valkey://host?ssl_ca_certs=/ca.pem")


def test_a_socket() -> None:
    address = Address.parse("unix:///run/my%20server.sock?db=2")
    assert (address.hosts, address.db) == ((), 2)
    assert address.connection()["unix_socket_path"] == "/run/my server.sock"
    with pytest.raises(UsageError, match="path of a socket"):
        Address.parse("unix://")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://host", "valkey://"),
        ("host:6379", "valkey://"),
        ("valkey://:secret@host/x", "'?x"),
        ("valkey://:secret@host:port", "[Pp]ort"),
        ("valkey://:a/secret@host", "%2F"),
        ("valkey://:a#secret@host", "%23"),
        ("valkey://:a?secret@host", "%3F"),
        ("valkey://:secret@host?wait_replicas=-1", "-1"),
        ("valkey://:secret@host?cluster=yes", "0 or 1"),
        ("valkey://:secret@host?pasword_file=x", "unknown option pasword_file"),
    ],
)
def test_what_is_no_url_is_refused_without_its_password(url: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


def test_a_password_does_not_show() -> None:
    address = Address.parse("valkey://me:secret@host:1/0?socket_timeout=3")
    assert address.place == "valkey://host:1/0"
    assert "secret" not in repr(address) + str(address) + f"{address.__dict__['place']}"


def test_a_password_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret\n")
    path.chmod(0o600)
    address = Address.parse(f"valkey://host?password_file={path}")
    assert address.connection()["password"] == "secret"
    assert "secret" not in repr(pickle.dumps(address.url))
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        address.connection()
    path.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        address.connection()


# -- records -------------------------------------------------------------------------------

VALUES: list[tuple[bytes, tuple[bytes, ...]]] = [
    (b"\x00abc", ()),
    (b"\x80" + b"x" * 5000, ()),
    (b"\x02", (b"y" * 100_000,)),
    (b"\x80head", (b"", b"z" * 70_000, b"1")),
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("ttl", [False, True])
def test_a_value_comes_back_from_its_record(value: Any, ttl: bool) -> None:
    head, buffers = value
    if records.is_plain(head, buffers) and not ttl:
        record = head
    else:
        record = records.joined(records.inline(records.body_of(head, buffers), ttl))
    assert records.reference_of(record) is None
    assert records.has_ttl(record) is ttl
    found, copies = records.value_of(record)
    assert (found, tuple(map(bytes, copies))) == value
    if head != b"\x02":  # of which bytes are made
        assert not any(memoryview(copy).readonly for copy in copies)


def test_tokens_tell_equal_values_apart() -> None:
    body = records.body_of(b"\x80", (b"x" * 100_000,))
    one, other = (records.joined(records.inline(body)) for _ in range(2))
    assert records.token_of(one) != records.token_of(other)
    assert one.startswith(records.token_of(one))
    assert records.token_of(b"\x00small") == b"\x00small"


def test_parts_are_of_one_size_and_make_up_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PART_BYTES", 1000)
    monkeypatch.setattr(parts, "PART_BYTES", 1000)
    buffers = (b"a" * 2500, b"", b"b" * 1479, b"c")
    body = records.body_of(b"\x80head", buffers)
    reference = records.new_reference(body)
    cut = [b"".join(pieces) for pieces in parts._cut(body.pieces)]
    assert [len(part) for part in cut[:-1]] == [1000] * (len(cut) - 1)
    assert reference.number == len(cut)
    assert reference.size == sum(map(len, cut))
    assert records.reference_of(records.in_parts(reference)) == reference
    found, copies = records.read_body(bytearray(b"".join(cut)))
    assert (found, tuple(map(bytes, copies))) == (b"\x80head", buffers)


# -- buckets -------------------------------------------------------------------------------


def test_keys_with_a_common_tag_lie_together() -> None:
    servers: Any = None
    buckets = Buckets(servers, "ddict", "id", 64)
    numbers = Counter(buckets.number_of(b"s%d" % key) for key in range(6400))
    assert len(numbers) == 64
    assert max(numbers.values()) < 200
    assert len({buckets.number_of(b"s{mesh}%d" % key) for key in range(100)}) == 1
    assert len({buckets.number_of(b"s{}%d" % key) for key in range(100)}) > 1
    assert len({buckets.number_of(b"s{%d" % key) for key in range(100)}) > 1


def test_without_the_client_the_error_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['redis'] = None\n"
        "from alamo import DDict, Queue\n"
        "for make in DDict, Queue:\n"
        "    try: make(url='valkey://localhost')\n"
        "    except ImportError as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert said.count("pip install 'alamo[valkey]'") == 2
