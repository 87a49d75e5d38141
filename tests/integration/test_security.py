"""Who is let in: processes of the same user that know the secret, and nobody else."""

from __future__ import annotations

import array
import os
import pickle
import socket
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _faults as f
import pytest

from alamo import AuthenticationFailed, Batch, BatchBroken, UsageError
from alamo.batch.registration import connect
from alamo.errors import ProtocolError
from alamo.manager.door import STRANGERS_MAX
from alamo.protocol import auth
from alamo.protocol import messages as msg
from alamo.protocol.framing import MessageReader, encode

NOBODY = 65534


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    """One for all: whatever strangers do to it, the next test finds it in good health."""
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        assert healthy(batch)  # its worker is there: descriptors are counted below
        yield batch


def address_of(batch: Batch) -> str:
    return str(batch._client.address)


def memory_of(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Stranger:
    """A process that knows the path and speaks for itself."""

    def __init__(self, address: str) -> None:
        self.sock = connect(address)
        self.sock.settimeout(f.WAIT_S)
        self._reader: MessageReader[Any] = MessageReader(msg.ToClient)

    def next(self) -> Any:
        """The manager's next message; ``None`` when it has hung up."""
        while True:
            for message in self._reader.messages():
                return message
            try:
                if not self._reader.receive(self.sock):
                    return None
            except ConnectionResetError:
                return None

    def hello(self, secret: bytes, version: int = msg.VERSION) -> msg.Hello:
        challenge = self.next()
        assert isinstance(challenge, msg.Challenge)
        proof = auth.proof(secret, b"client", challenge.nonce)
        return msg.Hello(version, proof, auth.make_secret(), os.getpid())

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def secret_of(batch: Batch) -> bytes:
    return Path(batch._client.secret_path).read_bytes()


def healthy(batch: Batch) -> bool:
    return batch.function(f.double, 4).run(timeout=f.WAIT_S) == 8


# -- files -----------------------------------------------------------------------------------


def test_modes_of_files(batch: Batch) -> None:
    directory = Path(address_of(batch)).parent
    for path in (directory, directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (Path(batch._client.secret_path), Path(address_of(batch)), directory / "lock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_uid == os.getuid()
    assert len(secret_of(batch)) == 32


def test_modes_hold_under_any_umask(tmp_path: Path) -> None:
    code = """
    import os, sys
    os.umask(0)
    from pathlib import Path
    from alamo import Batch
    if __name__ == "__main__":
        with Batch(num_workers=1) as batch:
            address = Path(batch._client.address)
            for path in (address, address.parent, address.parent.parent, address.parent / "secret"):
                print(oct(path.stat().st_mode & 0o777))
    """
    with f.Script(code) as client:
        assert [client.line() for _ in range(4)] == ["0o600", "0o700", "0o700", "0o600"]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime root of its own, with a short path."""
    with tempfile.TemporaryDirectory(prefix="al-", dir="/tmp") as root:
        monkeypatch.setenv("ALAMO_RUNTIME_DIR", root)
        yield Path(root)


def test_somebody_elses_directory_is_refused(root: Path, tmp_path: Path) -> None:
    """A directory that others may enter, that is a link, or that belongs to another user."""
    place = root / f"alamo-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(UsageError, match="not a private directory"):
        Batch(num_workers=1)
    place.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not a private directory"):
        Batch(num_workers=1)
    place.unlink()
    if os.getuid() == 0:
        place.mkdir(mode=0o700)
        os.chown(place, NOBODY, NOBODY)
        with pytest.raises(UsageError, match="not a private directory"):
            Batch(num_workers=1)


# -- other users -------------------------------------------------------------------------------

OTHER_USER = """
import os, pickle, socket, sys
import alamo.batch.batch, _faults
from alamo.protocol.framing import MessageReader
from alamo.protocol import messages as msg
address, pickled = sys.argv[1:]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    pickle.loads(bytes.fromhex(pickled))
except Exception as error:
    print(type(error).__name__, error)
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(address)
    reader = MessageReader(msg.ToClient)
    while reader.receive(sock):
        for message in reader.messages():
            print(type(message).__name__, *getattr(message, "__struct_fields__"), message)
    print("closed")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("loosened", [False, True])
def test_another_user_cannot_connect(loosened: bool, root: Path) -> None:
    """Also when somebody has opened the directory and the socket to all."""
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        path = Path(address_of(batch))
        if loosened:
            for part in (path.parent, path.parent.parent, root):
                part.chmod(0o777)
            path.chmod(0o777)
            (path.parent / "secret").chmod(0o666)
        with f.Script(OTHER_USER, path, pickle.dumps(batch).hex()) as other:
            lines = other.rest()
        if loosened:
            assert "another user" in lines[0]
            assert "Refused" in lines[1]
            assert "another user" in lines[1]
            assert lines[2:] == ["closed"]
        else:
            assert "no manager answers" in lines[0]
            assert lines[1:] == ["PermissionError"]
        assert healthy(batch)


# -- the secret --------------------------------------------------------------------------------


class Bomb:
    """Notes it when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return f.note, (self.path, "unpickled")


def test_nothing_is_unpickled_from_strangers(batch: Batch, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    bomb = pickle.dumps(Bomb(log))
    for blob in (bomb, struct.pack("<I", len(bomb)) + bomb, encode(msg.FunctionDefined(0, bomb))):
        with Stranger(address_of(batch)) as stranger:
            stranger.sock.sendall(blob)
            while (message := stranger.next()) is not None:
                assert isinstance(message, msg.Challenge | msg.Refused)
    assert healthy(batch)
    assert not f.notes(log)


@pytest.mark.parametrize("secret", [b"", b"x" * 32])
def test_wrong_proof(batch: Batch, secret: bytes) -> None:
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret)))
        refused = stranger.next()
        assert isinstance(refused, msg.Refused)
        assert "secret" in refused.reason
        assert stranger.next() is None
    assert healthy(batch)


def test_proof_of_another_connection_is_worth_nothing(batch: Batch) -> None:
    with Stranger(address_of(batch)) as one, Stranger(address_of(batch)) as two:
        hello = one.hello(secret_of(batch))
        two.sock.sendall(encode(hello))
        assert isinstance(two.next(), msg.Challenge)
        assert isinstance(two.next(), msg.Refused)
        one.sock.sendall(encode(hello))
        assert isinstance(one.next(), msg.Welcome)


def test_work_before_the_proof_is_refused(batch: Batch) -> None:
    for first in (msg.Opened(0, b"/"), msg.TerminateAsked(), msg.Closed(), msg.JoinAsked()):
        with Stranger(address_of(batch)) as stranger:
            stranger.sock.sendall(encode(first))
            assert isinstance(stranger.next(), msg.Challenge)
            assert isinstance(stranger.next(), msg.Refused)
            assert stranger.next() is None
    assert healthy(batch)


def test_wrong_version(batch: Batch) -> None:
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret_of(batch), msg.VERSION + 1)))
        refused = stranger.next()
        assert isinstance(refused, msg.Refused)
        assert f"version {msg.VERSION + 1}" in refused.reason
    assert healthy(batch)


def test_second_client_cannot_end_the_service(batch: Batch) -> None:
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret_of(batch))))
        assert isinstance(stranger.next(), msg.Welcome)
        stranger.sock.sendall(encode(msg.TerminateAsked()) + encode(msg.JoinAsked()))
        assert healthy(batch)


GARBAGE = {
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "huge frame": struct.pack("<I", 0xFFFF_FFFF) + b"x" * 1000,
    "large frame": struct.pack("<I", 0xFFFE_0000) + b"x" * 1000,
    "frame of a stranger's size": struct.pack("<I", 5000) + b"x" * 5000,
    "no message": struct.pack("<I", 3) + b"\x93\x01\x02",
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "deep": struct.pack("<I", 4000) + b"\x91" * 4000,
    "of another direction": encode(msg.Welcome(0, b"", "", "", "", 0, 0, 0)),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(batch: Batch, name: str) -> None:
    manager = f.manager_of(batch)
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(GARBAGE[name])
        assert isinstance(stranger.next(), msg.Challenge)
        while (message := stranger.next()) is not None:
            assert isinstance(message, msg.Refused)
    assert healthy(batch)
    assert memory_of(manager) < 200e6


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_from_somebody_who_was_let_in(batch: Batch, name: str) -> None:
    """It loses its connection; the others notice nothing."""
    if name in ("large frame", "text"):
        pytest.skip("the beginning of a message as it may come from a client")
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret_of(batch))))
        assert isinstance(stranger.next(), msg.Welcome)
        stranger.sock.sendall(GARBAGE[name])
        assert stranger.next() is None
    assert healthy(batch)


NONSENSE: list[msg.Message] = [
    msg.Page(7, 1, 0, b"", b""),
    msg.Started(7),
    msg.Sealed(7),
    msg.Dropped(7),
    msg.BlocksReleased([1, 2, 3]),
    msg.BlocksGone([1, 2, 3]),
    msg.Blocked(True),
    msg.BlockMade(1, 10),
    msg.ObjectDefined(7, 0, b""),
    msg.Hello(1, b"", b"", 0),
]


def test_nonsense_from_somebody_who_was_let_in(batch: Batch) -> None:
    """Messages about things that do not exist, or that do not fit together."""
    opened = [msg.Opened(0, b"/"), msg.FunctionDefined(0, b"nonsense")]
    pages = [
        msg.Page(0, 3, 5, b"", b""),
        msg.Page(0, 3, 0, b"123", b""),
        msg.Page(0, 3, b"12", bytes(12), b""),
        msg.Page(0, 3, 0, bytes(12), b"", pred_ends=b"123"),
        msg.Page(0, 3, 0, bytes(12), b"", pred_ends=struct.pack("3I", 1, 1, 3), preds=bytes(4)),
        msg.Page(0, 3, 0, b"\x01\x00\x00\x00" * 3, b"abc"),
    ]
    rounds = [[message] for message in NONSENSE]
    rounds += [[*opened, page, msg.Started(0)] for page in pages]
    for messages in rounds:
        with Stranger(address_of(batch)) as stranger:
            stranger.sock.sendall(encode(stranger.hello(secret_of(batch))))
            assert isinstance(stranger.next(), msg.Welcome)
            stranger.sock.sendall(b"".join(map(encode, messages)))
        assert healthy(batch), messages


def test_descriptors_from_strangers_are_closed(batch: Batch) -> None:
    manager = f.manager_of(batch)
    before = descriptors_of(manager)
    with open(os.devnull, "rb") as file:
        for _ in range(20):
            with Stranger(address_of(batch)) as stranger:
                fds = array.array("i", [file.fileno()] * 50)
                stranger.sock.sendmsg(
                    [b"abc"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds.tobytes())]
                )
                while stranger.next() is not None:
                    pass
    assert healthy(batch)
    f.until(lambda: descriptors_of(manager) <= before)


def test_silent_strangers(batch: Batch) -> None:
    """Any number of connections that say nothing: memory and descriptors stay bounded."""
    manager = f.manager_of(batch)
    before, memory = descriptors_of(manager), memory_of(manager)
    strangers = [Stranger(address_of(batch)) for _ in range(3 * STRANGERS_MAX)]
    for stranger in strangers:
        stranger.sock.setblocking(False)
        try:
            stranger.sock.sendall(struct.pack("<I", 4000) + bytes(100))
        except OSError:  # turned away already
            pass
    assert healthy(batch)
    again = pickle.loads(pickle.dumps(batch))
    assert healthy(again)
    again._leave()
    f.until(lambda: descriptors_of(manager) <= before + STRANGERS_MAX + 3)
    # A receive buffer for each that has ever come, if none has been turned away yet: 100 MB.
    assert memory_of(manager) < memory + 200e6
    for stranger in strangers:
        stranger.sock.close()
    f.until(lambda: descriptors_of(manager) <= before)


def test_strangers_that_say_nothing_are_sent_away() -> None:
    """After a while; here is a Batch with a shorter one."""
    batch = f.changed_batch("import alamo.manager.door as d; d.PROOF_S = 2.0")
    with f.ended(batch), Stranger(address_of(batch)) as stranger:
        assert isinstance(stranger.next(), msg.Challenge)
        begin = time.monotonic()
        assert isinstance(stranger.next(), msg.Refused)
        assert stranger.next() is None
        assert time.monotonic() - begin < f.WAIT_S


# -- false managers ------------------------------------------------------------------------------


class FalseManager(threading.Thread):
    """Answers at the address of a Batch that has ended, with what it was given to say."""

    def __init__(self, address: str, say: list[msg.Message]) -> None:
        super().__init__(daemon=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._listener.settimeout(f.PATIENCE_S)
        self._say = say
        self.start()

    def run(self) -> None:
        sock, _ = self._listener.accept()
        with sock, self._listener:
            sock.settimeout(f.WAIT_S)
            for message in self._say:
                sock.sendall(encode(message))
                try:
                    if not sock.recv(4096):
                        return
                except OSError:
                    return


WELCOME = msg.Welcome(1, b"x" * 32, "a", "b", "host", 1, 1, 4)
CHALLENGE = msg.Challenge(b"n" * 32)
FALSE = {
    "no proof": [CHALLENGE, WELCOME],
    "no challenge": [WELCOME],
    "results at once": [msg.Results(0, 0, b"", b"", pickle.dumps(Bomb("/tmp/alamo-bomb")))],
    "results then": [CHALLENGE, msg.Results(0, 0, b"", b"", b"")],
    "refused": [msg.Refused("for fun")],
    "silence": [],
}


@pytest.mark.parametrize("name", FALSE)
def test_false_manager_is_detected(root: Path, name: str) -> None:
    with Batch(num_workers=1) as batch:
        state = batch.__getstate__()
    directory = Path(state["address"]).parent
    directory.mkdir(mode=0o700)
    Path(state["secret_path"]).write_bytes(b"s" * 32)
    false = FalseManager(state["address"], FALSE[name])
    with pytest.raises((AuthenticationFailed, BatchBroken, ProtocolError)):
        Batch.__new__(Batch).__setstate__(state)
    false.join(f.PATIENCE_S)


def test_secret_that_cannot_be_read(batch: Batch) -> None:
    path = Path(batch._client.secret_path)
    path.rename(path.with_name("hidden"))
    with pytest.raises(AuthenticationFailed, match="secret"):
        pickle.loads(pickle.dumps(batch))
    path.with_name("hidden").rename(path)
    again = pickle.loads(pickle.dumps(batch))
    assert healthy(again)
    again._leave()
