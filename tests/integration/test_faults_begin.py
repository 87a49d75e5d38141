"""The beginning: odd directories, many clients at once, a manager that does not answer."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import _faults as f
import pytest
from test_security import Stranger, address_of, secret_of

from alamo import BatchBroken
from alamo.batch import registration
from alamo.protocol import messages as msg
from alamo.protocol.framing import encode


def test_a_manager_that_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, with as many waiting as the system lets wait."""
    monkeypatch.setattr(registration, "_HANDSHAKE_S", 0.2)
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(address)
        listener.listen(0)
        waiting.enter_context(registration.connect(address))
        with pytest.raises(BatchBroken, match="busy"):
            registration.connect(address)


def test_many_clients_at_once() -> None:
    """However many come before the first has said who it is, none is sent away."""
    batch = f.changed_batch("import alamo.manager.door as d; d.NEW_S = 20.0")
    with f.ended(batch), ExitStack() as stack:
        clients = [stack.enter_context(Stranger(address_of(batch))) for _ in range(200)]
        for client in clients:
            client.sock.sendall(encode(client.hello(secret_of(batch))))
            assert isinstance(client.next(), msg.Welcome)


#: Works in a directory, and imports from one, whose name is no UTF-8.
ODD = """
import os, sys
import _faults as f
from alamo import Batch
if __name__ == "__main__":
    os.chdir(os.fsencode(sys.argv[1]))
    sys.path.insert(0, os.getcwd())
    import odd_module
    with Batch(num_workers=1) as batch:
        assert batch.function(os.getcwdb).run() == os.getcwdb()
        assert batch.compile([t := batch.function(os.getcwdb)]).run() and t.get() == os.getcwdb()
        assert batch.function(odd_module.answer).run() == 42
        print("done")
"""


def test_directories_whose_names_are_no_text(tmp_path: Path) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(odd)
    with open(os.path.join(odd, b"odd_module.py"), "w") as file:
        file.write("def answer():\n    return 42\n")
    with f.Script(ODD, os.fsdecode(odd)) as client:
        assert client.line() == "done"
        assert client.wait() == 0


def test_a_runtime_directory_whose_name_is_no_text(tmp_path: Path) -> None:
    code = """
    import os
    from alamo import Batch, UsageError
    try:
        Batch(num_workers=1)
    except UsageError as error:
        print(ascii(str(error)))
    """
    with f.Script(code, env={"ALAMO_RUNTIME_DIR": os.fsdecode(b"/tmp/caf\xe9")}) as client:
        assert "ALAMO_RUNTIME_DIR" in client.line()


def test_a_log_record_that_is_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """The manager goes on, whatever it has to log."""
    batch = f.changed_batch(
        "import logging, alamo.manager.service as s; start = s.Service.open_program; "
        "s.Service.open_program = lambda self, *a: (logging.getLogger('alamo.manager')"
        ".critical('odd %s', chr(0xdce9)), start(self, *a))[1]"
    )
    with f.ended(batch):
        assert batch.function(f.double, 4).run(timeout=f.PATIENCE_S) == 8
    assert "odd \\udce9" in caplog.text
